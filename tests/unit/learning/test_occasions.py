"""Journeys as occasions: who was asked when, what was known by then, and who is left out."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from services.learning.errors import BadHistory, TooLittle
from services.learning.occasions import LEAST_OF_A_SORT, occasions

DAY_US = 86_400_000_000
SCHEMA = {
    "customer_id": pl.String,
    "occurred_at": pl.Int64,
    "kind": pl.String,
    "touchpoint": pl.String,
    "journey_id": pl.String,
    "journey": pl.String,
    "metric": pl.String,
    "rating": pl.Float64,
    "outcome": pl.String,
    "amount": pl.Float64,
    "promised": pl.Float64,
    "against": pl.Float64,
}
Row = dict[str, Any]


def at(day: float, kind: str, touchpoint: str, journey: str, **more: Any) -> Row:
    empty = {"customer_id": f"c-{journey}", "journey": "", "metric": "", "outcome": ""}
    given = {"occurred_at": round(day * DAY_US), "kind": kind, "touchpoint": touchpoint, "journey_id": journey}
    return {**dict.fromkeys(SCHEMA), **empty, **given, **more}


def frame(*rows: Row) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=SCHEMA)


def order(journey: str, start: float, days: float, *, asked: float | None = None, **answer: Any) -> list[Row]:
    """Checkout, delivery, and if asked a survey with its answer two days later."""
    rows = [
        at(start, "purchase", "checkout", journey, amount=20.0, promised=5.0),
        at(start + days, "incident" if days > 5 else "interaction", "delivery", journey, against=days - 5),
    ]
    if asked is not None:
        rows.append(at(asked, "survey_sent", "review", journey))
        if answer:
            rows.append(at(asked + 2, "survey_response", "review", journey, **answer))
    return rows


def rated(number: int = LEAST_OF_A_SORT) -> list[Row]:
    """Orders that were asked one day and a half after delivery."""
    return [
        row
        for n in range(number)
        for row in order(f"r{n}", n, 3.25, asked=n + 4.75, metric="stars", rating=2.0 if n % 3 else 5.0)
    ]


def test_an_asked_journey_is_seen_as_of_the_asking() -> None:
    late = at(40.75 + 3, "interaction", "return", "r36")
    found = occasions(frame(*rated(40), late), 100 * DAY_US)
    row = found.table.filter(pl.col("journey_id") == "r36").row(0, named=True)
    assert (row["asked_us"], row["known_us"]) == (40.75 * DAY_US, 40.75 * DAY_US)
    assert row["answered_us"] == 42.75 * DAY_US
    assert (row["bad"], row["asked"], row["last_touchpoint"]) == (False, True, "delivery")
    assert not any(name.startswith("return") for name in found.facts.columns)
    assert found.facts.height == found.table.height == found.journeys == 40
    assert found.promise_step == "delivery"


def test_a_date_without_a_time_means_that_day_and_never_more_than_before_the_answer() -> None:
    same_day = order("d", 50, 3.5, asked=53, metric="stars", rating=1.0)
    same_day[-1]["occurred_at"] = round(53.25 * DAY_US)
    ordinary = order("e", 50, 3.5, asked=53, metric="stars", rating=1.0)
    table = occasions(frame(*rated(), *same_day, *ordinary), 100 * DAY_US).table
    known = dict(table.select("journey_id", "known_us").iter_rows())
    assert known["d"] == 53.25 * DAY_US - 1
    assert known["e"] == 54 * DAY_US - 1
    assert dict(table.select("journey_id", "last_touchpoint").iter_rows())["d"] == "checkout"


def test_a_rating_that_nobody_asked_for_is_seen_just_before_it() -> None:
    alone = [
        at(50, "interaction", "checkout", "x"),
        at(51, "interaction", "support", "x", metric="csat", rating=2.0),
    ]
    row = occasions(frame(*rated(), *alone), 100 * DAY_US).table.filter(pl.col("journey_id") == "x").row(0, named=True)
    assert (row["asked"], row["bad"], row["last_touchpoint"]) == (False, True, "checkout")
    assert row["known_us"] == 51 * DAY_US - 1


def test_who_was_not_asked_is_seen_when_others_were_after_the_same_step() -> None:
    found = occasions(frame(*rated(), *order("u", 60, 8), *order("open", 95, 4)), 100 * DAY_US)
    row = found.table.filter(pl.col("journey_id") == "u").row(0, named=True)
    assert row["asked_us"] == round(69.5 * DAY_US)
    assert (row["asked"], row["bad"], row["answered_us"]) == (False, None, None)
    assert found.still_open == 1
    facts = found.facts.filter(found.table["journey_id"] == "u").row(0, named=True)
    assert (facts["days_overdue"], facts["delivery went wrong.pending"]) == (3.0, 0.0)
    assert "delivery went wrong.days" not in facts


def test_who_got_no_further_is_seen_while_waiting() -> None:
    stuck = [row for n in range(25) for row in order(f"s{n}", n, 40, asked=n + 12, metric="stars", rating=1.0)]
    found = occasions(frame(*rated(25), *stuck, *order("w", 60, 30)), 100 * DAY_US)
    row = found.table.filter(pl.col("journey_id") == "w").row(0, named=True)
    assert (row["asked_us"], row["last_touchpoint"]) == (72 * DAY_US, "checkout")
    facts = found.facts.filter(found.table["journey_id"] == "w").row(0, named=True)
    assert (facts["delivery.pending"], facts["days_overdue"]) == (1.0, 7.0)


def test_who_did_not_answer_is_seen_as_of_the_asking() -> None:
    found = occasions(frame(*rated(), *order("n", 60, 3, asked=70.5)), 100 * DAY_US)
    row = found.table.filter(pl.col("journey_id") == "n").row(0, named=True)
    assert (row["asked"], row["bad"], row["asked_us"]) == (True, None, 70.5 * DAY_US)


def test_what_the_customer_said_is_no_fact() -> None:
    said = [at(3.5 + n, kind, "chat", f"r{n}") for n in range(30) for kind in ("emotion", "complaint_opened", "review")]
    assert occasions(frame(*rated(), *said), 100 * DAY_US).facts.equals(occasions(frame(*rated()), 100 * DAY_US).facts)


def test_the_same_journey_id_of_two_customers_is_two_journeys() -> None:
    other = [{**row, "customer_id": "other"} for row in order("r1", 60, 3)]
    found = occasions(frame(*rated(), *other), 100 * DAY_US)
    assert found.table.filter(pl.col("journey_id") == "r1").height == 2
    assert found.journeys == 31


def test_sorts_of_journey_that_hardly_anybody_rated_are_left_out() -> None:
    claim = [{**row, "journey": "claim"} for row in order("k", 60, 3)]
    found = occasions(frame(*rated(), *claim), 100 * DAY_US)
    assert found.unlike == {"claim": 1}
    assert "k" not in found.table["journey_id"]


def test_nothing_after_the_moment_changes_anything() -> None:
    rows = [*rated(), *order("u", 60, 8), *order("v", 70, 20, asked=95, metric="nps", rating=3.0)]
    as_of_us = 80 * DAY_US
    before = [row for row in rows if row["occurred_at"] < as_of_us]
    whole, cut = occasions(frame(*rows), as_of_us), occasions(frame(*before), as_of_us)
    assert whole.table.equals(cut.table)
    assert whole.facts.equals(cut.facts)


def test_days_that_are_no_number_of_days_were_not_said() -> None:
    odd = order("o", 60, 3)
    odd[0]["promised"], odd[1]["against"] = float("inf"), 1e300
    found = occasions(frame(*rated(), *odd), 100 * DAY_US)
    assert found.facts.filter(found.table["journey_id"] == "o").row(0, named=True)["days_overdue"] is None


def test_refusals_name_the_remedy() -> None:
    with pytest.raises(TooLittle, match="send journey_id"):
        occasions(frame(*[{**row, "journey_id": ""} for row in rated()]), 100 * DAY_US)
    with pytest.raises(TooLittle, match="no rating was given in any of 1 journeys: ask some"):
        occasions(frame(*order("a", 1, 3)), 100 * DAY_US)
    with pytest.raises(TooLittle, match="no rating was given"):  # sentiment is no answer
        occasions(frame(*order("a", 1, 3, asked=6, metric="sentiment", rating=-1.0)), 100 * DAY_US)
    with pytest.raises(BadHistory, match="against"):
        occasions(frame(*rated()).drop("against"), 100 * DAY_US)
