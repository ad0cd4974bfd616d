"""What a rule makes of a customer's signals, one turn after the other."""

from __future__ import annotations

import math

import pytest

from services.alerting.alert import Fate, Phase, Turn, stable_id
from services.alerting.decide import PLACE, decide, may_change_from_us
from tests.fakes.alerting import DAY_US, HOUR_US, START_US, Alerting, frame, rule, rule_set, signal


def turns(alerting: Alerting) -> list[tuple[str, int]]:
    return [(alert.turn.value, alert.log_offset) for alert in alerting.alerts]


def test_fires_once_and_resolves_once() -> None:
    alerting = Alerting(rule_set())
    for offset, band in enumerate(["low", "high", "high", "elevated", "low", "high"]):
        alerting.take(signal(offset=offset, band=band))
    assert turns(alerting) == [("firing", 1), ("resolved", 3), ("firing", 5)]
    first, resolved, second = alerting.alerts
    assert first.alert_id == resolved.alert_id == stable_id("alert", "leaving", "ann", "3", "1")
    assert second.alert_id != first.alert_id
    assert resolved.fired_us == first.at_us == START_US + HOUR_US
    assert first.fate is Fate.WAITING


def test_enters_and_leaves_at_levels_of_their_own() -> None:
    alerting = Alerting(rule_set(rule(until="band = 'low'")))
    for offset, band in enumerate(["high", "elevated", "high", "elevated", "low", "elevated"]):
        alerting.take(signal(offset=offset, band=band))
    assert turns(alerting) == [("firing", 0), ("resolved", 4)]


def test_fires_only_after_the_condition_has_held_for_so_long() -> None:
    alerting = Alerting(rule_set(rule(for_="2h")))
    for offset, band in enumerate(["high", "high", "low", "high", "high", "high", "high"]):
        alerting.take(signal(offset=offset, band=band))
    assert turns(alerting) == [("firing", 5)]


def test_fires_at_least_for_so_long() -> None:
    alerting = Alerting(rule_set(rule(keep_firing_for="3h")))
    for offset, band in enumerate(["high", "low", "low", "low"]):
        alerting.take(signal(offset=offset, band=band))
    assert turns(alerting) == [("firing", 0), ("resolved", 3)]


def test_rests_after_it_resolved_and_then_needs_no_new_crossing() -> None:
    alerting = Alerting(rule_set(rule(cooldown="1d")))
    alerting.take(signal(offset=0, band="high"), signal(offset=1, band="low"), signal(offset=2, band="high"))
    state = alerting.states["leaving", "ann"]
    assert state.phase is Phase.PENDING
    assert may_change_from_us(alerting.rules.rules[0], state) == START_US + HOUR_US + DAY_US
    alerting.take(signal(offset=24, band="high"), signal(offset=25, band="high"))
    assert turns(alerting) == [("firing", 0), ("resolved", 1), ("firing", 25)]


def test_leaving_wins_over_entering() -> None:
    alerting = Alerting(rule_set(rule(until="score < 10")))
    assert alerting.take(signal(band="high", score=5.0)) == []


@pytest.mark.parametrize("unknown", [math.nan, math.inf])
def test_what_is_not_finite_neither_fires_nor_resolves(unknown: float) -> None:
    alerting = Alerting(rule_set(rule(when="risk > 0.5")))
    alerting.take(signal(offset=0, risk=unknown), signal(offset=1, risk=0.9), signal(offset=2, risk=unknown))
    assert turns(alerting) == [("firing", 1)]
    alerting.take(signal(offset=3, risk=0.1))
    assert alerting.alerts[-1].turn is Turn.RESOLVED


def test_repeats_decide_nothing() -> None:
    alerting = Alerting(rule_set())
    signals = [signal(offset=offset, band="high" if offset % 2 else "low") for offset in range(6)]
    alerting.take(*signals, *signals)
    before, states = list(alerting.alerts), dict(alerting.states)
    assert len(before) == 5
    decided = alerting.take_frame(frame(signals[2:]))
    assert (decided.alerts, decided.states) == ([], [])
    assert (alerting.alerts, alerting.states) == (before, states)


def test_a_rules_row_that_was_written_before_the_place_is_not_walked_again() -> None:
    alerting = Alerting(rule_set())
    alerting.take(signal(offset=0, band="high"))
    del alerting.states[PLACE, "ann"]
    assert alerting.take(signal(offset=0, band="high")) == []


def test_keeps_a_place_for_every_customer_and_a_state_only_where_something_happened() -> None:
    decided = decide(rule_set(), frame([signal("ann", 1), signal("bob", 2), signal("bob", 5)]), {})
    assert {(state.rule, state.customer_id, state.log_offset) for state in decided.states} == {
        (PLACE, "ann", 1),
        (PLACE, "bob", 5),
    }


def test_a_rule_that_was_removed_is_resolved_at_the_next_signal() -> None:
    alerting = Alerting(rule_set(rule(), rule("waits", for_="1d")))
    alerting.take(signal(offset=0, band="high"))
    alerting.rules = rule_set(rule("other"))
    alerts = alerting.take(signal(offset=1, band="high"), signal(offset=2, band="high"))
    assert [(alert.rule, alert.turn) for alert in alerts] == [("other", Turn.FIRING), ("leaving", Turn.RESOLVED)]
    assert "no longer in the rules file" in alerts[1].summary
    assert alerting.states["waits", "ann"].phase is Phase.IDLE
    assert alerting.take(signal(offset=3, band="high")) == []


def test_another_reading_of_the_rules_gives_the_same_id() -> None:
    one, other = Alerting(rule_set(rule(severity="info"))), Alerting(rule_set(rule(severity="error")))
    first, second = one.take(signal(band="high"))[0], other.take(signal(band="high"))[0]
    assert first.alert_id == second.alert_id
    assert first.rules_version != second.rules_version


def test_an_alert_says_what_was_known() -> None:
    alerting = Alerting(rule_set(rule(answer_within="24h", severity="error")))
    (alert,) = alerting.take(
        signal("ann\n<b>", band="high", risk=0.71, score=31.4, value_at_risk=1234.5, volatility=math.nan)
    )
    assert alert.summary == ("Customer ann <b>: risk 71% (high), score 31, value at risk 1,234.50. A complaint waits.")
    assert alert.facts["volatility"] == ""
    assert alert.facts["band"] == "high"
    assert alert.reasons == [("A complaint waits.", 1.2)]
    assert alert.due_us == START_US + DAY_US
    assert (alert.severity, alert.owner, alert.customer_id) == ("error", "retention", "ann\n<b>")


def test_alerts_come_in_the_order_of_the_log() -> None:
    alerting = Alerting(rule_set(rule("b"), rule("a")))
    alerts = alerting.take(signal("x", 9, band="high"), signal("y", 4, band="high"))
    assert [(alert.log_offset, alert.rule) for alert in alerts] == [(4, "b"), (4, "a"), (9, "b"), (9, "a")]


def test_nothing_comes_of_nothing() -> None:
    assert decide(rule_set(), frame([]), {}).alerts == []
