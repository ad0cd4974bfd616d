"""Like with like: customers at a date, in bins of about equal size by what is known of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

ROWS_A_BIN: Final = 25
MOST_BINS: Final = 12
"""At a date; finer ones do not make customers more alike than a base chance can tell."""


def bins_by_day(day: Ints, by: Sequence[Floats]) -> Ints:
    """Code of each row's bin, from 0: its day, and its place by rank in each of ``by``. Equal values share a bin."""
    each = [MOST_BINS] if len(by) == 1 else [3] + [MOST_BINS // 3] * (len(by) - 1)
    code = np.zeros(len(day), dtype=np.int64)
    for number, at in enumerate(np.unique(day)):
        rows = np.flatnonzero(day == at)
        room = max(1, len(rows) // ROWS_A_BIN)
        here = np.full(len(rows), number, dtype=np.int64)
        for values, most in zip(by, each, strict=True):
            bins = min(most, room)
            room = max(1, room // bins)
            place = np.floor((rankdata(values[rows]) - 0.5) / len(rows) * bins).astype(np.int64)
            here = here * MOST_BINS + np.minimum(place, bins - 1)
        code[rows] = here
    return np.unique(code, return_inverse=True)[1].astype(np.int64)
