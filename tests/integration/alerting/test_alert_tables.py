"""Alerting's ports over the real engine: what is written comes back as it was, and what stands is what was said last.

What the fake store of `tests.fakes.alerting_store` claims to do is asked of both.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from infra.clickhouse.client import ClickHouse
from services.alerting.adapters import CallStore, Tables, micros, moment
from services.alerting.alert import Alert, AlertState, Attempt, Call, Fate, Outcome, Phase, Turn
from services.alerting.rules.model import RuleSet
from services.alerting.store import Store
from tests.fakes.alerting import DAY_US, HOUR_US, alert, rule, rule_set
from tests.fakes.alerting_store import FakeAlertStore

pytestmark = pytest.mark.stack

NOW_US = time.time_ns() // 1_000_000 * 1000 + 7
"""Of this moment, with a part below the millisecond: tables keep microseconds."""


@pytest.fixture(params=["real", "fake"])
def store(request: pytest.FixtureRequest) -> Store:
    if request.param == "fake":
        return FakeAlertStore()
    return Tables(request.getfixturevalue("clickhouse"))


def made(name: str, alert_ids: tuple[str, ...] = ("a1",), turn: Turn = Turn.FIRING, **more: object) -> Call:
    call = Call(name, turn, "", "leaving", "error", "desk", NOW_US, 0, alert_ids, '{"over_budget": false}')
    return replace(call, **more)  # type: ignore[arg-type]


def tried(call_id: str, number: int, outcome: Outcome) -> Attempt:
    next_us = NOW_US + 5_000_000 if outcome is Outcome.FAILED else 0
    return Attempt(call_id, "desk", number, NOW_US, 1234, outcome, 503, "HTTP 503", next_us)


def attempted(store: Store, *attempts: Attempt) -> None:
    if isinstance(store, FakeAlertStore):
        store.attempts_by_place |= {(each.call_id, each.number): each for each in attempts}
    else:
        assert isinstance(store, Tables)
        store.write_attempts(attempts)


def ids(calls: list[Call]) -> list[str]:
    return sorted(call.call_id for call in calls)


def at(name: str, **more: Any) -> Alert:
    return alert(name, NOW_US, **more)


def test_states_come_back_by_rule_and_customer(store: Store) -> None:
    names = ["ann", "o'b\\r", "größe\n", ""]
    states = [
        AlertState("leaving", name, Phase.FIRING, NOW_US, "a1", NOW_US - 1, NOW_US - 2, 65_535, 2**62) for name in names
    ] + [AlertState("", "ann", Phase.IDLE, 0, "", 0, 0, 3, 7)]
    store.write_states(states)
    assert store.load_states(names) == {(state.rule, state.customer_id): state for state in states}
    assert store.load_states(["bob"]) == {}
    assert store.load_states([]) == {}


def test_of_a_state_the_highest_offset_stands(store: Store) -> None:
    later = AlertState("leaving", "ann", Phase.IDLE, NOW_US, "a1", 1, 2, 3, 9)
    store.write_states([later])
    store.write_states([replace(later, phase=Phase.FIRING, log_offset=8)])
    assert store.load_states(["ann"]) == {("leaving", "ann"): later}


def test_alerts_come_back_as_they_were(store: Store) -> None:
    alerts = [
        at("ann"),
        at("ann", turn=Turn.RESOLVED, due_us=NOW_US + DAY_US),
        at("büro 'x'\\", facts={"risk": "", "band": "high", "score": 41.0, "value_at_risk": 1e9, "segment": "größer"}),
    ]
    store.write_alerts(alerts)
    key = repr
    assert sorted(map(key, store.waiting())) == sorted(map(key, alerts))


def test_a_fate_stands_over_waiting_whichever_was_written_last(store: Store) -> None:
    ann, key = at("ann"), (at("ann").alert_id, Turn.FIRING)
    store.write_alerts([ann])
    assert store.fates([ann]) == {key: Fate.WAITING}
    store.write_alerts([ann], {key: Fate.HELD_OUT})
    store.write_alerts([ann])
    assert store.fates([ann, at("bob")]) == {key: Fate.HELD_OUT}
    assert store.waiting() == []
    assert store.fates([]) == {}


def test_turns_have_fates_of_their_own(store: Store) -> None:
    firing, resolved = at("ann"), at("ann", turn=Turn.RESOLVED)
    store.write_alerts([firing, resolved], {(firing.alert_id, Turn.FIRING): Fate.CALLED})
    assert [each.turn for each in store.waiting()] == [Turn.RESOLVED]


def test_past_calls_are_those_of_a_day_the_open_and_those_about_who_waits(store: Store) -> None:
    old_us = NOW_US - 3 * DAY_US
    store.write_calls(
        [
            made("recent"),
            made("answer", ("a9",), Turn.RESOLVED, about="old-answered", made_us=old_us),
            made("old-open", ("a8",), made_us=old_us),
            made("old-answered", ("a9",), made_us=old_us),
        ]
    )
    assert ids(store.past_calls(NOW_US + HOUR_US, [])) == ["old-open", "recent"]
    waits = at("ann", alert_id="a9")
    assert ids(store.past_calls(NOW_US + HOUR_US, [waits])) == ["answer", "old-answered", "old-open", "recent"]
    again = {call.call_id: call for call in store.past_calls(NOW_US, [waits])}
    assert again["recent"] == made("recent")
    assert again["answer"].about == "old-answered"


def test_unfinished_are_calls_that_were_neither_delivered_nor_given_up(store: Store) -> None:
    store.write_calls([made(name) for name in ("untried", "failed", "delivered", "dead", "again", "late")])
    attempted(
        store,
        tried("failed", 1, Outcome.FAILED),
        tried("failed", 2, Outcome.FAILED),
        tried("delivered", 1, Outcome.FAILED),
        tried("delivered", 2, Outcome.DELIVERED),
        tried("dead", 1, Outcome.DEAD),
        tried("again", 1, Outcome.DEAD),
        tried("again", 2, Outcome.FAILED),  # sent again by hand
        tried("late", 2, Outcome.DELIVERED),
        tried("late", 1, Outcome.FAILED),
    )
    calls, attempts = store.unfinished()
    assert ids(calls) == ["again", "failed", "untried"]
    assert sorted((each.call_id, each.number) for each in attempts) == [
        ("again", 1),
        ("again", 2),
        ("failed", 1),
        ("failed", 2),
    ]
    assert next(each for each in attempts if each.call_id == "failed" and each.number == 2) == tried(
        "failed", 2, Outcome.FAILED
    )


def test_over_budget_and_untold_are_firing_turns_of_which_no_call_tells(store: Store) -> None:
    alerts = [at("told"), at("untold"), at("called"), at("resolved", turn=Turn.RESOLVED)]
    fates = {(each.alert_id, each.turn): Fate.OVER_BUDGET for each in alerts}
    fates[alerts[2].alert_id, Turn.FIRING] = Fate.CALLED
    store.write_alerts(alerts, fates)
    store.write_calls([made("notice", (alerts[0].alert_id,))])
    assert [each.customer_id for each in store.over_budget_untold()] == ["untold"]


def test_a_focus_alert_is_found_by_its_rule(store: Store) -> None:
    store.write_alerts([at("x", customer_id="", subject="touchpoint=checkout", rule="worse"), at("ann", rule="worse")])
    assert [each.subject for each in store.focus_alerts("worse")] == ["touchpoint=checkout"]
    assert store.focus_alerts("other'; --") == []


def test_many_customers_are_looked_up_in_parts(clickhouse: ClickHouse) -> None:
    tables = Tables(clickhouse)
    many = [f"customer-{number}" for number in range(20_001)]
    states = [AlertState("leaving", name, Phase.PENDING, NOW_US, "", 0, 0, 0, 1) for name in (many[0], many[-1])]
    tables.write_states(states)
    assert len(tables.load_states(many)) == 2


def test_segments_come_in_the_order_of_the_log(clickhouse: ClickHouse) -> None:
    clickhouse.query(
        "INSERT INTO touchstone.touchpoints (customer_id, log_partition, log_offset, event_id, attributes) VALUES "
        "('ann', 1, 9, unhex('01'), map('segment', 'gold')), ('ann', 1, 3, unhex('02'), map('segment', 'silver')), "
        "('ann', 1, 5, unhex('03'), map('other', 'x')), ('bob', 1, 6, unhex('04'), map('other', 'x'))"
    )
    assert Tables(clickhouse).segments(["ann", "bob"]) == {"ann": [(3, "silver"), (9, "gold")]}


def test_a_reading_of_the_rules_is_kept_once_with_its_first_time(clickhouse: ClickHouse) -> None:
    rules: RuleSet = rule_set(rule(cost_of_contact=4.5, hold_out=0.25))
    tables = Tables(clickhouse)
    tables.write_rules(rules, NOW_US)
    tables.write_rules(rules, NOW_US + DAY_US)
    rows = clickhouse.query("SELECT rule, cost_of_contact, hold_out, loaded_at FROM touchstone.alert_rules FINAL")
    assert [(name, cost, share, micros(loaded)) for name, cost, share, loaded in rows] == [
        ("leaving", 4.5, 0.25, NOW_US)
    ]


async def test_the_dispatchers_store_finds_calls_with_their_attempts(clickhouse: ClickHouse) -> None:
    tables = Tables(clickhouse)
    calls = CallStore(tables)
    tables.write_calls([made("one"), made("two")])
    await calls.record([tried("one", 1, Outcome.FAILED), tried("one", 2, Outcome.DELIVERED)])
    await calls.record([tried("one", 2, Outcome.DELIVERED)])
    found = {stored.call.call_id: stored for stored in await calls.find(["one", "two", "three"])}
    assert found.keys() == {"one", "two"}
    assert list(found["one"].attempts) == [tried("one", 1, Outcome.FAILED), tried("one", 2, Outcome.DELIVERED)]
    assert list(found["two"].attempts) == []
    assert await calls.find([]) == []


def test_times_are_whole_microseconds_either_way() -> None:
    assert micros(moment(NOW_US)) == NOW_US
    assert micros(moment(0)) == 0
