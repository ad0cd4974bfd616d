"""Parts of the company against their own past: what fires, when it resolves, and that nothing flutters."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from services.alerting.alert import Alert, Turn, stable_id
from services.alerting.focus import (
    DAY_US,
    FIRST_MONDAY_US,
    HOUR_US,
    FocusRule,
    ends_due,
    judge,
    latest_end_us,
    observe,
    reads_from_us,
    states_of,
)
from services.alerting.focus_measure import Measured, compare, measured
from services.alerting.rules.read import read_rules
from tests.unit.alerting.focus_windows import Reading, end_of, life, moved, windows_of

FELT = FocusRule("checkout-felt-worse", "touchpoint", "felt", owner="shop", answer_within_us=DAY_US)
HAPHAZARD = replace(FELT, name="haphazard", measure="haphazardness")
VERSION = "rules-1"


def alerts_of(rule: FocusRule, readings: list[Reading], days: range) -> list[Alert]:
    """All turns when each of the days has closed, one after another."""
    windows, turns = windows_of(readings), list[Alert]()
    for day in days:
        turns += judge(rule, windows, end_of(day), states_of(turns), VERSION)
    return turns


def told(alerts: list[Alert]) -> list[tuple[str, str, int]]:
    return [(alert.subject, alert.turn, (alert.at_us - FIRST_MONDAY_US) // DAY_US - 1) for alert in alerts]


def test_the_measures_are_those_of_the_readings() -> None:
    readings = [(0, "a", "x", 1.0, 0.5), (0, "a", "x", 2.0, -0.5), (0, "a", "y", 1.5, 0.9), (0, "a", "z", 0.5, -1.0)]
    weight = np.array([reading[3] for reading in readings])
    valence = np.array([reading[4] for reading in readings])
    mean = np.average(valence, weights=weight)
    windows = windows_of(readings)
    assert measured(windows, "felt").value[0] == pytest.approx(mean)
    spread = np.sqrt(np.average((valence - mean) ** 2, weights=weight))
    assert measured(windows, "haphazardness").value[0] == pytest.approx(spread)


@pytest.mark.parametrize("measure", ["felt", "haphazardness"])
def test_sampling_errors_are_those_of_samples_drawn_again(measure: str) -> None:
    random = np.random.default_rng(3)
    windows = windows_of(
        (0, f"p{sample}", f"c{customer}", float(random.choice([0.6, 1.5])), float(np.clip(mood + noise, -1, 1)))
        for sample in range(150)
        for customer, mood in enumerate(random.normal(0.1, 0.3, 40))
        for noise in random.normal(0, 0.3, 1 + customer % 4)
    )
    found = measured(windows, measure)  # type: ignore[arg-type]
    assert np.sqrt(found.variance.mean()) == pytest.approx(found.value.std(), rel=0.2)


def test_a_customer_felt_about_often_is_one_witness() -> None:
    once = [(0, "a", f"c{n}", 1.0, value) for n, value in enumerate((0.1, -0.4, 0.8, 0.3))]
    often = measured(windows_of(once * 50), "felt")
    assert often.variance[0] == pytest.approx(measured(windows_of(once), "felt").variance[0])


def test_one_customer_proves_nothing() -> None:
    assert np.isinf(measured(windows_of([(0, "a", "x", 1.0, 0.5)]), "felt").variance[0])


def test_an_incident_in_the_past_does_not_move_the_usual() -> None:
    random = np.random.default_rng(5)
    value, variance = random.normal(0.3, 0.02, 28), np.full(28, 1e-4)
    calm = compare(0.2, 1e-4, 100, Measured(value, variance), high_is_bad=False)
    value[10:15] = -0.9
    after = compare(0.2, 1e-4, 100, Measured(value, variance), high_is_bad=False)
    assert after.usual == pytest.approx(calm.usual, abs=0.02)
    assert after.chance < 0.01


def test_where_nothing_changes_alarms_are_as_rare_as_promised() -> None:
    random = np.random.default_rng(7)
    chances = []
    for _ in range(2000):
        variance = random.uniform(0.5, 2.0, 29) * 1e-3
        value = random.normal(0.3, np.sqrt(variance + 1e-3))
        past = Measured(value[:-1], variance[:-1])
        chances.append(compare(value[-1], variance[-1], 200, past, high_is_bad=False).chance)
    assert 0.03 < np.mean(np.array(chances) <= 0.05) < 0.07
    assert np.mean(np.array(chances) <= 0.01) < 0.018


def test_a_part_felt_worse_fires_and_resolves_once() -> None:
    readings = moved(life(1, 45), "checkout", range(35, 40), by=-0.3)
    alerts = alerts_of(FELT, readings, range(30, 45))
    assert told(alerts) == [("touchpoint=checkout", "firing", 35), ("touchpoint=checkout", "resolved", 40)]
    fired, resolved = alerts
    assert fired.alert_id == resolved.alert_id == stable_id("focus", FELT.name, fired.subject, str(end_of(35)))
    assert (fired.customer_id, fired.signal_id, fired.owner) == ("", "", "shop")
    assert fired.facts["customers"] == 100.0
    assert fired.due_us == fired.at_us + DAY_US
    assert "Touchpoint checkout is felt worse than usual: 47 points of 100 against 65" in fired.summary
    assert "100 customers on 1970-02-09" in fired.summary
    assert "as usual again" in resolved.summary


def test_better_is_no_alarm_and_haphazard_is_another_one() -> None:
    readings = moved(life(2, 45), "checkout", range(35, 45), by=0.3)
    assert alerts_of(FELT, readings, range(30, 45)) == []
    readings = moved(life(2, 45, noise=0.2), "delivery", range(35, 45), spread=2.0)
    assert told(alerts_of(HAPHAZARD, readings, range(30, 45))) == [("touchpoint=delivery", "firing", 35)]


def test_the_same_windows_give_the_same_alerts() -> None:
    readings = moved(life(3, 45), "checkout", range(35, 45), by=-0.4)
    first = alerts_of(FELT, readings, range(30, 45))
    random = np.random.default_rng(0)
    again = alerts_of(FELT, [readings[n] for n in random.permutation(len(readings))], range(30, 45))
    assert [(a.alert_id, a.turn, a.at_us) for a in first] == [(a.alert_id, a.turn, a.at_us) for a in again]
    windows = windows_of(readings)
    states = states_of(first[:1])
    assert judge(FELT, windows, end_of(35), states, VERSION) == [], "judged again, it has fired already"
    assert judge(FELT, windows, end_of(35), {}, VERSION)[0].alert_id == first[0].alert_id


def test_what_wavers_between_the_levels_neither_resolves_nor_fires_again() -> None:
    readings = moved(life(4, 60, customers=400, between=0.01), "checkout", range(35, 60), by=-0.4)
    readings = moved(readings, "checkout", range(36, 60, 2), by=0.25)  # 7.5 points below: not worth firing by itself
    rule = replace(FELT, change_at_least=0.2)
    assert told(alerts_of(rule, readings, range(30, 60))) == [("touchpoint=checkout", "firing", 35)]


def test_what_lasts_as_long_as_the_past_becomes_the_usual() -> None:
    readings = moved(life(5, 80), "checkout", range(35, 80), by=-0.4)
    alerts = alerts_of(FELT, readings, range(30, 80))
    assert told(alerts) == [("touchpoint=checkout", "firing", 35), ("touchpoint=checkout", "resolved", 63)]
    assert "counts as usual from now on" in alerts[1].summary


def test_after_resolving_the_cooldown_is_kept() -> None:
    readings = life(6, 60, ("checkout",))
    readings = moved(moved(readings, "checkout", range(35, 37), by=-0.4), "checkout", range(40, 48), by=-0.4)
    turns = [day for _, turn, day in told(alerts_of(replace(FELT, cooldown_us=5 * DAY_US), readings, range(30, 60)))]
    assert turns[:2] == [35, 37]
    assert turns[2] == 42


def test_few_customers_fire_nothing() -> None:
    readings = moved(life(7, 45, customers=49), "checkout", range(35, 45), by=-0.6)
    assert alerts_of(FELT, readings, range(30, 45)) == []
    assert alerts_of(replace(FELT, customers_at_least=49), readings, range(30, 45))


def test_a_short_past_gives_no_verdict() -> None:
    readings = moved(life(8, 10), "checkout", range(3, 10), by=-0.6)
    assert observe(FELT, windows_of(readings), end_of(3), {}) == []
    assert observe(FELT, windows_of(readings), end_of(4), {}) != []
    assert observe(FELT, windows_of(readings).clear(), end_of(4), {}) == []


def test_one_customer_fires_nothing_whatever_the_rule_says() -> None:
    readings = moved(life(12, 45, customers=1), "checkout", range(35, 45), by=-0.9)
    assert alerts_of(replace(FELT, customers_at_least=1), readings, range(30, 45)) == []


def test_what_was_always_the_same_and_is_not_any_more_fires() -> None:
    readings = [(day, "checkout", f"c{n}", 1.0, 0.5 if day < 30 else 0.1) for day in range(31) for n in range(60)]
    [alert] = alerts_of(FELT, readings, range(28, 31))
    assert alert.at_us == end_of(30)


def test_a_rule_of_the_file_is_taken_as_it_stands() -> None:
    text = """
version: 1
receivers: [{name: desk, type: file, path: calls.jsonl}]
focus:
  - {name: worse, by: channel, measure: haphazardness, window: 12h, against: 14d, customers_at_least: 7,
     change_at_least: 0.2, standard_errors: 2, severity: error, owner: shop, receivers: [desk], cooldown: 1d,
     answer_within: 2h}
"""
    rule = FocusRule.of(read_rules(text).rules.focus[0])
    assert rule == FocusRule(
        *("worse", "channel", "haphazardness", 12 * HOUR_US, 14 * DAY_US, 7, 2.0, 0.2),
        *(DAY_US, 2 * HOUR_US, "error", "shop"),
    )
    assert rule.false_alarms == pytest.approx(0.02275, abs=1e-5)


def test_many_parts_are_asked_at_once() -> None:
    windows = windows_of(life(9, 30, tuple(f"p{n:02}" for n in range(30)), customers=60))
    for seen in observe(FELT, windows, end_of(29), {}):
        assert seen.adjusted >= seen.found.chance


def test_weekends_are_held_against_weekends() -> None:
    readings = [
        (day, part, customer, weight, valence - (0.3 if day % 7 == 6 else 0.0))
        for day, part, customer, weight, valence in life(10, 64)
    ]
    rule = replace(FELT, against_us=56 * DAY_US)
    seen = {s.part: s.found for s in observe(rule, windows_of(readings), end_of(62), {})}  # a Sunday
    assert seen["checkout"].windows == 8
    assert seen["checkout"].usual == pytest.approx(0.0, abs=0.05)
    assert alerts_of(rule, readings, range(57, 64)) == []


def test_windows_close_in_order_and_after_settling() -> None:
    settled = end_of(3) + 300_000_000
    assert latest_end_us(FELT, settled - 1) == end_of(2)
    assert latest_end_us(FELT, settled) == end_of(3)
    assert list(ends_due(FELT, end_of(0), settled)) == [end_of(1), end_of(2), end_of(3)]
    assert list(ends_due(FELT, end_of(3), settled)) == []
    hourly = replace(FELT, window_us=HOUR_US)
    assert latest_end_us(hourly, end_of(3) + HOUR_US // 2) == end_of(3)


def test_an_alert_that_fires_keeps_the_past_it_fired_against() -> None:
    readings = moved(life(11, 60), "checkout", range(35, 60), by=-0.4)
    turns = alerts_of(FELT, readings, range(30, 36))
    states = states_of(turns)
    assert reads_from_us(FELT, states, end_of(50)) == end_of(35) - 29 * DAY_US
    assert reads_from_us(FELT, {}, end_of(50)) == end_of(50) - 29 * DAY_US
    assert reads_from_us(FELT, {}, end_of(1)) == FIRST_MONDAY_US
    needed = windows_of(readings).filter(pl.col("start_us") >= reads_from_us(FELT, states, end_of(50)))
    [checkout] = [seen for seen in observe(FELT, needed, end_of(50), states) if seen.part == "checkout"]
    assert checkout.found.usual == pytest.approx(0.3, abs=0.04)


def test_states_follow_from_the_turns_alone() -> None:
    readings = moved(life(1, 45), "checkout", range(35, 40), by=-0.3)
    alerts = alerts_of(FELT, readings, range(30, 45))
    [state] = states_of(alerts[::-1]).values()
    assert not state.firing
    assert (state.fired_us, state.resolved_us) == (end_of(35), end_of(40))
    assert alerts[0].turn == Turn.FIRING
