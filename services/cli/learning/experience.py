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
    return experience_at if happened else None
