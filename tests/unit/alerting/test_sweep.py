"""Who is due for a review, and how patiently it is asked again."""

from __future__ import annotations

from services.alerting.alert import AlertState, Phase
from services.alerting.decide import may_change_from_us
from services.alerting.rules.model import RuleSet
from services.alerting.sweep import MOST_AT_ONCE, Candidate, Patience, asks_for_segments, candidates_sql, is_due
from tests.fakes.alerting import HOUR_US, START_US, Alerting, rule, rule_set, signal

SECOND_US = 1_000_000


def candidate(*, enters: bool, leaves: bool, name: str = "ann") -> Candidate:
    return Candidate(name, 3, 7, [int(enters)], [int(leaves)])


def due(rules: RuleSet, state: AlertState | None, now_us: int, *, enters: bool, leaves: bool) -> bool:
    states = {} if state is None else {(state.rule, state.customer_id): state}
    return is_due(rules, candidate(enters=enters, leaves=leaves), states, now_us)


def stands(phase: Phase, since_us: int = START_US, fired_us: int = 0, resolved_us: int = 0) -> AlertState:
    return AlertState("leaving", "ann", phase, since_us, "", fired_us, resolved_us, 3, 6)


def test_idle_is_due_where_it_would_be_entered() -> None:
    rules = rule_set(rule())
    for state in (None, stands(Phase.IDLE)):
        assert due(rules, state, START_US, enters=True, leaves=False)
        assert not due(rules, state, START_US, enters=False, leaves=True)


def test_pending_is_due_when_it_has_held_long_enough_or_holds_no_more() -> None:
    rules = rule_set(rule(for_="1h"))
    state = stands(Phase.PENDING)
    assert not due(rules, state, START_US + HOUR_US - 1, enters=True, leaves=False)
    assert due(rules, state, START_US + HOUR_US, enters=True, leaves=False)
    assert due(rules, state, START_US, enters=False, leaves=True)


def test_pending_waits_for_the_cooldown_too() -> None:
    rules = rule_set(rule(for_="1h", cooldown="5h"))
    state = stands(Phase.PENDING, resolved_us=START_US)
    assert not due(rules, state, START_US + 5 * HOUR_US - 1, enters=True, leaves=False)
    assert due(rules, state, START_US + 5 * HOUR_US, enters=True, leaves=False)


def test_firing_is_due_where_it_would_be_left_and_may_be() -> None:
    rules = rule_set(rule(keep_firing_for="2h"))
    state = stands(Phase.FIRING, fired_us=START_US)
    assert not due(rules, state, START_US + 2 * HOUR_US - 1, enters=False, leaves=True)
    assert due(rules, state, START_US + 2 * HOUR_US, enters=False, leaves=True)
    assert not due(rules, state, START_US + 9 * HOUR_US, enters=True, leaves=False)


def test_what_is_due_moves_and_what_moves_is_due() -> None:
    """`is_due` says before what `decide` does: at each hour a review now is due exactly if a signal now moves it."""
    rules = rule_set(rule(for_="2h", keep_firing_for="3h", cooldown="4h"))
    alerting = Alerting(rules)
    for hour, high in enumerate([1, 1, 0, 1, 1, 1, 0, 0, 1, 0, 1, 1, 1, 1, 1, 0, 0, 1, 1, 1]):
        now_us = START_US + hour * HOUR_US
        before = alerting.states.get(("leaving", "ann"))
        wanted = due(rules, before, now_us, enters=bool(high), leaves=not high)
        alerting.take(signal(offset=hour, at_us=now_us, band="high" if high else "low"))
        moved = alerting.states.get(("leaving", "ann")) != before
        assert wanted == moved, f"hour {hour}, before: {before}"


def test_one_rule_of_several_is_enough() -> None:
    rules = rule_set(rule("one"), rule("two"))
    assert is_due(rules, Candidate("ann", 3, 7, [0, 1], [1, 0]), {}, START_US)
    assert not is_due(rules, Candidate("ann", 3, 7, [0, 0], [1, 1]), {}, START_US)


def test_segments_are_asked_for_only_where_a_rule_does() -> None:
    assert not asks_for_segments(rule_set(rule()))
    assert asks_for_segments(rule_set(rule("one"), rule("two", until="segment = 'gold'")))
    assert "attributes" not in candidates_sql(rule_set(rule()))


def test_who_is_asked_for_in_vain_is_asked_for_ever_more_rarely() -> None:
    patience, someone = Patience(SECOND_US), candidate(enters=True, leaves=False)
    asked = [now for now in range(100) if patience.choose([someone], START_US + now * SECOND_US)]
    assert asked == [0, 10, 20, 30, 40, 56, 88], "ten seconds are left to the answer"


def test_who_was_settled_is_asked_for_at_once_again() -> None:
    patience, someone = Patience(SECOND_US), candidate(enters=True, leaves=False)
    for now in range(3):
        patience.choose([someone], START_US + now * SECOND_US)
    assert patience.choose([], START_US + 3 * SECOND_US) == []
    assert patience.choose([someone], START_US + 4 * SECOND_US) == [someone]


def test_a_sweep_is_bounded_and_the_rest_comes_next() -> None:
    patience = Patience(SECOND_US)
    many = [candidate(enters=True, leaves=False, name=f"c{number}") for number in range(MOST_AT_ONCE + 5)]
    first = patience.choose(many, START_US)
    assert len(first) == MOST_AT_ONCE
    assert patience.choose(many, START_US + 1) == many[MOST_AT_ONCE:]


def test_pending_that_never_waits_may_change_at_once() -> None:
    assert may_change_from_us(rule_set(rule()).rules[0], stands(Phase.IDLE)) == 0
