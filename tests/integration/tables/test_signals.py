"""Crossings, written as columns and read by name."""

from __future__ import annotations

from datetime import UTC, datetime

import polars as pl
import pytest

from infra.clickhouse.client import ClickHouse
from infra.clickhouse.signals import write_signals
from schemas.signal import SIGNALS

pytestmark = pytest.mark.stack

FIRST = (
    b"0123456789abcdef",
    "ada",
    1_760_000_000_000_001,
    "low",
    "high",
    0.93,
    41.5,
    -3.25,
    0.5,
    12.0,
    [
        {"reason": "complaint open for 6 days", "log_odds": 0.9},
        {"reason": "éà 'quoted' reason", "log_odds": -0.25},
    ],
    "default-1",
    3,
    77,
    0.4,
    144.5,
    0.0,
    21.0,
    7.5,
    "support.phone",
)
SECOND = (
    b"fedcba9876543210",
    "bob",
    0,
    "high",
    "low",
    0.1,
    70.0,
    0.0,
    0.9,
    0.0,
    [],
    "default-1",
    0,
    1,
    0.0,
    0.0,
    0.0,
    0.0,
    0.0,
    "",
)


def frame(*rows: tuple[object, ...]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=SIGNALS, orient="row")


def test_crossings_come_back_as_they_were(clickhouse: ClickHouse) -> None:
    write_signals(clickhouse, frame(FIRST, SECOND))
    write_signals(clickhouse, frame(FIRST, SECOND))
    rows = clickhouse.query(
        "SELECT hex(signal_id), customer_id, judged_at, from_band, to_band, risk, score, trend, confidence, "
        "value_at_risk, reasons, model_version, log_partition, log_offset, volatility, complaint_hours, "
        "feedback_hours, silence_days, usual_gap_days, worst_touchpoint "
        "FROM touchstone.loyalty_signals FINAL ORDER BY customer_id"
    )
    assert rows == [
        (
            FIRST[0].hex().upper(),
            "ada",
            datetime(2025, 10, 9, 8, 53, 20, 1, tzinfo=UTC),
            "low",
            "high",
            0.93,
            41.5,
            -3.25,
            0.5,
            12.0,
            [("complaint open for 6 days", 0.9), ("éà 'quoted' reason", -0.25)],
            "default-1",
            3,
            77,
            0.4,
            144.5,
            0.0,
            21.0,
            7.5,
            "support.phone",
        ),
        (
            SECOND[0].hex().upper(),
            "bob",
            datetime(1970, 1, 1, tzinfo=UTC),
            "high",
            "low",
            0.1,
            70.0,
            0.0,
            0.9,
            0.0,
            [],
            "default-1",
            0,
            1,
            0.0,
            0.0,
            0.0,
            0.0,
            0.0,
            "",
        ),
    ]


def test_no_crossings_are_no_insert(clickhouse: ClickHouse) -> None:
    write_signals(clickhouse, frame())
    assert clickhouse.query("SELECT count() FROM touchstone.loyalty_signals") == [(0,)]
