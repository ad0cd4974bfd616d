"""The views for people, against figures worked out by hand."""

from __future__ import annotations

from datetime import UTC, date, datetime

import numpy as np
import polars as pl
import pytest

from infra.clickhouse import events
from infra.clickhouse.client import ClickHouse
from schemas.decode import COLUMNS
from schemas.tables import TOUCHPOINTS

pytestmark = pytest.mark.stack

NOW_US = int(datetime.now(UTC).timestamp() * 1e6)
DAY_US = 86_400_000_000

Row = dict[str, object]


def write(client: ClickHouse, rows: list[Row], felt: list[tuple[float, float]] | None = None) -> None:
    """Events with one (valence, weight) for all three dimensions."""
    base: Row = dict.fromkeys(COLUMNS)
    base |= {"customer_id": "a", "source": "shop", "kind": "interaction", "touchpoint": "desk", "channel": "web"}
    base |= {"attributes": {}, "occurred_at": NOW_US - DAY_US, "received_at": NOW_US}
    full = [{**base, "event_id": bytes([number]) * 16, **row} for number, row in enumerate(rows)]
    readings = np.array(felt or [(0.0, 0.0)] * len(rows), dtype=np.float32)
    valence, weight = (np.repeat(readings[:, [index]], 3, axis=1) for index in (0, 1))
    events.write_events(client, pl.DataFrame(full, schema=COLUMNS), valence, weight, 0, np.arange(len(rows)))


def test_every_event_once_and_no_reviews(clickhouse: ClickHouse) -> None:
    row: Row = {"event_id": b"x" * 16}
    write(clickhouse, [row])
    write(clickhouse, [row, {"kind": "review_due"}])
    assert clickhouse.query("SELECT count() FROM touchstone.touchpoints") == [(3,)]
    assert clickhouse.query("SELECT event_id FROM touchstone.touchpoints_once") == [("x" * 16,)]


def test_the_deduplicated_view_has_every_column_of_the_table(clickhouse: ClickHouse) -> None:
    rows = clickhouse.query(
        "SELECT name, type, comment FROM system.columns WHERE database = 'touchstone' AND table = 'touchpoints_once'"
        " ORDER BY position"
    )
    assert rows == [(column.name, column.type, column.comment) for column in TOUCHPOINTS.columns]


def test_felt_touchpoints(clickhouse: ClickHouse) -> None:
    write(
        clickhouse,
        [
            {"customer_id": "a"},
            {"customer_id": "a"},
            {"customer_id": "b"},
            {"touchpoint": "phone"},
            {"occurred_at": NOW_US - 91 * DAY_US},
        ],
        [(-1.0, 3.0), (0.5, 1.0), (0.0, 0.0), (0.0, 0.0), (-1.0, 9.0)],
    )
    rows = clickhouse.query(
        "SELECT touchpoint, channel, events, customers, felt_events, effectiveness, ease, emotion, bad_share"
        " FROM touchstone.felt_touchpoints ORDER BY touchpoint"
    )
    assert rows == [
        ("desk", "web", 3, 2, 2, -0.625, -0.625, -0.625, 0.5),
        ("phone", "web", 1, 1, 0, None, None, None, None),
    ]


def test_felt_journeys(clickhouse: ClickHouse) -> None:
    claim: Row = {"journey": "claim"}
    write(
        clickhouse,
        [
            claim,
            {**claim, "customer_id": "b"},
            {**claim, "touchpoint": "payout"},
            {"journey": "onboarding"},
            {},
            {**claim, "occurred_at": NOW_US - 91 * DAY_US},
        ],
        [(-1.0, 3.0), (0.5, 1.0), (1.0, 1.0), (0.0, 0.0), (-1.0, 9.0), (-1.0, 9.0)],
    )
    rows = clickhouse.query(
        "SELECT journey, touchpoint, events, customers, felt_events, effectiveness, bad_share"
        " FROM touchstone.felt_journeys ORDER BY journey, touchpoint"
    )
    assert rows == [
        ("claim", "desk", 2, 2, 2, -0.625, 0.5),
        ("claim", "payout", 1, 1, 1, 1.0, 0.0),
        ("onboarding", "desk", 1, 1, 0, None, None),
    ]
    told = clickhouse.query("SELECT DISTINCT journey FROM touchstone.customer_timeline ORDER BY journey")
    assert told == [("",), ("claim",), ("onboarding",)]


def test_customer_timeline(clickhouse: ClickHouse) -> None:
    write(
        clickhouse,
        [{"kind": "purchase", "amount_micros": 12_340_000, "currency": "EUR", "text": "fine"}, {"customer_id": "b"}],
        [(0.5, 2.0), (0.0, 0.0)],
    )
    rows = clickhouse.query(
        "SELECT customer_id, kind, amount, currency, text, valence, weight, event_id"
        " FROM touchstone.customer_timeline ORDER BY customer_id"
    )
    assert rows == [
        ("a", "purchase", 12.34, "EUR", "fine", 0.5, 6.0, "00000000-0000-0000-0000-000000000000"),
        ("b", "interaction", None, "", "", None, 0.0, "01010101-0101-0101-0101-010101010101"),
    ]


def test_nps_csat_ces_by_day(clickhouse: ClickHouse) -> None:
    day_us = NOW_US // DAY_US * DAY_US
    answers = [("nps", 10), ("nps", 9), ("nps", 8), ("nps", 6), ("csat", 4), ("csat", 3), ("ces", 7), ("ces", 4)]
    rows: list[Row] = [
        {"kind": "survey_response", "metric": metric, "rating": float(rating), "occurred_at": day_us}
        for metric, rating in answers
    ]
    rows.append({"kind": "survey_response", "metric": "csat", "rating": 5.0, "occurred_at": day_us - 1})
    rows.append({"kind": "review", "metric": "stars", "rating": 1.0, "occurred_at": day_us})
    write(clickhouse, rows)
    days = clickhouse.query("SELECT * FROM touchstone.nps_csat_ces_by_day ORDER BY day")
    today = datetime.fromtimestamp(day_us / 1e6, UTC).date()
    assert days == [
        (date.fromordinal(today.toordinal() - 1), "desk", 1, 0, None, 1, 100.0, 0, None),
        (today, "desk", 8, 4, 25.0, 2, 50.0, 2, 5.5),
    ]


def test_rejections(clickhouse: ClickHouse) -> None:
    columns = ("stage", "log_partition", "log_offset", "rejected_at", "reason", "field", "detail", "payload")
    row = ("log", 1, 2, datetime(2026, 1, 1, tzinfo=UTC), "undecodable", "", "what to do", b"a\xffb")
    clickhouse.insert_rows("rejected_events", columns, [row])
    clickhouse.insert_rows("rejected_events", columns, [row, (*row[:2], 3, *row[3:])])
    rows = clickhouse.query(
        "SELECT stage, reason, payload, payload_bytes, log_offset FROM touchstone.rejections ORDER BY log_offset"
    )
    assert rows == [("log", "undecodable", "a\ufffdb", 3, 2), ("log", "undecodable", "a\ufffdb", 3, 3)]
