"""Logistic regression around given log-odds, held back towards them: what evidence adds to a base.

    log-odds = offset + X c,   minimising  sum of log-losses + 1/2 sum penalty_j c_j^2

With all coefficients 0 the base speaks alone. The penalty is a normal prior on the coefficients.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit

Floats = npt.NDArray[np.float64]


def fit(x: Floats, label: Floats, offset: Floats, penalty: Floats, start: Floats | None = None) -> Floats:
    """The coefficients; ``penalty`` per column, positive, which makes the optimum unique. Newton in a trust region."""

    def objective(c: Floats) -> tuple[float, Floats]:
        log_odds = offset + x @ c
        value = (np.logaddexp(0.0, log_odds) - label * log_odds).sum() + 0.5 * (penalty * c) @ c
        return float(value) / len(label), (x.T @ (expit(log_odds) - label) + penalty * c) / len(label)

    def curvature(c: Floats) -> Floats:
        chance = expit(offset + x @ c)
        return np.asarray(((x.T * (chance * (1.0 - chance))) @ x + np.diag(penalty)) / len(label))

    at = np.zeros(x.shape[1]) if start is None else start
    found = minimize(
        objective, at, jac=True, hess=curvature, method="trust-exact", options={"gtol": 1e-7, "maxiter": 100}
    )
    return np.asarray(found.x)
