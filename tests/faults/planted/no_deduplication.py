"""Planted: every event is taken for new."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import numpy.typing as npt

from services.scoring import core, main
from services.scoring.state import Rows, Sets, States
from tests.faults.planted.plant import plant


def candidates(states: States, row: Rows, keys: Sets, *more: Any) -> npt.NDArray[np.bool_]:
    return np.zeros(len(keys), dtype=bool)


if __name__ == "__main__":
    plant(core, "candidates", candidates)
    sys.exit(main.main())
