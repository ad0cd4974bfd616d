"""The fold obeys its laws: no order, no split, and a slow reference changes the result."""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.state_layout import FLOATS, INTS
from services.scoring.events import Events
from services.scoring.fold import fold
from services.scoring.risk.model import DEFAULT
from services.scoring.state import States
from services.scoring.step import Scorer
from tests.property.scoring.logs import (
    DAY_US,
    START_US,
    Event,
    as_records,
    customers_of,
    logs,
    random_log,
    splits,
    take,
)
from tests.property.scoring.reference import reference

OF_THE_LOG = ("log_partition", "log_offset", "updated_at")
JUDGED = ("risk", "band", "band_since", "judged_at", "model_version")
SET = settings(max_examples=40, deadline=None)


def only_fold(states: States, events: Events, scorer: Scorer) -> None:
    fold(states, events, scorer.activity, scorer.touchpoints)


def folded(log: Sequence[Event], batches: Sequence[Sequence[int]]) -> list[dict[str, Any]]:
    states, scorer = States.empty(customers_of(log)), Scorer.of(DEFAULT)
    for offsets in batches:
        take(states, log, offsets, scorer, only_fold)
    return as_records(states, scorer)


def gross(log: Sequence[Event], customer: int) -> float:
    return 1.0 + sum((event.amount_micros or 0) / 1e6 for event in log if event.customer == customer)


def assert_same(ours: dict[str, Any], theirs: dict[str, Any], scale: dict[str, float], without: Sequence[str]) -> None:
    for name, value in ours.items():
        if name in without:
            continue
        if name in FLOATS:
            close = math.isclose(value, theirs[name], rel_tol=1e-9, abs_tol=1e-9 * scale.get(name, 0.0) + 1e-300)
            assert close, (name, value, theirs[name])
        else:
            assert value == theirs[name], (name, value, theirs[name])


@SET
@given(st.data())
def test_order_and_split_change_nothing(data: st.DataObject) -> None:
    log = data.draw(logs())
    whole = folded(log, [range(len(log))])
    order = data.draw(st.permutations(range(len(log))))
    parts = folded(log, [order[cut] for cut in data.draw(splits(len(log)))])
    for customer, (one, other) in enumerate(zip(whole, parts, strict=True)):
        _, scale = reference([e for e in log if e.customer == customer], DEFAULT.activity_kinds)
        assert_same(one, other, scale, OF_THE_LOG)


@SET
@given(logs())
def test_fold_is_the_reference(log: list[Event]) -> None:
    for customer, state in enumerate(folded(log, [range(len(log))])):
        mine = [event for event in log if event.customer == customer]
        expected, scale = reference(mine, DEFAULT.activity_kinds)
        assert_same(state, expected, scale, (*OF_THE_LOG, *JUDGED))
        if mine:
            assert state["log_offset"] == max(i for i, e in enumerate(log) if e.customer == customer)
            assert state["updated_at"] == mine[-1].received_us
        assert set(expected) | set(OF_THE_LOG) | set(JUDGED) == set(state)


def test_logs_reach_every_bound() -> None:
    """The logs of these tests are worth something only if they fill the bounded sets."""
    log = random_log(Random(7), 400, 2, DAY_US)
    for state in folded(log, [range(len(log))]):
        assert state["active_days"] == 32
        assert state["ids_horizon_s"] > 0
        assert state["cases"][0] > 0
        assert state["open_complaints"] > 0
        assert state["last_event_at"] - state["first_event_at"] > 100 * DAY_US


def test_nothing_changes_nothing() -> None:
    states, scorer = States.empty(2), Scorer.of(DEFAULT)
    take(states, [], [], scorer, only_fold)
    assert as_records(states, scorer) == as_records(States.empty(2), scorer)


def test_reviews_move_the_position_alone() -> None:
    review = Event(0, "review_due", START_US, START_US, bytes(16), case_id="A-1", amount_micros=5)
    (state,) = folded([review], [[0]])
    (blank,) = as_records(States.empty(1), Scorer.of(DEFAULT))
    moved = {name for name in state if state[name] != blank[name]}
    assert moved == {"log_offset", "updated_at", "recent_ids"}


def test_an_event_at_the_epoch_decays_like_any_other() -> None:
    """Zero microseconds is a moment, too: it must not be taken for a state that knows nothing."""
    log = [
        Event(0, "incident", 0, START_US, b"a" * 16),
        Event(0, "purchase", 7 * DAY_US, START_US, b"b" * 16, amount_micros=1),
    ]
    together, apart = folded(log, [[0, 1]]), folded(log, [[0], [1]])
    assert apart == together
    assert apart[0]["first_event_at"] == 0
    assert apart[0]["effectiveness_fast_w"] == pytest.approx(0.6, rel=1e-6)


def test_coming_on_the_first_day_of_all_makes_no_rhythm_and_stops_nobody() -> None:
    """A clock that was never set: that day's number is what stands for no day."""
    log = [Event(0, "purchase", DAY_US // 2, START_US, b"a" * 16, amount_micros=1)]
    assert (folded(log, [[0]])[0]["active_days"], folded(log, [[0]])[0]["activities"]) == (0, 1)
    log.append(Event(0, "purchase", 3 * DAY_US, START_US, b"b" * 16, amount_micros=1))
    for split in ([[0, 1]], [[1], [0]]):
        assert (folded(log, split)[0]["active_days"], folded(log, split)[0]["first_active_day"]) == (1, 3)


def test_other_customers_stay_as_they_are() -> None:
    log = [Event(1, "purchase", START_US, START_US, b"a" * 16, amount_micros=1)]
    states, scorer = States.empty(3), Scorer.of(DEFAULT)
    take(states, log, [0], scorer, only_fold)
    empty = States.empty(1)
    for row in (0, 2):
        assert np.array_equal(states.floats[row], empty.floats[0])
        assert np.array_equal(states.ints[row], empty.ints[0])
    assert states.ints[1, INTS.index("events")] == 1
