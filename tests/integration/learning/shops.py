"""Shops whose truth is known, stored as events, and the command ``touchstone`` beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from infra.clickhouse.client import ClickHouse
from infra.clickhouse.events import write_events
from infra.clickhouse.states import StateRows, save
from schemas.decode import COLUMNS
from services.scoring import readings
from services.scoring.events import prepare
from services.scoring.fold import activity_codes, fold
from services.scoring.state import States, Vocabulary

DAY_US = 86_400_000_000
FIRST_DAY = 19_000
"""2022-01-08."""

Row = tuple[str, float, str, float | None]
"""Customer, days since 1970, kind, amount."""


def shop(customers: int = 300, days: int = 300, seed: int = 1) -> pl.DataFrame:
    """Purchases of customers who come at their own rates and leave for good with their own chances."""
    random = np.random.default_rng(seed)
    rows = []
    for customer in range(customers):
        rate, leaving = random.gamma(1.0, 1 / 20), random.beta(0.7, 4.0)
        at = float(random.uniform(0, days * 0.7))
        while at < days:
            rows.append((f"c{customer:04}", FIRST_DAY + at, "purchase", float(random.gamma(2.0, 20.0))))
            if random.random() < leaving:
                break
            at += float(random.exponential(1 / rate))
    return frame(rows)


def frame(rows: Sequence[Row]) -> pl.DataFrame:
    """Decoded events, `schemas.decode.COLUMNS`."""
    told = pl.DataFrame(rows, schema=["customer_id", "day", "kind", "amount"], orient="row")
    at = (pl.col("day") * DAY_US).round().cast(pl.Int64)
    given = {
        "event_id": pl.Series([number.to_bytes(16, "big") for number in range(len(rows))], dtype=pl.Binary),
        "customer_id": pl.col("customer_id"),
        "occurred_at": at,
        "received_at": at,
        "source": pl.lit("shop"),
        "kind": pl.col("kind"),
        "touchpoint": pl.lit("store"),
        "channel": pl.lit(""),
        "amount_micros": (pl.col("amount").cast(pl.Float64) * 1_000_000).round(),
        "currency": pl.when(pl.col("amount").is_not_null()).then(pl.lit("EUR")),
        "metric": pl.when(pl.col("kind") == "survey_response").then(pl.lit("csat")),
        "rating": pl.when(pl.col("kind") == "survey_response").then(pl.lit(1.0)),
        "attributes": pl.Series([{}], dtype=COLUMNS["attributes"]).new_from_index(0, len(rows)),
    }
    return told.select(
        (given[name] if name in given else pl.lit(None)).cast(dtype).alias(name) for name, dtype in COLUMNS.items()
    )


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended, and what it said where."""

    code: int
    out: str
    err: str


@dataclass(frozen=True, slots=True)
class Deployment:
    """A table of events, and the command."""

    client: ClickHouse
    folder: Path
    run: Callable[..., Done]

    def store(self, events: pl.DataFrame) -> None:
        felt = readings.read_frame(readings.shipped(), events)
        at = np.arange(events.height, dtype=np.int64)
        write_events(self.client, events, felt.valence.astype(np.float32), felt.weight.astype(np.float32), 0, at)

    def fold(self, events: pl.DataFrame, kinds: tuple[str, ...]) -> None:
        """What the stream would have made of these events of few customers: their states."""
        customers = sorted(set(events["customer_id"]))
        events = events.sort("customer_id", "occurred_at")
        row = events["customer_id"].rle_id().cast(pl.Int64).to_numpy().astype(np.intp)
        touchpoints, states = Vocabulary(), States.empty(len(customers))
        prepared = prepare(events, row, np.arange(events.height, dtype=np.int64), readings.shipped(), touchpoints)
        fold(states, prepared, activity_codes(kinds), touchpoints)
        sets = (states.activity_days, states.cases, states.recent_ids)
        save(self.client, StateRows(customers, states.floats, states.ints, *sets, touchpoints.names, [""]))
