"""From alerts to calls: storms, budgets, quiet hours, hold-outs, resolved notices, crashes."""

from __future__ import annotations

from typing import Any

import pytest

from services.alerting.alert import Alert, Call, Fate, Turn
from services.alerting.past import Past
from services.alerting.plan import Plan, is_held_out, plan
from services.alerting.rules.model import RuleSet
from services.alerting.tell import calls
from tests.fakes.alerting import DAY_US, HOUR_US, MINUTE_US, START_US, alert, rule, rule_set

SECOND_US = 1_000_000


class Desk:
    """Plans as alerting does: what waits, what was called, all of it kept as tables keep it."""

    def __init__(self, *rules: dict[str, Any], **more: Any) -> None:
        self.rules: RuleSet = rule_set(*rules, **more)
        self.now_us = START_US
        self.waiting: list[Alert] = []
        self.fates: dict[tuple[str, Turn], Fate] = {}
        self.rows: list[Call] = []
        self.over: list[Alert] = []
        self.past = Past()

    def fire(self, *alerts: Alert) -> None:
        self.waiting += alerts

    def plan(self, after_us: int = 0) -> Plan:
        """Plan, write the calls, write the fates."""
        self.now_us += after_us
        made = plan(self.rules, self.waiting, self.past, self.now_us)
        rows = [call for planned in made.calls for call in calls(planned, self.rules)]
        self.rows += rows
        self.past = self.past.after(rows, made.fates, self.waiting)
        assert not self.fates.keys() & made.fates.keys(), "a turn has one fate"
        self.fates |= made.fates
        self.over += [a for a in self.waiting if made.fates.get((a.alert_id, a.turn)) is Fate.OVER_BUDGET]
        self.waiting = [a for a in self.waiting if (a.alert_id, a.turn) not in made.fates]
        return made

    def rebuilt(self) -> Past:
        """The past as it is read from the tables."""
        told = {alert_id for call in self.rows for alert_id in call.alert_ids}
        return Past.of(self.rows, [a for a in self.over if a.alert_id not in told])

    def run(self, for_us: int, step_us: int = SECOND_US) -> int:
        """Plan whenever a step has passed; how many calls it made."""
        before, end_us = len(self.rows), self.now_us + for_us
        while self.now_us < end_us:
            self.plan(step_us)
        return len(self.rows) - before


def group(above: int = 10, within: str = "10m", wait: str = "0s") -> dict[str, Any]:
    return {"above": above, "within": within, "wait": wait}


def test_one_alert_is_one_call_to_each_receiver() -> None:
    desk = Desk(rule(receivers=("desk", "pager"), group=group(wait="1s")))
    desk.fire(alert("ann"))
    assert desk.plan().wake_us == START_US + SECOND_US
    made = desk.plan(SECOND_US)
    assert [call.receivers for call in made.calls] == [("desk", "pager")]
    assert [call.receiver for call in desk.rows] == ["desk", "pager"]
    assert len({call.call_id for call in desk.rows}) == 2
    assert made.fates == {(alert("ann").alert_id, Turn.FIRING): Fate.CALLED}
    assert desk.plan(HOUR_US).calls == []


def test_an_incident_is_one_call() -> None:
    desk = Desk(rule(group=group(wait="1s")))
    desk.fire(*(alert(f"c{i}", START_US + i) for i in range(5_000)))
    made = desk.plan(2 * SECOND_US)
    assert [len(call.alerts) for call in made.calls] == [5_000]
    assert set(made.fates.values()) == {Fate.CALLED}
    assert desk.run(HOUR_US, MINUTE_US) == 0


@pytest.mark.parametrize("wait", ["0s", "1s", "20s"])
@pytest.mark.parametrize("above", [0, 1, 10])
def test_a_slow_incident_is_few_calls(above: int, wait: str) -> None:
    desk = Desk(rule(group=group(above, wait=wait), budget={"per_hour": 1_000, "per_day": 1_000}))
    for second in range(180):
        desk.fire(*(alert(f"c{second}-{i}", desk.now_us) for i in range(5_000 // 180 + 1)))
        desk.plan(SECOND_US)
    desk.run(11 * MINUTE_US, 10 * SECOND_US)
    assert len(desk.rows) <= above + 2
    assert desk.waiting == []
    assert sum(len(call.alert_ids) for call in desk.rows) == 180 * 28


def test_few_alerts_are_calls_of_their_own_and_the_costliest_comes_first() -> None:
    desk = Desk(rule(group=group()))
    desk.fire(*(alert(f"c{i}", facts={"value_at_risk": float(i)}) for i in range(10)))
    made = desk.plan()
    assert [call.alerts[0].customer_id for call in made.calls] == [f"c{i}" for i in reversed(range(10))]


def test_an_alert_from_a_clock_ahead_does_not_wait() -> None:
    desk = Desk(rule(group=group(wait="1s")))
    desk.fire(alert("ann", START_US + DAY_US))
    assert len(desk.plan().calls) == 1


def test_the_budget_counts_calls_and_a_notice_says_what_is_missing() -> None:
    desk = Desk(rule(group=group(100), budget={"per_hour": 3, "per_day": 5}))
    desk.fire(*(alert(f"c{i}", facts={"value_at_risk": float(i)}) for i in range(2)))
    assert len(desk.plan().calls) == 2
    desk.fire(alert("last"))
    assert len(desk.plan(MINUTE_US).calls) == 1
    desk.fire(alert("over-1"))
    made = desk.plan(MINUTE_US)
    assert [(call.notice, len(call.alerts)) for call in made.calls] == [(True, 1)]
    assert made.fates[alert("over-1").alert_id, Turn.FIRING] is Fate.OVER_BUDGET
    desk.fire(alert("over-2"), alert("over-3"))
    made = desk.plan(MINUTE_US)
    assert made.calls == []
    assert made.wake_us == START_US + 2 * MINUTE_US + HOUR_US
    assert set(made.fates.values()) == {Fate.OVER_BUDGET}
    desk.now_us = made.wake_us
    made = desk.plan()
    assert [(call.notice, len(call.alerts)) for call in made.calls] == [(True, 2)]
    assert desk.rebuilt().unnoticed == []


def test_with_too_little_budget_the_costliest_have_calls_of_their_own() -> None:
    desk = Desk(rule(group=group(), budget={"per_hour": 3, "per_day": 100}))
    desk.fire(*(alert(f"c{i}", facts={"value_at_risk": float(i)}) for i in range(8)))
    made = desk.plan()
    assert [len(call.alerts) for call in made.calls] == [1, 1, 6]
    assert [call.alerts[0].customer_id for call in made.calls] == ["c7", "c6", "c5"]


def test_quiet_hours_hold_calls_back_together() -> None:
    night = {"from": "23:00", "to": "08:00", "zone": "UTC"}
    desk = Desk(rule(quiet_hours=night, group=group(2)), rule("urgent", severity="critical", quiet_hours=night))
    desk.fire(*(alert(f"c{i}") for i in range(5)), alert("x", rule="urgent"))
    made = desk.plan(HOUR_US)
    assert [call.rule for call in made.calls] == ["urgent"]
    assert made.wake_us == START_US + 8 * HOUR_US
    assert desk.run(6 * HOUR_US, HOUR_US) == 0
    assert [len(call.alerts) for call in desk.plan(HOUR_US).calls] == [5]


def test_quiet_hours_may_hold_back_what_is_critical() -> None:
    night = {"from": "23:00", "to": "08:00", "zone": "UTC", "critical": True}
    desk = Desk(rule(severity="critical", quiet_hours=night))
    desk.fire(alert("ann"))
    assert desk.plan(MINUTE_US).calls == []


def test_what_resolved_before_anybody_was_called_is_not_told() -> None:
    desk = Desk(rule(quiet_hours={"from": "23:00", "to": "08:00"}))
    desk.fire(alert("ann"))
    desk.plan(HOUR_US)
    desk.fire(alert("ann", turn=Turn.RESOLVED))
    assert set(desk.plan(HOUR_US).fates.values()) == {Fate.UNTOLD}
    assert len(desk.fates) == 2
    assert desk.run(9 * HOUR_US, HOUR_US) == 0


def test_one_resolved_call_follows_when_all_of_a_call_resolved() -> None:
    desk = Desk(rule(receivers=("desk", "pager"), group=group(1)))
    desk.fire(*(alert(f"c{i}") for i in range(3)))
    desk.plan()
    desk.fire(alert("c0", turn=Turn.RESOLVED), alert("c2", turn=Turn.RESOLVED))
    made = desk.plan(HOUR_US)
    assert (made.calls, made.fates) == ([], {})
    desk.fire(alert("c1", turn=Turn.RESOLVED))
    (call,) = desk.plan(DAY_US).calls
    assert (call.turn, call.receivers, len(call.alerts)) == (Turn.RESOLVED, ("desk",), 3)
    about = {row.receiver: row.call_id for row in desk.rows if row.turn is Turn.FIRING}
    assert dict(call.about) == {"desk": about["desk"]}
    assert desk.rows[-1].about == about["desk"]
    assert desk.past.open == []


def test_nobody_who_hears_of_resolved_alerts_is_none_told() -> None:
    desk = Desk(rule(receivers=("pager",)))
    desk.fire(alert("ann"))
    desk.plan(HOUR_US)
    desk.fire(alert("ann", turn=Turn.RESOLVED))
    assert set(desk.plan(HOUR_US).fates.values()) == {Fate.UNTOLD}


def test_the_hold_out_is_recorded_and_not_called() -> None:
    desk = Desk(rule(hold_out=0.5, group=group(0)))
    desk.fire(*(alert(f"c{i}") for i in range(2_000)))
    (call,) = desk.plan().calls
    assert 900 < len(call.alerts) < 1_100
    kept = [key for key, fate in desk.fates.items() if fate is Fate.HELD_OUT]
    assert len(kept) + len(call.alerts) == 2_000
    desk.fire(alert(next(f"c{i}" for i in range(9) if (alert(f"c{i}").alert_id, Turn.FIRING) in kept)))
    shares = [sum(is_held_out(f"{i}", share) for i in range(5_000)) / 5_000 for share in (0.0, 0.1, 0.3)]
    assert shares == pytest.approx([0.0, 0.1, 0.3], abs=0.02)
    assert all(is_held_out(f"{i}", 0.3) for i in range(1_000) if is_held_out(f"{i}", 0.1))


def test_a_held_out_alert_that_resolved_is_not_told() -> None:
    name = next(f"c{i}" for i in range(99) if is_held_out(alert(f"c{i}").alert_id, 0.5))
    desk = Desk(rule(hold_out=0.5))
    desk.fire(alert(name))
    desk.plan(HOUR_US)
    desk.fire(alert(name, turn=Turn.RESOLVED))
    desk.plan(HOUR_US)
    assert desk.fates == {
        (alert(name).alert_id, Turn.FIRING): Fate.HELD_OUT,
        (alert(name).alert_id, Turn.RESOLVED): Fate.UNTOLD,
    }


def test_planning_again_after_a_crash_gives_the_same_calls() -> None:
    desk = Desk(rule(group=group(1)))
    desk.fire(*(alert(f"c{i}") for i in range(3)))
    waited = list(desk.waiting)
    first = desk.plan(HOUR_US)
    # Before the calls were written: the same calls. After it, before the fates: no call, the same fates.
    again = plan(desk.rules, waited, Past(), desk.now_us)
    assert again == first
    taken = plan(desk.rules, waited, Past.of(desk.rows), desk.now_us + MINUTE_US)
    assert (taken.calls, taken.fates) == ([], first.fates)


def test_a_notice_that_was_stored_is_not_taken_for_a_call() -> None:
    desk = Desk(rule(budget={"per_hour": 1, "per_day": 1}, group=group(100)))
    desk.fire(alert("one"))
    desk.plan()
    desk.fire(alert("two"))
    desk.plan(MINUTE_US)
    taken = plan(desk.rules, [alert("two")], Past.of(desk.rows), desk.now_us)
    assert taken.fates == {(alert("two").alert_id, Turn.FIRING): Fate.OVER_BUDGET}


def test_alerts_of_a_rule_that_was_removed_are_not_told_but_its_calls_are_resolved() -> None:
    desk = Desk(rule())
    desk.fire(alert("ann"))
    desk.plan(HOUR_US)
    desk.rules = rule_set(rule("other"))
    desk.fire(alert("bob"), alert("ann", turn=Turn.RESOLVED, severity="info", owner=""))
    made = desk.plan(HOUR_US)
    assert [(call.turn, call.receivers) for call in made.calls] == [(Turn.RESOLVED, ("desk",))]
    assert made.fates[alert("bob").alert_id, Turn.FIRING] is Fate.UNTOLD


def test_a_part_of_the_company_is_told_like_a_customer() -> None:
    focus = {"name": "checkout", "by": "touchpoint", "measure": "felt", "owner": "o", "receivers": ("desk",)}
    desk = Desk(focus=(focus,))
    desk.fire(alert("checkout", rule="checkout", customer_id="", subject="touchpoint=checkout"))
    assert [call.rule for call in desk.plan(HOUR_US).calls] == ["checkout"]


def test_the_past_in_memory_is_the_past_in_the_tables() -> None:
    desk = Desk(rule(group=group(2), budget={"per_hour": 2, "per_day": 3}, receivers=("desk", "pager")))
    for minute in range(200):
        desk.fire(alert(f"c{minute}", desk.now_us))
        if minute % 3 == 0:
            desk.fire(alert(f"c{minute // 2}", desk.now_us, Turn.RESOLVED))
        made = plan(desk.rules, desk.waiting, desk.rebuilt(), desk.now_us + MINUTE_US)
        assert desk.plan(MINUTE_US) == made
