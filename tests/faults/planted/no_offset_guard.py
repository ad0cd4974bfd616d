"""Planted: a state takes records again whose offsets it has taken before.

Positions are committed more seldom too, which harms nobody who has the guard: then a kill finds states that are written
and not committed at any moment, and not only in the half second between the two.
"""

from __future__ import annotations

import functools
import sys

import numpy as np

from services.scoring import main
from services.scoring.cache import StateCache
from services.scoring.record_batches.app import StreamOptions
from services.scoring.state import Ints, Rows
from tests.faults.planted.plant import plant


def offset_of(cache: StateCache, slots: Rows) -> Ints:
    return np.full(len(slots), -1, dtype=np.int64)


if __name__ == "__main__":
    plant(main, "StreamOptions", functools.partial(StreamOptions, commit_interval_s=5.0))
    plant(StateCache, "offset_of", offset_of)
    sys.exit(main.main())
