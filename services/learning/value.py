"""What a customer is expected to spend within the horizon: comings expected times worth of a coming.

Comings: with B = P(alive) and the rate's posterior Gamma(r + x, alpha + T), comings within H while nobody left would be
B (r + x) / (alpha + T) H. Leaving after a coming, with mean chance a / (a + b + x + k) each, makes the expected number
concave: n comings are reached with (1 - leave)^n, so the number is (1 - (1 - leave)^m) / leave of m unhindered ones.
With the mean chance in place of everybody's own it is a little too high, by about a fifth for who has just come first.

Worth: gamma-gamma (Fader, Hardie: The gamma-gamma model of monetary value, 2013). Amounts of one customer are
Gamma(p, nu), nu is Gamma(q, gamma) over customers, so that of x amounts with mean m

    E(worth) = p (gamma + x m) / (p x + q - 1),

the customer's own mean drawn to everybody's, less so the more is known. Amounts are taken where they are positive.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field
from scipy.optimize import minimize
from scipy.special import expit, gammaln

from services.learning.bgnbd import Histories, Rates
from services.learning.errors import TooLittle

Floats = npt.NDArray[np.float64]

LEAST_CUSTOMERS = 20
"""With positive amounts; fewer teach no spread of worth."""


class Worth(BaseModel):
    """Gamma-gamma parameters; ``gamma`` in units of money. ``q`` is above 1, so that the mean exists."""

    model_config = ConfigDict(frozen=True)

    p: float = Field(gt=0)
    q: float = Field(gt=1)
    gamma: float = Field(gt=0)


def fit(comings: Floats, mean_amount: Floats) -> Worth:
    """Maximum likelihood from customers with positive mean amounts over their ``comings`` (at least one).

    Raises `TooLittle` with fewer than `LEAST_CUSTOMERS` such customers.
    """
    good = (comings > 0) & (mean_amount > 0) & np.isfinite(mean_amount)
    x, m = comings[good], mean_amount[good]
    if len(x) < LEAST_CUSTOMERS:
        raise TooLittle(f"only {len(x)} customers with amounts: value needs at least {LEAST_CUSTOMERS}")
    unit = float(np.median(m))
    m = m / unit

    def objective(logs: Floats) -> float:
        p, q, gamma = np.exp(logs[0]), 1.0 + np.exp(logs[1]), np.exp(logs[2])
        likelihood = (
            gammaln(p * x + q)
            - gammaln(p * x)
            - gammaln(q)
            + q * np.log(gamma)
            + (p * x - 1.0) * np.log(m)
            + p * x * np.log(x)
            - (p * x + q) * np.log(gamma + m * x)
        )
        # A prior worth one customer keeps the parameters finite when all amounts are equal.
        return float(-likelihood.sum() + (logs @ logs) / 18.0) / len(x)

    found = minimize(objective, np.log([2.0, 2.0, 2.0]), method="L-BFGS-B", bounds=[(-8.0, 8.0)] * 3)
    p, q, gamma = np.exp(found.x[0]), 1.0 + np.exp(found.x[1]), np.exp(found.x[2])
    return Worth(p=float(p), q=float(q), gamma=float(gamma) * unit)


def worth(model: Worth, comings: Floats, mean_amount: Floats) -> Floats:
    """Expected worth of the next coming; everybody's mean where there is no positive amount."""
    x = np.where((mean_amount > 0) & np.isfinite(mean_amount), comings, 0.0)
    m = np.where(x > 0, mean_amount, 0.0)
    return np.asarray(model.p * (model.gamma + x * m) / (model.p * x + model.q - 1.0))


def expected_comings(rates: Rates, histories: Histories, horizon_days: float) -> Floats:
    """Expected number of days with a coming in the next ``horizon_days``."""
    x = histories.x
    k = 1.0 if rates.variant == "mbg" else 0.0
    shape = rates.r + x
    gone = (
        np.log(rates.a)
        - np.log(np.maximum(rates.b + x - 1.0 + k, 1e-12))
        + shape * (np.log(rates.alpha + histories.age_days) - np.log(rates.alpha + histories.tx_days))
    )
    alive = expit(-gone) if k else np.where(x > 0, expit(-gone), 1.0)
    unhindered = shape / (rates.alpha + histories.age_days) * horizon_days
    leaving = rates.a / (rates.a + rates.b + x + k)
    return np.asarray(alive * -np.expm1(unhindered * np.log1p(-leaving)) / leaving)


def at_risk(risk: Floats, rates: Rates, histories: Histories, expected_worth: Floats, horizon_days: float) -> Floats:
    """What leaving would cost: risk x what the customer spends in a horizon while alive, in units of money."""
    x = histories.x
    unhindered = (rates.r + x) / (rates.alpha + histories.age_days) * horizon_days
    return np.asarray(risk * unhindered * expected_worth)
