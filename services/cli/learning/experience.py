"""What was felt, as facts for learning: by the stream's own fold, where anything was felt at all."""

from __future__ import annotations

from typing import Final

import polars as pl

from schemas.kinds import FAMILIES, Family
from services.cli.learning.history import History
from services.learning.fitting import ExperienceAt
from services.scoring.facts import experience_at

SAYING: Final = (*FAMILIES[Family.EXPERIENCE], *FAMILIES[Family.CONTACT])
"""Kinds of event that some fact of experience is made of."""


def experience_of(history: History) -> ExperienceAt | None:
    """How to work out the facts of a history; None where there is nothing to make them of."""
    happened = history.events.get_column("kind").cast(pl.String).is_in(SAYING).any()
    return Remembered(experience_at) if happened else None


class Remembered:
    """The same facts, worked out once: a fit, the one before it and what judges them ask for some dates again.

    Events are told apart by their number and the sum of their times, so that a frame with later events in it, or with
    some of the customers, is another one.
    """

    def __init__(self, experience: ExperienceAt) -> None:
        self._experience = experience
        self._found: dict[tuple[int, int, int], pl.DataFrame] = {}

    def __call__(self, events: pl.DataFrame, as_of_us: int) -> pl.DataFrame:
        times = events.get_column("occurred_at")
        key = (as_of_us, len(times), int(times.sum()))
        if key not in self._found:
            self._found[key] = self._experience(events, as_of_us)
        return self._found[key]
