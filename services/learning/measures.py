"""How good probabilities are: ranking, error, calibration. Labels are 1 for leaving."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt
from numpy.random import Generator
from pydantic import BaseModel, ConfigDict
from scipy.stats import rankdata

Floats = npt.NDArray[np.float64]

Draws = Callable[[], Generator]
"""Begins the same random numbers anew at each call."""

BINS: Final = 10
SURE: Final = 1e-6
"""No probability here is nearer to 0 or 1."""


class Quality(BaseModel):
    """Of n predictions: share of leavers, AUC (0.5 if only one outcome was seen), Brier, ECE over deciles, log-loss."""

    model_config = ConfigDict(frozen=True)

    n: int
    left: float
    auc: float
    brier: float
    ece: float
    log_loss: float


def auc(label: Floats, chance: Floats) -> float:
    """P(a leaver has the higher chance than a stayer), ties half: the rank sum."""
    left = float(label.sum())
    stayed = len(label) - left
    if not left or not stayed:
        return 0.5
    return float((rankdata(chance)[label > 0].sum() - left * (left + 1) / 2) / (left * stayed))


def ece(label: Floats, chance: Floats) -> float:
    """Mean over tenths of customers, by chance, of |share that left - mean chance|."""
    order = np.argsort(chance, kind="stable")
    return float(
        sum(
            len(part) / len(label) * abs(label[part].mean() - chance[part].mean())
            for part in np.array_split(order, BINS)
            if len(part)
        )
    )


def losses(label: Floats, log_odds: Floats) -> Floats:
    """-ln of the chance given to what happened, per prediction."""
    return np.asarray(np.logaddexp(0.0, log_odds) - label * log_odds)


def quality(label: Floats, log_odds: Floats) -> Quality:
    """All measures of one set of predictions (at least one)."""
    chance = np.clip(1.0 / (1.0 + np.exp(-log_odds)), SURE, 1.0 - SURE)
    return Quality(
        n=len(label),
        left=float(label.mean()),
        auc=auc(label, chance),
        brier=float(np.mean((chance - label) ** 2)),
        ece=ece(label, chance),
        log_loss=float(losses(label, log_odds).mean()),
    )


class Interval(BaseModel):
    """A mean with the 5th and 95th percentile of its bootstrap over customers."""

    model_config = ConfigDict(frozen=True)

    mean: float
    low: float
    high: float


def bootstrap(gain: Floats, customer: npt.NDArray[np.int64], draws: Draws, rounds: int = 400) -> Interval:
    """Interval of the mean gain; whole customers are drawn, so several rows of one count once."""
    _, of = np.unique(customer, return_inverse=True)
    total, rows = np.bincount(of, gain), np.bincount(of).astype(np.float64)
    random = draws()
    means = np.empty(rounds)
    for i in range(rounds):
        drawn = np.bincount(random.integers(0, len(total), len(total)), minlength=len(total))
        means[i] = (drawn @ total) / (drawn @ rows)
    low, high = np.percentile(means, [5.0, 95.0])
    return Interval(mean=float(gain.mean()), low=float(low), high=float(high))
