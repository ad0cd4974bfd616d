"""Rows in, judged rows out, without files or Kafka."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import polars as pl
import pytest

from services.importer.judge import Judged, judge, to_events
from services.importer.mapping import check_columns, load_mapping
from services.importer.plan import make_plan

NOW_US = 1_772_000_000_000_000

BASE = """
dataset = "test"
[fields]
customer_id = "who"
occurred_at = "at"
kind = { constant = "interaction" }
touchpoint = { constant = "shop" }
event_id = "id"
"""


@pytest.fixture
def events_of() -> Callable[..., list[dict[str, Any] | None]]:
    """Events that a mapping makes of a frame's rows."""

    def run(mapping_text: str, columns: dict[str, Any]) -> list[dict[str, Any] | None]:
        frame = with_basics(columns)
        mapping = load_mapping(mapping_text, "m.toml")
        check_columns(mapping, frame.columns, "m.toml", "f.csv")
        return to_events(make_plan(mapping, dict(frame.schema), "m.toml").apply(frame))

    return run


@pytest.fixture
def judged(events_of: Callable[..., list[dict[str, Any] | None]]) -> Callable[..., Judged]:
    """What the contract says to a frame's rows under a mapping."""

    def run(mapping_text: str, columns: dict[str, Any]) -> Judged:
        events = events_of(mapping_text, columns)
        return judge(events, range(1, len(events) + 1), NOW_US)

    return run


def with_basics(columns: dict[str, Any]) -> pl.DataFrame:
    rows = len(next(iter(columns.values())))
    basics = {
        "who": [f"c{row}" for row in range(rows)],
        "at": ["2025-03-01T10:00:00Z"] * rows,
        "id": [f"e{row}" for row in range(rows)],
    }
    return pl.DataFrame({**basics, **columns})
