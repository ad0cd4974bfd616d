"""What was felt by each customer as of any moment, and what the stream says of it: stored events through its own fold.

For learning: a fit asks for the same facts at several earlier dates, and its report for sentences. Pure.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from schemas.decode import KIND_TYPE
from schemas.kinds import FAMILIES, KINDS, Family
from schemas.scalars import MICROS
from schemas.tables import DIMENSIONS
from services.scoring.events import Events, case_hashes, negative_feedback
from services.scoring.expressions import Arrays
from services.scoring.fold import MONEY_SIGN, activity_codes, fold
from services.scoring.judge import assess, columns, grounds
from services.scoring.readings import Readings
from services.scoring.risk.features import facts, features
from services.scoring.risk.model import DEFAULT, RiskModel
from services.scoring.risk.words import sentences
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
UNFELT: Final = ("complaint_opened", "complaint_resolved", "follow_up", "survey_sent")
"""Kinds whose events matter to these facts even if nothing was felt in them; of others those do that were felt."""


def experience_at(events: pl.DataFrame, as_of_us: int) -> pl.DataFrame:
    """One row per customer with an event before ``as_of_us``: customer_id and `FELT_FACTS` as of that moment.

    ``events``: `NEEDED`. Scores 0..100, ages in days, ``feedback_unanswered`` fading from 1; events from the moment on
    do not count.
    """
    past = _before(events.select(NEEDED), as_of_us)
    customers = _customers(past)
    # What says nothing would be folded into nothing, and is most of many histories.
    felt = pl.any_horizontal(pl.col(f"{dimension}_weight") > 0.0 for dimension in DIMENSIONS)
    past = past.filter(felt | pl.col("kind").cast(pl.String).is_in(UNFELT))
    states = _folded(past, customers, DEFAULT.activity_kinds, Vocabulary())
    o, now = Arrays(), np.full(len(customers), float(as_of_us))
    by_name = columns(states)
    measured = score(o, by_name, now)
    known = facts(o, by_name, DEFAULT.parameters(), now)
    values = features(o, by_name, known, measured, now)
    found = {name: np.asarray(values[name]()) for name in FELT_FACTS}
    found["complaint_days"] = np.where(by_name["open_complaints"] > 0, known.complaint_days, 0.0)
    return pl.DataFrame({"customer_id": customers, **found})


def sentences_at(events: pl.DataFrame, as_of_us: int, model: RiskModel) -> pl.DataFrame:
    """One row per customer with an event before ``as_of_us``: customer_id, and by each of `risk.features.TERMS` the
    sentence that the stream would say of it at that moment.

    ``events``: `NEEDED`, touchpoint, and amount (currency units, refunds negative, null where there is no money). Meant
    for few customers.
    """
    names = Vocabulary()
    past = _before(events.select(*NEEDED, "touchpoint", "amount"), as_of_us)
    customers = _customers(past)
    states = _folded(past, customers, model.activity_kinds, names)
    at_us = np.full(len(customers), as_of_us, dtype=np.int64)
    measured, judged = assess(states, at_us, model)
    said = sentences(grounds(states, np.arange(len(customers)), at_us, measured, judged, model, names))
    return said.insert_column(0, customers.cast(pl.String).alias("customer_id"))


def _before(events: pl.DataFrame, as_of_us: int) -> pl.DataFrame:
    return events.filter(pl.col("occurred_at") < as_of_us, ~pl.col("kind").cast(pl.String).is_in(_OURS))


def _customers(past: pl.DataFrame) -> pl.Series:
    """All of them, ascending."""
    return past.get_column("customer_id").unique().sort()


def _folded(past: pl.DataFrame, customers: pl.Series, activity_kinds: tuple[str, ...], names: Vocabulary) -> States:
    """The states of customers, by their events. What ``past`` does not have of touchpoint and amount is left out."""
    states = States.empty(len(customers))
    if len(past):
        place = pl.DataFrame({"customer_id": customers}).with_row_index("row")
        past = past.join(place, on="customer_id", how="left", maintain_order="left").sort(
            "row", "occurred_at", maintain_order=True
        )
        row = past.get_column("row").to_numpy().astype(np.intp)
        fold(states, _events(past, row, names), activity_codes(activity_kinds), names)
    return states


def _events(past: pl.DataFrame, row: npt.NDArray[np.intp], names: Vocabulary) -> Events:
    def matrix(part: str) -> npt.NDArray[np.float64]:
        columns_of = [f"{dimension}_{part}" for dimension in DIMENSIONS]
        return past.select(pl.col(columns_of).cast(pl.Float64).fill_null(0.0).fill_nan(0.0)).to_numpy()

    readings = Readings(matrix("valence"), matrix("weight"))
    kind = past.get_column("kind").cast(pl.String).cast(KIND_TYPE).to_physical().cast(pl.UInt8).to_numpy()
    occurred = past.get_column("occurred_at").to_numpy()
    # Names only decide between moments that are equal otherwise: no fact asks which of these it was, sentences do.
    touchpoint = np.zeros(len(past), dtype=np.int64)
    if "touchpoint" in past.columns:
        touchpoint = names.codes(past.get_column("touchpoint").cast(pl.String).fill_null("").to_list())
    amount_micros = np.zeros(len(past), dtype=np.int64)
    if "amount" in past.columns:
        # The fold takes the sign from the kind.
        sign = np.array([MONEY_SIGN.get(name, 0) for name in KINDS])[kind]
        amounts = past.get_column("amount").cast(pl.Float64).fill_null(0.0).fill_nan(0.0).to_numpy()
        amount_micros = np.rint(sign * amounts * MICROS).astype(np.int64)
    return Events(
        row=row,
        offset=np.arange(len(past), dtype=np.int64),
        occurred_us=occurred,
        received_us=occurred,
        kind=kind,
        touchpoint=touchpoint,
        readings=readings,
        amount_micros=amount_micros,
        negative_feedback=negative_feedback(kind, readings),
        case_hash=case_hashes(past.with_columns(pl.col("case_id").cast(pl.String)), kind),
    )
