"""What was felt by each customer as of any moment, worked out of stored events by the stream's own fold.

For learning: a fit asks for the same facts at several earlier dates. Pure.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from schemas.decode import KIND_TYPE
from schemas.kinds import FAMILIES, Family
from schemas.tables import DIMENSIONS
from services.scoring.events import Events, case_hashes, negative_feedback
from services.scoring.expressions import Arrays
from services.scoring.fold import activity_codes, fold
from services.scoring.judge import columns
from services.scoring.readings import Readings
from services.scoring.risk.features import facts, features
from services.scoring.risk.model import DEFAULT
from services.scoring.score import score
from services.scoring.state import States, Vocabulary

NEEDED: Final = (
    "customer_id",
    "occurred_at",
    "kind",
    "case_id",
    *(f"{dimension}_{part}" for dimension in DIMENSIONS for part in ("valence", "weight")),
)
"""Columns of the events: as in table ``touchpoints``, ``occurred_at`` in UTC microseconds."""
_OURS: Final = FAMILIES[Family.INTERNAL]
FELT_FACTS: Final = (
    "score",
    "trend",
    "volatility",
    "worst",
    "open_complaints",
    "complaint_days",
    "feedback_unanswered",
    "survey_load",
)


def experience_at(events: pl.DataFrame, as_of_us: int) -> pl.DataFrame:
    """One row per customer with an event before ``as_of_us``: customer_id and `FELT_FACTS` as of that moment.

    ``events``: `NEEDED`. Scores 0..100, ages in days, ``feedback_unanswered`` fading from 1; events from the moment on
    do not count.
    """
    past = events.select(NEEDED).filter(pl.col("occurred_at") < as_of_us, ~pl.col("kind").cast(pl.String).is_in(_OURS))
    past = past.sort("customer_id", "occurred_at", maintain_order=True)
    customers = past.get_column("customer_id").unique(maintain_order=True)
    row = past.get_column("customer_id").rle_id().to_numpy().astype(np.intp)
    states = States.empty(len(customers))
    if len(past):
        fold(states, _events(past, row), activity_codes(DEFAULT.activity_kinds), Vocabulary())
    o, now = Arrays(), np.full(len(customers), float(as_of_us))
    by_name = columns(states)
    measured = score(o, by_name, now)
    known = facts(o, by_name, DEFAULT.parameters(), now)
    values = features(o, by_name, known, measured, now)
    found = {name: np.asarray(values[name]()) for name in FELT_FACTS}
    found["complaint_days"] = np.where(by_name["open_complaints"] > 0, known.complaint_days, 0.0)
    return pl.DataFrame({"customer_id": customers, **found})


def _events(past: pl.DataFrame, row: npt.NDArray[np.intp]) -> Events:
    def matrix(part: str) -> npt.NDArray[np.float64]:
        names = [f"{dimension}_{part}" for dimension in DIMENSIONS]
        return past.select(pl.col(names).cast(pl.Float64).fill_null(0.0).fill_nan(0.0)).to_numpy()

    readings = Readings(matrix("valence"), matrix("weight"))
    kind = past.get_column("kind").cast(pl.String).cast(KIND_TYPE).to_physical().cast(pl.UInt8).to_numpy()
    occurred = past.get_column("occurred_at").to_numpy()
    return Events(
        row=row,
        offset=np.arange(len(past), dtype=np.int64),
        occurred_us=occurred,
        received_us=occurred,
        kind=kind,
        # Names only decide between moments that are equal otherwise, and no fact asks which of these it was.
        touchpoint=np.zeros(len(past), dtype=np.int64),
        readings=readings,
        amount_micros=np.zeros(len(past), dtype=np.int64),
        negative_feedback=negative_feedback(kind, readings),
        case_hash=case_hashes(past.with_columns(pl.col("case_id").cast(pl.String)), kind),
    )
