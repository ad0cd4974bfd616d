"""Exponential decay by half-lives: the one law all sums obey."""

from __future__ import annotations

from typing import Final

import numpy as np

from services.scoring.state import Floats, Ints

DAY_US: Final = 86_400_000_000
FAST_HALF_LIFE_DAYS: Final = 7.0
SLOW_HALF_LIFE_DAYS: Final = 90.0
HALF_LIFE_US: Final[dict[str, float]] = {
    "fast": FAST_HALF_LIFE_DAYS * DAY_US,
    "slow": SLOW_HALF_LIFE_DAYS * DAY_US,
}


def decay(age_us: Ints, half_life_us: float) -> Floats:
    """``2^-(age / half-life)``; a negative age (an event that is newer than the reference) grows."""
    return np.asarray(np.exp2(age_us * (-1.0 / half_life_us)))
