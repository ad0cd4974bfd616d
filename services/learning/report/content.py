"""What goes into a report: plain results, nothing to be looked up or worked out from events."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from services.learning.drift import Drift
from services.learning.errors import BadHistory
from services.learning.model import LearntModel
from services.learning.moments import Moments

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Customers whose outcome was not learnt from.

    ``label`` (n,): 1 for those who did not come back. ``chances``: by name of a judge, the base first and the model as
    it is used last, each (n,) in 0..1. ``described``: in a sentence, who they are and why they count as held out.
    Raises `BadHistory` where lengths differ, nobody is in it or a chance is none.
    """

    described: str
    label: Floats
    chances: tuple[tuple[str, Floats], ...]

    def __post_init__(self) -> None:
        if not len(self.label) or not self.chances:
            raise BadHistory("held-out results need at least one customer and one judge: leave them out instead")
        if not np.isin(self.label, (0.0, 1.0)).all():
            raise BadHistory("held-out labels must be 1 for leaving or 0")
        for name, chance in self.chances:
            if len(chance) != len(self.label):
                raise BadHistory(f"{name} has {len(chance)} chances for {len(self.label)} held-out customers")
            if not ((chance >= 0.0) & (chance <= 1.0)).all():
                raise BadHistory(f"chances of {name} must be within 0 and 1")

    @property
    def both_outcomes(self) -> bool:
        return 0.0 < float(self.label.mean()) < 1.0


@dataclass(frozen=True, slots=True)
class Example:
    """One customer's risk, made up: ``average`` log-odds and, with their sentences, what the customer adds to them."""

    customer_id: str
    average: float
    contributions: tuple[tuple[str, float], ...]

    @property
    def log_odds(self) -> float:
        return self.average + sum(size for _, size in self.contributions)

    @property
    def risk(self) -> float:
        return float(1.0 / (1.0 + np.exp(-self.log_odds)))

    @property
    def ordered(self) -> tuple[tuple[str, float], ...]:
        """Contributions that say anything, largest first."""
        return tuple(sorted((c for c in self.contributions if c[1] != 0.0), key=lambda c: -abs(c[1])))


@dataclass(frozen=True, slots=True)
class ReportContent:
    """Everything that a report shows. None: was not looked at, and the report says so.

    ``made_at_us``: UTC microseconds. ``currency``: of amounts, if there is only one.
    """

    model: LearntModel
    made_at_us: int
    held_out: HeldOut | None = None
    moments: Moments | None = None
    drift: Drift | None = None
    examples: tuple[Example, ...] = ()
    currency: str = ""
