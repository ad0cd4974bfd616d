"""Conditions: what may be said, what it means, where it is wrong."""

from __future__ import annotations

import math
from typing import Any

import pytest

from services.alerting.rules.condition import LONGEST, ConditionError, parse
from tests.fakes.alerting import frame, signal


def holds(text: str, **facts: Any) -> tuple[bool, bool]:
    condition = parse(text)
    row = frame([signal(**facts)]).select(condition.holds().alias("holds"), condition.fails().alias("fails")).row(0)
    return bool(row[0]), bool(row[1])


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("band = 'high' AND value_at_risk >= 100", {"band": "high", "value_at_risk": 100.0}),
        ("band <> from_band", {"band": "high", "from_band": "low"}),
        ("silence_days > 2 * usual_gap_days", {"silence_days": 21.0, "usual_gap_days": 10.0}),
        ("segment IN ('gold', 'silver')", {"segment": "silver"}),
        ("segment NOT IN ('gold')", {"segment": ""}),
        ("risk BETWEEN 0.2 AND 0.4", {"risk": 0.4}),
        ("not (score < 40 or trend < -5)", {"score": 40.0, "trend": -5.0}),
        ("-trend > 3", {"trend": -4.0}),
        ("(score - 10) / 2 + 1 = 16", {"score": 40.0}),
        ("worst_touchpoint = 'o''brien'", {"worst_touchpoint": "o'brien"}),
    ],
)
def test_says_what_analysts_mean(text: str, facts: dict[str, Any]) -> None:
    assert holds(text, **facts) == (True, False)


@pytest.mark.parametrize("unknown", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "text", ["risk > 0.5", "risk < 0.5", "NOT risk > 0.5", "risk <> 0.5", "risk NOT IN (0.5)", "1 / risk >= 0"]
)
def test_what_is_not_finite_neither_holds_nor_fails(text: str, unknown: float) -> None:
    assert holds(text, risk=unknown) == (False, False)


def test_what_is_unknown_hides_nothing_that_is_known() -> None:
    assert holds("risk > 0.5 OR score < 10", risk=math.nan, score=1.0) == (True, False)
    assert holds("risk > 0.5 AND score < 10", risk=math.nan, score=50.0) == (False, True)


def test_division_by_zero_is_unknown() -> None:
    assert holds("silence_days / usual_gap_days > 2", silence_days=30.0, usual_gap_days=0.0) == (False, False)


@pytest.mark.parametrize(
    ("text", "offset", "said"),
    [
        ("bnd = 'high'", 0, "did you mean band?"),
        ("risk > 0.1 AND\n  scroe < 5", 17, "did you mean score?"),
        ('band = "high"', 7, "single quotes: 'high'"),
        ("band = 'hihg'", 0, "did you mean high?"),
        ("band > 'high'", 0, "orders texts"),
        ("risk > 'high'", 0, "compares a number with a text"),
        ("band + 1 = 2", 0, "calculates with a text"),
        ("risk", 0, "neither true nor false"),
        ("lower(segment) = 'gold'", 6, "cannot stand in a condition"),
        ("risk IS NULL", 0, "cannot stand in a condition"),
        ("segment LIKE 'g%'", 0, "cannot stand in a condition"),
        ("risk IN (SELECT 1)", 0, "IN takes a list"),
        ("1 = 1", 0, "asks for no field"),
        ("risk > 1e999", 0, "no number that can be used"),
        ("t.risk > 0.5", 2, "there is no field"),
        ("risk > 0.5; DROP TABLE alert_log", 10, "one condition is wanted"),
        ("risk > ", 5, "cannot be read"),
        ("band = 'high", 7, "not closed"),
        ("", 0, "empty"),
        ("-- nothing", 0, "empty"),
        ("risk > 0" + " " * LONGEST, 0, "longer than"),
        ("(" * 900 + "risk > 0" + ")" * 900, 0, ""),
        (" OR ".join(["risk > 0"] * 150), 0, "more than 300 parts"),
    ],
)
def test_says_what_is_wrong_and_where(text: str, offset: int, said: str) -> None:
    with pytest.raises(ConditionError) as caught:
        parse(text)
    assert said in str(caught.value)
    assert caught.value.problems[0].offset == offset


def test_tells_all_that_is_wrong() -> None:
    with pytest.raises(ConditionError) as caught:
        parse("bnd = 'x' AND scroe > 1 AND band > 2")
    assert len(caught.value.problems) == 3


def test_is_the_same_however_it_is_spaced() -> None:
    assert parse("band='high'  and\n risk>=0.5 -- why") == parse("band = 'high' AND risk >= 0.5")
    assert parse("risk > 0.1").fields == {"risk"}


def test_doubts_numbers_that_cannot_be() -> None:
    assert "risk is between 0 and 1" in parse("risk > 70").doubts()[0]
    assert parse("risk > 0.7 AND value_at_risk > 1000").doubts() == []


def test_sql_grows_with_the_condition_and_not_faster() -> None:
    text = "risk" + " + risk" * 60 + " > 1"
    assert len(parse(text).holds_sql({"risk": "risk"})) < 20_000
