"""Predicted chances against what happened, in bins with intervals."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict
from scipy.special import ndtri

from services.learning.measures import BINS

Floats = npt.NDArray[np.float64]

LEVEL: Final = 0.90
"""Of intervals: as everywhere in learning, the 5th to the 95th percentile."""


class Bin(BaseModel):
    """Of n customers with like chances: the mean ``chance``, the share that left, and the interval of that share."""

    model_config = ConfigDict(frozen=True)

    n: int
    chance: float
    observed: float
    low: float
    high: float


def wilson(happened: float, n: int, level: float = LEVEL) -> tuple[float, float]:
    """Interval of a share (Wilson: Probable inference, the law of succession, and statistical inference, Journal of the
    American Statistical Association 22, 1927), of at least one customer. Within 0..1, and never without width."""
    z = float(ndtri(0.5 + level / 2.0))
    share = happened / n
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    reach = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return max(0.0, float(middle - reach)), min(1.0, float(middle + reach))


def reliability(label: Floats, chance: Floats, bins: int = BINS) -> tuple[Bin, ...]:
    """Bins of equal size by chance, lowest first: tenths, as `measures.ece` counts them. Fewer where there are fewer
    customers."""
    order = np.argsort(chance, kind="stable")
    found = []
    for part in np.array_split(order, bins):
        if len(part):
            left = float(label[part].sum())
            low, high = wilson(left, len(part))
            found.append(
                Bin(
                    n=len(part),
                    chance=float(chance[part].mean()),
                    observed=left / len(part),
                    low=low,
                    high=high,
                )
            )
    return tuple(found)
