"""Events come back from the table as they went in, and are found again by identity."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from infra.clickhouse import events
from infra.clickhouse.client import ClickHouse
from schemas.decode import COLUMNS

pytestmark = pytest.mark.stack

NOW_US = 1_790_000_000_123_456


def some_events(n: int, *, customers: int = 4) -> pl.DataFrame:
    """Events of which every third has all optional fields."""
    full = [number % 3 == 0 for number in range(n)]

    def sometimes(value: object) -> list[object]:
        return [value if here else None for here in full]

    return pl.DataFrame(
        {
            "event_id": [number.to_bytes(14, "big") + b"\x00\xff" for number in range(n)],
            "customer_id": [f"customer {n - number % customers} ü'\\" for number in range(n)],
            "occurred_at": [NOW_US - 1000 * number for number in range(n)],
            "received_at": [NOW_US + number for number in range(n)],
            "source": ["shop"] * n,
            "kind": ["purchase" if here else "interaction" for here in full],
            "touchpoint": [f"touch.point{number % 7}" for number in range(n)],
            "channel": ["web" if here else "" for here in full],
            "journey_id": sometimes("journey-1"),
            "outcome": sometimes("failed"),
            "metric": sometimes("nps"),
            "rating": sometimes(9.0),
            "emotion": sometimes("happy"),
            "intensity": sometimes(0.5),
            "confidence": sometimes(0.25),
            "amount_micros": sometimes(2**53 + 1),
            "currency": sometimes("EUR"),
            "case_id": sometimes("case-1"),
            "text": sometimes("first line\nsecond 'line' ü \\" + "x" * 500),
            "sender_event_id": sometimes("order-17"),
            "attributes": [{"colour": "blue", "size": ""} if here else {} for here in full],
            "journey": sometimes("onboarding.first-order"),
        },
        schema=COLUMNS,
    )


def write(client: ClickHouse, frame: pl.DataFrame, *, first_offset: int = 0) -> None:
    n = frame.height
    readings = np.arange(3 * n, dtype=np.float32).reshape(n, 3)
    events.write_events(client, frame, readings, readings + 0.5, 2, np.arange(first_offset, first_offset + n))


def keys(frame: pl.DataFrame) -> list[tuple[str, bytes]]:
    return list(zip(frame["customer_id"].to_list(), frame["event_id"].to_list(), strict=True))


def test_every_value_comes_back(clickhouse: ClickHouse) -> None:
    frame = some_events(50)
    write(clickhouse, frame)
    found = events.find_earlier(clickhouse, keys(frame)).sort("log_offset")
    assert_frame_equal(found.select(list(COLUMNS)), frame)
    assert found["log_offset"].to_list() == list(range(50))
    assert set(found["log_partition"]) == {2}


def test_readings_stand_beside_their_event(clickhouse: ClickHouse) -> None:
    write(clickhouse, some_events(10))
    rows = clickhouse.query(
        "SELECT log_offset, effectiveness_valence, ease_valence, emotion_valence,"
        " effectiveness_weight, ease_weight, emotion_weight FROM touchstone.touchpoints ORDER BY log_offset"
    )
    assert rows == [
        (row, 3.0 * row, 3.0 * row + 1, 3.0 * row + 2, 3 * row + 0.5, 3 * row + 1.5, 3 * row + 2.5) for row in range(10)
    ]


def test_writing_again_adds_no_row(clickhouse: ClickHouse) -> None:
    frame = some_events(20)
    write(clickhouse, frame)
    write(clickhouse, frame)
    assert clickhouse.query("SELECT count() FROM touchstone.touchpoints") == [(20,)]


def test_other_batch_bounds_add_no_event(clickhouse: ClickHouse) -> None:
    frame = some_events(20)
    write(clickhouse, frame)
    write(clickhouse, frame[5:12], first_offset=5)
    assert clickhouse.query("SELECT count() FROM touchstone.touchpoints FINAL") == [(20,)]


def test_the_earliest_of_one_identity_is_found(clickhouse: ClickHouse) -> None:
    first = some_events(3)
    later = first.with_columns(occurred_at=pl.col("occurred_at") - 10**12, text=pl.lit("other"))
    write(clickhouse, later, first_offset=100)
    write(clickhouse, first, first_offset=10)
    found = events.find_earlier(clickhouse, keys(first)).sort("log_offset")
    assert_frame_equal(found.select(list(COLUMNS)), first)


def test_customer_and_id_must_both_be_asked_for(clickhouse: ClickHouse) -> None:
    frame = some_events(4)
    write(clickhouse, frame)
    (first, first_id), (second, second_id), *_ = keys(frame)
    assert events.find_earlier(clickhouse, [(first, second_id), (second, first_id)]).height == 0
    assert events.find_earlier(clickhouse, [("nobody", first_id), (second, second_id)]).height == 1


def test_more_keys_than_one_query_takes(clickhouse: ClickHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "LOOKUP_KEYS", 7)
    frame = some_events(40)
    write(clickhouse, frame)
    assert events.find_earlier(clickhouse, [*keys(frame), ("nobody", b"x" * 16)]).height == 40
    assert events.find_earlier(clickhouse, []).height == 0


def test_events_of_many_years_are_stored(clickhouse: ClickHouse) -> None:
    year_us = 366 * 86_400_000_000
    frame = some_events(57).with_columns(occurred_at=year_us * pl.int_range(pl.len()))
    write(clickhouse, frame)
    assert clickhouse.query("SELECT count(), min(occurred_at) = 0 FROM touchstone.touchpoints") == [(57, 1)]


def test_events_of_the_published_examples(clickhouse: ClickHouse) -> None:
    """No example has an optional field that is set to the empty text: it could not be told from a null."""
    folder = Path(__file__).parents[3] / "schemas" / "examples" / "touchpoint" / "ok"
    for path in folder.glob("*.json"):
        event = json.loads(path.read_text(encoding="utf-8"))
        assert [name for name in events.OPTIONAL if event.get(name) == ""] == []
