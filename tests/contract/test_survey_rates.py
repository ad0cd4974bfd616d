"""The rates that people know, as docs/measures.md defines them, from events as they are stored."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl
import pytest

from infra.clickhouse import events
from infra.clickhouse.client import ClickHouse
from schemas.decode import decode
from schemas.encode import encode
from schemas.tables import DATABASE, TOUCHPOINTS

pytestmark = pytest.mark.stack

DAY_US = 86_400_000_000
ANSWERS = {
    "nps": [0, 6, 7, 8, 9, 9, 10, 10],
    "csat": [1, 3, 4, 5, 5],
    "ces": [1, 7, 7],
    "stars": [5],
}


@pytest.fixture
def answered(engine: ClickHouse) -> Iterator[ClickHouse]:
    rated: list[tuple[str, str, float | None]] = [
        ("survey_response", metric, float(rating)) for metric, ratings in ANSWERS.items() for rating in ratings
    ]
    rated += [("survey_sent", metric, None) for metric in ("nps", "csat", "ces") for _ in range(3)]
    values = [
        encode(
            {
                "event_id": bytes([number] * 16),
                "customer_id": "ada",
                "occurred_at": 20_000 * DAY_US + number,
                "received_at": 20_001 * DAY_US,
                "source": "survey-tool",
                "kind": kind,
                "touchpoint": "delivery",
                "metric": metric,
                "rating": rating,
            }
        )
        for number, (kind, metric, rating) in enumerate(rated)
    ]
    frame = decode(values, bytes(8)).frame
    assert frame.height == len(values)
    nothing = np.zeros((frame.height, 3), dtype=np.float32)
    events.write_events(engine, frame, nothing, nothing, 0, np.arange(frame.height))
    yield engine
    engine.query(f"TRUNCATE TABLE {DATABASE}.{TOUCHPOINTS.name}")


def test_rates_count_answers_and_not_questions(answered: ClickHouse) -> None:
    (row,) = answered.frame(f"SELECT * EXCEPT (day) FROM {DATABASE}.nps_csat_ces_by_day").to_dicts()
    assert row == {
        "touchpoint": "delivery",
        "responses": 16,
        "nps_responses": 8,
        "nps": pytest.approx(100 * (4 - 2) / 8),
        "csat_responses": 5,
        "csat": pytest.approx(60),
        "ces_responses": 3,
        "ces": pytest.approx(5),
    }
    days = answered.frame(f"SELECT day FROM {DATABASE}.nps_csat_ces_by_day").get_column("day").cast(pl.Int32)
    assert days.to_list() == [20_000]
