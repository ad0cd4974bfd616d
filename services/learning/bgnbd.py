"""BG/NBD and MBG/NBD: who is still coming, and how often, from the days on which customers came.

While alive, a customer comes at random times at a rate of their own (gamma distributed over customers: shape r, rate
alpha); after each coming they leave for good with a probability of their own (beta distributed: a, b). In BG/NBD
(Fader, Hardie, Lee: "Counting your customers" the easy way, Marketing Science 24, 2005) nobody leaves right after the
first coming; in MBG/NBD (Batislam, Denizel, Filiztekin: Empirical validation and comparison of models for customer
base analysis, International Journal of Research in Marketing 24, 2007) they may.

A history is x repeat days, the last of them t_x days after the first, watched for T days. Its likelihood:

    Gamma(r + x) / Gamma(r)  alpha^r  [ B(a, b + x + k) / B(a, b)  (alpha + T)^-(r + x)
                                      + B(a + 1, b + x - 1 + k) / B(a, b)  (alpha + t_x)^-(r + x) ]

with k = 0 and the second part only for x > 0 (BG/NBD), or k = 1 (MBG/NBD). Times are days. All is worked out in
logarithms, so histories of 100,000 comings are as good as any.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import betaln, gammaln, psi

from services.learning.errors import TooLittle

Floats = npt.NDArray[np.float64]
Variant = Literal["bg", "mbg"]
VARIANTS: Final[tuple[Variant, ...]] = ("bg", "mbg")

_PRIOR_SD: Final = 3.0
"""Spread of a weak prior on the logarithms of the parameters, worth one customer: keeps them finite when nobody ever
leaves or comes again, and vanishes among many customers."""
MOST_HISTORIES: Final = 30_000
_BOUND: Final = 12.0
"""Parameters stay within e^-12 .. e^12 of their unit."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Fitted parameters; ``alpha`` in days."""

    variant: Variant
    r: float
    alpha: float
    a: float
    b: float


@dataclass(frozen=True, slots=True)
class Histories:
    """n customers: repeat days ``x``, day of the last one after the first ``tx_days``, days watched ``age_days``."""

    x: Floats
    tx_days: Floats
    age_days: Floats

    def __len__(self) -> int:
        return len(self.x)


def log_likelihood(rates: Rates, histories: Histories) -> Floats:
    """ln of the likelihood of each history."""
    r, alpha, a, b = rates.r, rates.alpha, rates.a, rates.b
    x = histories.x
    k = 1.0 if rates.variant == "mbg" else 0.0
    coming = gammaln(r + x) - gammaln(r) + r * np.log(alpha)
    alive = betaln(a, b + x + k) - betaln(a, b) - (r + x) * np.log(alpha + histories.age_days)
    left = (
        betaln(a + 1.0, np.maximum(b + x - 1.0 + k, 1e-12)) - betaln(a, b) - (r + x) * np.log(alpha + histories.tx_days)
    )
    if rates.variant == "bg":
        left = np.where(x > 0, left, -np.inf)
    return np.asarray(coming + np.logaddexp(alive, left))


def _objective(
    logs: Floats, start: Floats, variant: Variant, xs: Floats, at: npt.NDArray[np.intp], rows: Floats, weight: Floats
) -> tuple[float, Floats]:
    """Mean negative log-likelihood with the prior, and its gradient by the logarithms of the parameters.

    ``xs``: the distinct x; ``at``: which of them each row has; ``rows``: (n, 2) t_x and T.
    """
    r, alpha, a, b = np.exp(logs)
    k = 1.0 if variant == "mbg" else 0.0
    bx = np.maximum(b + xs - 1.0 + k, 1e-12)
    x = xs[at]
    log_seen, log_until = np.log(alpha + rows[:, 1]), np.log(alpha + rows[:, 0])
    coming = (gammaln(r + xs) - gammaln(r))[at] + r * np.log(alpha)
    beta = betaln(a, b)
    alive = (betaln(a, b + xs + k) - beta)[at] - (r + x) * log_seen
    left = (betaln(a + 1.0, bx) - beta)[at] - (r + x) * log_until
    if k == 0.0:
        left = np.where(x > 0, left, -np.inf)
    either = np.logaddexp(alive, left)
    total = weight.sum()
    off = (logs - start) / _PRIOR_SD
    value = -(weight @ (coming + either)) / total + 0.5 * (off @ off) / total
    gone = np.exp(left - either)
    stay = 1.0 - gone
    both = psi(a + b)
    pn = psi(a + b + xs + k)[at]
    dr = (psi(r + xs) - psi(r))[at] + np.log(alpha) - stay * log_seen - gone * log_until
    dalpha = r / alpha - (r + x) * (stay / (alpha + rows[:, 1]) + gone / (alpha + rows[:, 0]))
    da = both + gone / a - pn  # psi(a + 1) - psi(a) = 1 / a
    db = both - psi(b) + stay * psi(b + xs + k)[at] + gone * psi(bx)[at] - pn
    slope = np.array([weight @ dr * r, weight @ dalpha * alpha, weight @ da * a, weight @ db * b])
    return float(value), -slope / total + off / _PRIOR_SD / total


def fit(histories: Histories, variant: Variant) -> Rates:
    """Maximum likelihood (L-BFGS-B with exact gradients, over distinct histories weighted by their number).

    Of more than `MOST_HISTORIES`, evenly spaced ones are taken: four numbers need no more. Raises `TooLittle` without
    any customer watched for some time.
    """
    stacked = np.column_stack([histories.x, histories.tx_days, histories.age_days])
    stacked = stacked[stacked[:, 2] > 0]
    if not len(stacked):
        raise TooLittle("no customer has been watched for a day: wait for more history before fitting")
    if len(stacked) > MOST_HISTORIES:
        stacked = stacked[np.linspace(0, len(stacked) - 1, MOST_HISTORIES).astype(np.intp)]
    distinct, weight = np.unique(stacked, axis=0, return_counts=True)
    xs, at = np.unique(distinct[:, 0], return_inverse=True)
    mean_age = float(np.average(distinct[:, 2], weights=weight))
    start = np.log([0.7, max(mean_age * 0.3, 1.0), 0.7, 2.0])
    best = minimize(
        _objective,
        start,
        args=(start, variant, xs, at.ravel(), distinct[:, 1:], weight.astype(np.float64)),
        jac=True,
        method="L-BFGS-B",
        bounds=[(-_BOUND, _BOUND)] * 4,
    )
    r, alpha, a, b = (float(value) for value in np.exp(best.x))
    return Rates(variant, r, alpha, a, b)


def log_odds_none(rates: Rates, histories: Histories, horizon_days: float) -> Floats:
    """Log-odds of no coming in the next ``horizon_days``.

    Given alive at T, the rate is Gamma(r + x, alpha + T), and leaving can only follow a coming; so

        P(none in H) = 1 - P(alive) (1 - ((alpha + T) / (alpha + T + H))^(r + x)).

    In logarithms throughout: exact where the chance itself would round to 0 or 1.
    """
    x = histories.x
    shape = rates.r + x
    grown = np.log(rates.alpha + histories.age_days)
    silent = shape * (grown - np.log(rates.alpha + histories.age_days + horizon_days))
    k = 1.0 if rates.variant == "mbg" else 0.0
    gone = (
        np.log(rates.a)
        - np.log(np.maximum(rates.b + x - 1.0 + k, 1e-12))
        + shape * (grown - np.log(rates.alpha + histories.tx_days))
    )
    if k == 0.0:
        gone = np.where(x > 0, gone, -np.inf)
    # odds = (left + alive silent) / (alive (1 - silent)), and left / alive = e^gone
    return np.asarray(np.logaddexp(gone, silent) - np.log(-np.expm1(silent)))
