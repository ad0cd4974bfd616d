"""What all customers share: the company's outages, its weeks of trouble, its campaigns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

REGIONS: Final = ("north", "south", "east", "west")

LATE_USUALLY: Final = 0.07
LATE_IN_PEAK: Final = 0.32
"""Share of deliveries that come late."""


@dataclass(frozen=True, slots=True)
class Outage:
    """The app fails in one region for some hours."""

    at_day: float
    region: str
    minutes: int


@dataclass(frozen=True, slots=True)
class Company:
    """Circumstances by day since the start of the simulated window."""

    outages: tuple[Outage, ...]
    peaks: tuple[tuple[float, float], ...]
    """Spans of days in which logistics is overloaded."""
    campaign_days: tuple[float, ...]

    def late_probability(self, day: float) -> float:
        """How likely an order placed on that day is delivered late."""
        return LATE_IN_PEAK if any(start <= day < end for start, end in self.peaks) else LATE_USUALLY


def draw_company(days: float, rng: np.random.Generator) -> Company:
    """A company for a window of ``days`` days: an outage every five weeks, a peak every ten, a campaign a month."""
    outages = tuple(
        Outage(float(day), str(rng.choice(REGIONS)), int(rng.integers(20, 240)))
        for day in np.sort(rng.uniform(0, days, max(1, round(days / 35))))
    )
    starts = np.sort(rng.uniform(0, days, max(1, round(days / 70))))
    return Company(
        outages=outages,
        peaks=tuple((float(start), float(start) + float(rng.uniform(5, 12))) for start in starts),
        campaign_days=tuple(float(day) for day in np.arange(10.0 + rng.uniform(0, 10), days, 30.0)),
    )
