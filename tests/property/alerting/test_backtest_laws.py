"""Laws of a backtest over any history."""

from __future__ import annotations

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from services.alerting.backtest import COMINGS, DAY_US, Past, Result, Span, judge
from services.alerting.rehearsal import ALERTS, CALLS

HORIZON_DAYS = 10
STEPS = tuple(day * DAY_US for day in range(30, 60, 3))
SPAN = Span(30 * DAY_US, 60 * DAY_US, 65 * DAY_US, HORIZON_DAYS * DAY_US, STEPS)
Histories = dict[str, list[int]]

histories = st.dictionaries(
    st.sampled_from("abcdefgh"), st.lists(st.integers(0, 70 * 24), max_size=12), min_size=1, max_size=8
)
"""Hours at which customers came."""


def past(history: Histories) -> Past:
    rows = [(customer, hour * DAY_US // 24) for customer, hours in history.items() for hour in hours]
    came = pl.DataFrame(rows, schema=COMINGS, orient="row")
    return Past(came, came.clear(), SPAN)


def result(history: Histories, calls: list[tuple[str, int]]) -> Result:
    """``calls``: customer and step."""
    rows = [
        ("r", str(n), who, step, STEPS[step], STEPS[step], "called", None, None, None, "")
        for n, (who, step) in enumerate(calls)
    ]
    return judge("r", 1, pl.DataFrame(rows, schema=ALERTS, orient="row"), pl.DataFrame(schema=CALLS), past(history))


def not_gone(history: Histories) -> list[tuple[str, int]]:
    """Everybody who had come within the horizon before a step, by step."""
    return [
        (customer, step)
        for step, at_us in enumerate(STEPS)
        for customer, hours in history.items()
        if any(at_us - HORIZON_DAYS * DAY_US < hour * DAY_US // 24 <= at_us for hour in hours)
    ]


@given(histories)
def test_calling_everybody_has_the_precision_of_the_base_rate(history: Histories) -> None:
    found = result(history, not_gone(history))
    assert found.running.precision == found.base_rate
    if found.lift is not None:
        assert abs(found.lift - 1.0) < 1e-9


@given(histories)
def test_calling_everybody_reaches_all_whose_silence_a_step_falls_into(history: Histories) -> None:
    found, everything = result(history, not_gone(history)), past(history)
    between = [
        leaver
        for leaver in everything.leavers().iter_rows(named=True)
        if any(leaver["at_us"] <= step_us < leaver["complete_us"] for step_us in STEPS)
    ]
    assert found.recall.hits == len(between)
    assert found.recall.of == everything.leavers().height


@given(histories, st.data())
def test_counts_add_up_and_do_not_depend_on_order(history: Histories, data: st.DataObject) -> None:
    some = st.tuples(st.sampled_from("abcdefghi"), st.integers(0, len(STEPS) - 1))
    calls = data.draw(st.lists(some, max_size=20, unique=True))
    found = result(history, calls)
    for counted in (found.first_step, found.running):
        known = counted.left + counted.stayed + counted.too_late
        assert counted.precision.of == known
        assert counted.called == known + counted.unknown + counted.never_came
    assert found.first_step.called + found.running.called == len(calls)
    assert found.lead_days.count == found.running.left
    if found.lead_days.low is not None and found.lead_days.high is not None:
        assert 0 < found.lead_days.low <= found.lead_days.high <= HORIZON_DAYS
    shuffled = {who: hours[::-1] for who, hours in reversed(history.items())}
    assert result(shuffled, calls[::-1]) == found
