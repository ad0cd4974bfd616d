"""Rows are judged as at the HTTP edge, and the good ones are what any reader decodes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from schemas.reasons import Reason
from schemas.touchpoint import FUTURE_REFUSED_US
from services.importer.judge import Judged, judge

NOW_US = 1_780_000_000_000_000
EXAMPLES = Path(__file__).parents[3] / "schemas" / "examples" / "touchpoint"

GOOD = {
    "event_id": "1",
    "customer_id": "c",
    "occurred_at": "2025-03-01T10:00:00Z",
    "source": "s",
    "kind": "interaction",
    "touchpoint": "shop",
}


def test_good_rows_become_records_with_their_customers_as_keys() -> None:
    result = judge([GOOD, {**GOOD, "event_id": "2", "customer_id": "d"}], [1, 2], NOW_US)
    assert result.keys == ["c", "d"]
    assert result.kinds == {"interaction": 2}
    assert result.earliest_us == result.latest_us == 1_740_823_200_000_000


def test_a_bad_row_takes_no_other_with_it() -> None:
    result = judge([GOOD, {**GOOD, "kind": "meeting"}, {**GOOD, "event_id": "3"}], [1, 2, 3], NOW_US)
    assert result.keys == ["c", "c"]
    [refused] = result.refused
    assert (refused.row, refused.problems[0].reason, refused.problems[0].field) == (2, Reason.UNKNOWN_KIND, "/kind")


@pytest.mark.parametrize("path", sorted((EXAMPLES / "ok").glob("*.json")), ids=lambda path: path.stem)
def test_what_the_edge_takes_is_taken(path: Path) -> None:
    event = orjson.loads(path.read_bytes())["event"]
    assert judge([event], [1], NOW_US).refused == []


@pytest.mark.parametrize(
    ("changed", "reason", "field"),
    [
        ({"customer_id": None}, Reason.MISSING_FIELD, "/customer_id"),
        ({"occurred_at": "2025-03-01"}, Reason.INVALID_TIME, "/occurred_at"),
        ({"text": "x" * 10_001}, Reason.TOO_LONG, "/text"),
        ({"kind": "purchase", "amount": "-1", "currency": "EUR"}, Reason.OUT_OF_RANGE, "/amount"),
        ({"metric": "nps", "rating": 11.0}, Reason.OUT_OF_RANGE, "/rating"),
        ({"metric": "nps"}, Reason.MISSING_FIELD, "/rating"),
    ],
)
def test_what_the_edge_refuses_is_refused(changed: dict[str, Any], reason: Reason, field: str) -> None:
    event = {name: value for name, value in {**GOOD, **changed}.items() if value is not None}
    [refused] = judge([event], [1], NOW_US).refused
    assert (refused.problems[0].reason, refused.problems[0].field) == (reason, field)
    assert refused.event == event


@pytest.mark.parametrize(("ahead_us", "taken"), [(FUTURE_REFUSED_US, True), (FUTURE_REFUSED_US + 1_000_000, False)])
def test_the_future_is_refused(ahead_us: int, taken: bool, iso: Callable[[int], str]) -> None:
    result: Judged = judge([{**GOOD, "occurred_at": iso(NOW_US + ahead_us)}], [1], NOW_US)
    assert (len(result.values) == 1) is taken
    if not taken:
        assert result.refused[0].problems[0].reason is Reason.FUTURE_TIME


@pytest.fixture
def iso() -> Callable[[int], str]:
    from datetime import UTC, datetime

    return lambda time_us: datetime.fromtimestamp(time_us / 1e6, UTC).isoformat()


def test_a_member_that_its_kind_does_not_have_is_refused_beside_good_rows_too() -> None:
    result = judge([GOOD, {**GOOD, "kind": "outreach", "outcome": "failed"}], [1, 2], NOW_US)
    assert result.keys == ["c"]
    assert [(row.row, row.problems[0].field) for row in result.refused] == [(2, "/outcome")]
