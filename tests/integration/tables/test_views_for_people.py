"""The views that need the formulas: who is at risk, the days, one customer's history."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from infra.clickhouse.client import ClickHouse
from infra.clickhouse.events import write_events
from schemas.decode import COLUMNS, decode
from schemas.encode import encode
from schemas.tables import DIMENSIONS
from services.scoring.readings import read_frame, shipped
from services.scoring.story import FeltEvent, tell

pytestmark = pytest.mark.stack

START = datetime(2026, 1, 1, tzinfo=UTC)
DAYS = (0, 3, 3.5, 40, 200)


def _micros(day: float) -> int:
    return round((START + timedelta(days=day)).timestamp()) * 1_000_000


@pytest.fixture
def stored(clickhouse: ClickHouse) -> pl.DataFrame:
    records: list[bytes | None] = [
        encode(
            {
                "event_id": bytes([n]) * 16,
                "customer_id": "ada",
                "occurred_at": _micros(day),
                "received_at": _micros(day) + 1,
                "source": "test",
                "kind": "survey_response",
                "touchpoint": "delivery",
                "metric": "csat",
                "rating": float(1 + n),
                "channel": "",
                "attributes": {},
            }
        )
        for n, day in enumerate(DAYS)
    ]
    frame = decode(records, b"markmark").frame
    readings = read_frame(shipped(), frame)
    write_events(
        clickhouse,
        frame.select(list(COLUMNS)),
        readings.valence.astype(np.float32),
        readings.weight.astype(np.float32),
        0,
        np.arange(len(DAYS), dtype=np.int64),
    )
    return frame


def test_the_history_of_a_customer_is_the_story_told_by_the_fold(clickhouse: ClickHouse, stored: pl.DataFrame) -> None:
    readings = read_frame(shipped(), stored)
    moments = tell(
        [
            FeltEvent(at, tuple(valence), tuple(weight))
            for at, valence, weight in zip(
                stored["occurred_at"].to_list(), readings.valence.tolist(), readings.weight.tolist(), strict=True
            )
        ]
    )
    rows = clickhouse.query("SELECT score, confidence FROM touchstone.score_history(customer = 'ada')")
    assert [score for score, _ in rows] == pytest.approx([moment.score_after for moment in moments], rel=1e-9)
    assert all(0 < confidence < 1 for _, confidence in rows)


def test_a_day_shows_how_it_was_read(clickhouse: ClickHouse, stored: pl.DataFrame) -> None:
    rows = clickhouse.query("SELECT day, events, customers, score, bad_share FROM touchstone.score_by_day")
    assert [(day.day, events) for day, events, *_ in rows][:2] == [(1, 1), (4, 2)]
    readings = read_frame(shipped(), stored)
    first = 50 + 50 * float((readings.valence[0] * readings.weight[0]).sum() / readings.weight[0].sum())
    assert rows[0][3] == pytest.approx(first)
    assert rows[0][4] == 1.0
    assert len(DIMENSIONS) == 3


def test_customers_at_risk_has_the_columns_it_documents(clickhouse: ClickHouse) -> None:
    assert clickhouse.query("SELECT customer_id, risk_band, risk, why FROM touchstone.customers_at_risk") == []
