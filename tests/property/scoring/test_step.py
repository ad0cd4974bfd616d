"""What is judged, and when, is a matter of the log alone: no split into batches changes bands or signals."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.state_layout import BANDS
from services.scoring.risk.model import DEFAULT
from services.scoring.state import States
from services.scoring.step import LIVE_WITHIN_US, SECOND_US, Scorer, step
from tests.property.scoring.logs import (
    DAY_US,
    START_US,
    STEPS_US,
    Event,
    Signal,
    as_records,
    customers_of,
    logs,
    random_log,
    signals_of,
    splits,
    take,
    told,
)

JUDGED = ("band", "band_since", "judged_at", "model_version", "log_offset", "updated_at")
SET = settings(max_examples=25, deadline=None)


def run(log: Sequence[Event], batches: Sequence[Sequence[int]]) -> tuple[list[dict[str, Any]], list[Signal]]:
    states, scorer = States.empty(customers_of(log)), Scorer.of(DEFAULT)
    signals = [signal for offsets in batches for signal in signals_of(take(states, log, offsets, scorer, step))]
    return as_records(states, scorer), signals


def numbers(signal: Signal) -> list[float]:
    return [signal.risk, signal.score, signal.trend, signal.confidence, signal.value_at_risk]


def assert_same(
    one: tuple[list[dict[str, Any]], list[Signal]], other: tuple[list[dict[str, Any]], list[Signal]]
) -> None:
    for mine, theirs in zip(one[0], other[0], strict=True):
        assert {name: mine[name] for name in JUDGED} == {name: theirs[name] for name in JUDGED}
        assert mine["risk"] == pytest.approx(theirs["risk"], rel=1e-9)
    assert told(one[1]) == told(other[1])
    for ours, others in zip(one[1], other[1], strict=True):
        assert numbers(ours) == pytest.approx(numbers(others), rel=1e-9, abs=1e-9)
        assert [said["reason"] for said in ours.reasons] == [said["reason"] for said in others.reasons]


@SET
@given(st.data())
def test_no_split_changes_bands_or_signals(data: st.DataObject) -> None:
    log = data.draw(logs())
    whole = run(log, [range(len(log))])
    assert_same(whole, run(log, [range(len(log))[cut] for cut in data.draw(splits(len(log)))]))
    if len(log) <= 60:
        assert_same(whole, run(log, [[offset] for offset in range(len(log))]))


@SET
@given(logs(60))
def test_judged_are_live_events_but_case_steps_of_a_second_not_judged_before(log: list[Event]) -> None:
    states, scorer = States.empty(customers_of(log)), Scorer.of(DEFAULT)
    latest_s = dict.fromkeys(range(customers_of(log)), 0)
    judged_at = dict.fromkeys(range(customers_of(log)), 0)
    for offset, event in enumerate(log):
        live = event.received_us - event.occurred_us <= LIVE_WITHIN_US
        if live and event.kind != "case_step" and event.received_us // 1_000_000 > latest_s[event.customer]:
            latest_s[event.customer] = event.received_us // 1_000_000
            judged_at[event.customer] = event.received_us
        take(states, log, [offset], scorer, step)
    assert [record["judged_at"] for record in as_records(states, scorer)] == list(judged_at.values())


@SET
@given(logs())
def test_signals_tell_the_story_of_the_band(log: list[Event]) -> None:
    records, signals = run(log, [range(len(log))])
    assert [signal.log_offset for signal in signals] == sorted({signal.log_offset for signal in signals})
    for customer, record in enumerate(records):
        mine = [signal for signal in signals if signal.row == customer]
        path = [BANDS[0], *(signal.to_band for signal in mine)]
        assert [signal.from_band for signal in mine] == path[:-1]
        assert all(signal.from_band != signal.to_band or log[signal.log_offset].kind == "review_due" for signal in mine)
        assert record["band"] == BANDS.index(path[-1])
        crossings = [signal for signal in mine if signal.from_band != signal.to_band]
        assert record["band_since"] == (crossings[-1].judged_at if crossings else 0)
        for signal in mine:
            event = log[signal.log_offset]
            assert (event.customer, event.received_us) == (customer, signal.judged_at)
        for before, after in itertools.pairwise(crossings):
            if BANDS.index(after.to_band) < BANDS.index(after.from_band):
                stay_us = after.judged_at - before.judged_at
                assert stay_us >= DEFAULT.bands.dwell_hours * 3_600_000_000


def test_logs_cross_levels_both_ways() -> None:
    """The laws above are worth something only if signals rise and fall in such logs."""
    rises = falls = 0
    for seed, step_us in enumerate(STEPS_US):
        _, signals = run(random_log(Random(seed), 300, 3, step_us), [range(300)])
        for signal in signals:
            if BANDS.index(signal.to_band) > BANDS.index(signal.from_band):
                rises += 1
            elif signal.to_band != signal.from_band:
                falls += 1
    assert rises >= 5
    assert falls >= 2


def test_a_review_is_answered_also_when_no_band_changes() -> None:
    bought = Event(0, "purchase", START_US, START_US, b"p" * 16)
    review = Event(0, "review_due", START_US + 5 * SECOND_US, START_US + 5 * SECOND_US, b"r" * 16)
    _, signals = run([bought, review], [[0, 1]])
    assert [(s.log_offset, s.from_band, s.to_band) for s in signals] == [(1, "low", "low")]
    assert signals[0].silence_days == pytest.approx((START_US + 5 * SECOND_US) % DAY_US / DAY_US)


def test_history_is_folded_and_not_judged() -> None:
    late = START_US + LIVE_WITHIN_US + 1
    (record,), signals = run([Event(0, "cancellation", START_US, late, bytes(16))], [[0]])
    assert record["events"] == 1
    assert record["judged_at"] == 0
    assert signals == []


@SET
@given(logs(60))
def test_steps_of_cases_change_nothing_but_the_place_in_the_log(log: list[Event]) -> None:
    """Each event with a step of a case before it, at the same moments: also one that could be judged in its stead."""
    steps = [
        Event(
            event.customer,
            "case_step",
            event.received_us,
            event.received_us,
            b"s" + event.event_id[1:],
            emotion="happy",
        )
        for event in log
    ]
    without = [event for event in log if event.kind != "case_step"] or [
        Event(0, "interaction", START_US, START_US, bytes(16))
    ]
    mixed = [each for event, step_ in zip(without, steps, strict=False) for each in (step_, event)]
    places = {2 * place + 1: place for place in range(len(without))}
    (plain, signals), (stepped, others) = run(without, [range(len(without))]), run(mixed, [range(len(mixed))])
    of_the_log = {"log_offset", "updated_at", "recent_ids", "ids_horizon_s"}
    for mine, theirs in zip(plain, stepped, strict=True):
        assert {name: value for name, value in mine.items() if name not in of_the_log} == {
            name: value for name, value in theirs.items() if name not in of_the_log
        }
    assert told(signals) == [(places[offset], *more) for offset, *more in told(others)]


def test_silence_signals_at_the_review() -> None:
    buys = [
        Event(0, "purchase", START_US + i * 10 * DAY_US, START_US + i * 10 * DAY_US, bytes([i] * 16)) for i in range(9)
    ]
    quiet_us = START_US + 400 * DAY_US
    review = Event(0, "review_due", quiet_us, quiet_us, b"r" * 16)
    (record,), signals = run([*buys, review], [range(9), [9]])
    assert [(s.log_offset, s.from_band, s.to_band) for s in signals] == [(9, "low", "high")]
    assert record["events"] == 9
    first = signals[0].reasons[0]
    assert first["reason"] == "last came 320 days ago, usual gap 10 days"
    assert first["log_odds"] > 0
