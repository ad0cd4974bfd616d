"""Survey metrics with their closed scales."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Scale:
    """A rating scale; both ends are inclusive. ``whole`` ratings are integers."""

    low: float
    high: float
    whole: bool


METRICS: Final[dict[str, Scale]] = {
    "nps": Scale(0, 10, True),
    "csat": Scale(1, 5, True),
    "ces": Scale(1, 7, True),
    "stars": Scale(1, 5, False),
    "sentiment": Scale(-1, 1, False),
}
"""``ces``: 7 means "it was very easy" (the CES 2.0 wording of Dixon, Toman and DeLisi)."""
