"""Calls held against histories whose answers are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl
import pytest

from services.alerting.backtest import COMINGS, DAY_US, Past, Quartiles, Result, Share, Span, judge
from services.alerting.rehearsal import ALERTS, CALLS

HORIZON = 30
SPAN = Span(
    100 * DAY_US, 200 * DAY_US, 220 * DAY_US, HORIZON * DAY_US, tuple(range(100 * DAY_US, 200 * DAY_US, DAY_US))
)
Call = tuple[str, float]
"""Customer and day; on day 100 it is of the first step."""
Days = Mapping[str, Sequence[float]]
"""Days by customer."""


def moments(days: Days) -> pl.DataFrame:
    rows = [(customer, round(day * DAY_US)) for customer, some in days.items() for day in some]
    return pl.DataFrame(rows, schema=COMINGS, orient="row")


def past(came: Days, cancelled: Days | None = None, span: Span = SPAN) -> Past:
    return Past(moments(came), moments(cancelled or {}), span)


def alerts_of(calls: Sequence[Call], fate: str = "called") -> pl.DataFrame:
    rows = [
        (
            "r",
            str(number),
            customer,
            int(day) - 100,
            round(day * DAY_US),
            round(day * DAY_US),
            fate,
            0.9,
            40.0,
            10.0,
            "gold",
        )
        for number, (customer, day) in enumerate(calls)
    ]
    return pl.DataFrame(rows, schema=ALERTS, orient="row")


def outcomes(came: Days, calls: Sequence[Call]) -> list[tuple[str, str]]:
    found = past(came).outcomes(alerts_of(calls)).sort("alert_id")
    return list(found.select("customer_id", "outcome").iter_rows())


def result(came: Days, calls: Sequence[Call], cancelled: Days | None = None) -> Result:
    made = pl.DataFrame([("r", round(day * DAY_US), 1) for _, day in calls], schema=CALLS, orient="row")
    return judge("r", 10, alerts_of(calls), made, past(came, cancelled))


@pytest.mark.parametrize(
    ("came", "called", "outcome"),
    [
        ([90, 130], 110, "stayed"),
        ([90, 140], 110, "stayed"),
        ([90, 140.5], 110, "left"),
        ([90], 110, "left"),
        ([90, 110], 110, "left"),  # came at that very moment, and no more
        ([80], 110, "too_late"),
        ([80, 111], 110, "too_late"),
        ([81], 110, "left"),
        ([180], 190, "left"),
        ([180], 190.5, "unknown"),
        ([130], 195, "unknown"),
        ([120], 110, "never_came"),
        ([], 110, "never_came"),
    ],
)
def test_what_came_of_a_call(came: Sequence[float], called: float, outcome: str) -> None:
    assert outcomes({"a": came, "b": [109, 111]}, [("a", called)]) == [("a", outcome)]


def test_lead_time_is_to_the_end_of_the_silence_and_to_a_cancellation() -> None:
    found = past({"a": [105], "b": [105, 115]}, {"a": [90, 112, 118], "b": [112]}).outcomes(
        alerts_of([("a", 110), ("b", 110)])
    )
    rows = {row["customer_id"]: row for row in found.iter_rows(named=True)}
    assert rows["a"]["lead_us"] == 25 * DAY_US
    assert rows["a"]["cancellation_lead_us"] == 2 * DAY_US
    assert rows["b"]["lead_us"] is None
    assert rows["b"]["cancellation_lead_us"] is None, "who stayed was not lost"


def test_precision_counts_what_is_known() -> None:
    came = {"left": [105], "stayed": [105, 115], "late": [60], "open": [195], "other": [90, 100, 110, 120, 130]}
    calls = [("left", 110), ("stayed", 110), ("late", 110), ("open", 198), ("nobody", 110)]
    found = result(came, [*calls, ("left", 100)])
    now = found.running
    assert (now.called, now.left, now.stayed, now.too_late, now.unknown, now.never_came) == (5, 1, 1, 1, 1, 1)
    assert (now.precision.hits, now.precision.of) == (1, 3)
    assert now.precision.value == pytest.approx(1 / 3)
    assert now.stayed_share.value == now.too_late_share.value == now.precision.value
    assert found.first_step.called == 1
    assert found.first_step.never_came == 1, "nothing was known of this customer on day 100"
    assert found.lead_days == Quartiles(1, 25.0, 25.0, 25.0)
    assert [(s.segment, s.called, s.precision.hits) for s in found.segments] == [("gold", 5, 1)]


def test_recall_is_over_all_silences_that_became_complete_in_the_span() -> None:
    came = {
        "called": [105],
        "missed": [105],
        "before": [70],  # complete on day 100, when the span begins
        "after": [171],
        "came back": [105, 135],  # and left after that, unreached
        "twice": [105, 150],
    }
    found = result(came, [("called", 110), ("missed", 136), ("came back", 110), ("twice", 110), ("twice", 175)])
    assert (found.recall.hits, found.recall.of) == (3, 5)  # of the one who left twice, both


def test_a_call_before_the_last_coming_did_not_reach_the_silence() -> None:
    assert result({"a": [105, 115]}, [("a", 110)]).recall == Share.from_counts(0, 1)


def test_base_rate_is_of_those_who_are_not_gone() -> None:
    span = Span(100 * DAY_US, 200 * DAY_US, 220 * DAY_US, HORIZON * DAY_US, (100 * DAY_US, 110 * DAY_US, 195 * DAY_US))
    came = {"left": [105], "stayed": [105, 115], "gone": [60], "new": [111], "back": [60, 120]}
    assert past(came, span=span).at(110 * DAY_US) == (2, 1)
    assert past(came, span=span).at(195 * DAY_US) == (0, 0), "not known yet"
    found = judge("r", 10, alerts_of([("left", 110)]).with_columns(step=1), CALLS_NONE, past(came, span=span))
    assert (found.base_rate.hits, found.base_rate.of) == (1, 2)
    assert (found.at_random, found.lift) == (0.5, 2.0)


CALLS_NONE = pl.DataFrame(schema=CALLS)


def test_calls_and_budget_are_counted() -> None:
    calls = [("a", 100), ("a", 101), ("b", 101.5), ("c", 150)]
    found = result({"a": [90]}, calls)
    assert (found.calls, found.busiest_day_calls, found.budget_per_day) == (4, 2, 10)
    assert found.budget_used == pytest.approx(4 / 1000)
    assert found.calls_per_week == pytest.approx(3 / 99 * 7)
    assert found.customers_per_week == pytest.approx(3 / 99 * 7)


def test_a_rule_that_called_nobody_has_no_shares() -> None:
    found = judge("r", 10, pl.DataFrame(schema=ALERTS), CALLS_NONE, past({"a": [105], "b": [50]}))
    assert (found.fired, found.running.called, found.running.precision.value, found.lift) == (0, 0, None, None)
    assert (found.recall.hits, found.recall.of) == (0, 1)
    assert found.lead_days == Quartiles(0, None, None, None)


def test_a_history_of_nobody_is_no_error() -> None:
    found = judge("r", 10, alerts_of([("a", 110)]), CALLS_NONE, past({}))
    assert found.running.never_came == 1
    assert found.base_rate.value is None
    assert found.recall.value is None


def test_what_was_not_called_is_counted_by_its_fate() -> None:
    over = alerts_of([("a", 110)], "over_budget").with_columns(called_us=pl.lit(None, pl.Int64))
    held = alerts_of([("b", 110)], "held_out").with_columns(called_us=pl.lit(None, pl.Int64))
    found = judge("r", 10, pl.concat([over, held]), CALLS_NONE, past({"a": [105]}))
    assert (found.fired, found.over_budget, found.held_out, found.running.called) == (2, 1, 1, 0)


def test_intervals_are_wilson() -> None:
    share = Share.from_counts(10, 100)
    assert share.low == pytest.approx(0.05523, abs=1e-4)
    assert share.high == pytest.approx(0.17437, abs=1e-4)
