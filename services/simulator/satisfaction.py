"""The hidden feeling that touchpoints move, and the leaving it leads to."""

from __future__ import annotations

import math
from typing import Final

RELAXATION_DAYS: Final = 75.0
"""Time in which two thirds of an impression fade back to the customer's baseline."""
IMPRESSION: Final = 0.17
"""Share of the way to its valence that a touchpoint of weight 1 moves the feeling."""
BAD_IS_STRONGER: Final = 1.9

LEAVING: Final = 0.006
"""Probability of leaving after a touchpoint of weight 1 in a neutral feeling."""
LEAVING_STEEPNESS: Final = 3.2
"""In log-odds for one unit of feeling."""
MAX_LEAVING: Final = 0.6

MOMENTS_OF_TRUTH: Final = {
    "complaint_badly_handled": 9.0,
    "complaint_ignored": 9.0,
    "billing_error": 6.0,
    "late_delivery": 3.5,
    "outage": 2.0,
}
"""By how much these multiply the probability of leaving; any other bad experience does not."""


class Satisfaction:
    """Satisfaction in [-1, 1] as of the last touchpoint; decays to the baseline by the clock."""

    __slots__ = ("_at_day", "_baseline", "_sensitivity", "_value")

    def __init__(self, baseline: float, sensitivity: float, at_day: float) -> None:
        self._baseline = baseline
        self._sensitivity = sensitivity
        self._value = baseline
        self._at_day = at_day

    def at(self, day: float) -> float:
        """The feeling on a day not before the last touchpoint."""
        faded = math.exp(-(day - self._at_day) / RELAXATION_DAYS)
        return self._baseline + (self._value - self._baseline) * faded

    def feel(self, day: float, valence: float, weight: float) -> None:
        """Take in a touchpoint of a valence in [-1, 1]."""
        value = self.at(day)
        distance = valence - value
        rate = IMPRESSION * self._sensitivity * weight * (BAD_IS_STRONGER if distance < 0 else 1.0)
        self._value = value + min(0.9, rate) * distance
        self._at_day = day

    def leaving_probability(self, valence: float, weight: float, cause: str) -> float:
        """How likely the customer leaves over the touchpoint just felt; nobody leaves over a good one."""
        if valence >= 0:
            return 0.0
        odds = LEAVING * weight * math.exp(-LEAVING_STEEPNESS * self._value) * MOMENTS_OF_TRUTH.get(cause, 1.0)
        return min(MAX_LEAVING, odds * self._sensitivity)
