"""Planted: a state takes records again whose offsets it has taken before."""

from __future__ import annotations

import sys

import numpy as np

from services.scoring import main
from services.scoring.cache import StateCache
from services.scoring.state import Ints, Rows
from tests.faults.planted.plant import plant


def offset_of(cache: StateCache, slots: Rows) -> Ints:
    return np.full(len(slots), -1, dtype=np.int64)


if __name__ == "__main__":
    plant(StateCache, "offset_of", offset_of)
    sys.exit(main.main())
