"""Planted: an event that comes more than ten days late is stored, and left out of its customer's state."""

from __future__ import annotations

import sys
from typing import Any, Final

import numpy as np

from services.scoring import core, main
from tests.faults.planted.plant import plant

LATE_US: Final = 10 * 86_400_000_000
_step = core.step  # type: ignore[attr-defined]


def step(states: Any, events: Any, *more: Any) -> Any:
    kept = np.flatnonzero(events.received_us - events.occurred_us <= LATE_US)
    # Nothing folds nothing: where all are late they are taken, and the others show the bug.
    return _step(states, events.select(kept) if kept.size else events, *more)


if __name__ == "__main__":
    plant(core, "step", step)
    sys.exit(main.main())
