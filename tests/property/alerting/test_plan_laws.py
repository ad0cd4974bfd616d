"""Laws of planning: whatever fires and resolves whenever, budgets hold, and every turn ends in exactly one fate."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from services.alerting.alert import Alert, Call, Fate, Turn
from services.alerting.past import Past
from services.alerting.plan import PlannedCall, plan
from services.alerting.rules.model import RuleSet
from services.alerting.tell import calls
from tests.fakes.alerting import DAY_US, HOUR_US, MINUTE_US, START_US, alert, rule, rule_set

STEPS = st.lists(
    st.tuples(st.sampled_from([1, 7, 45, 400]), st.integers(0, 9), st.lists(st.integers(0, 40), max_size=6)),
    min_size=1,
    max_size=14,
)
"""Of each step: minutes that pass, alerts that fire, and which of those that ever fired resolve."""

RULES = st.builds(
    lambda above, within, wait, hour, day, held, quiet, receivers: rule_set(
        rule(
            group={"above": above, "within": within, "wait": wait},
            budget={"per_hour": hour, "per_day": day},
            hold_out=held,
            quiet_hours={"from": "22:00", "to": "06:30", "zone": "Europe/Berlin"} if quiet else None,
            receivers=receivers,
        )
    ),
    st.sampled_from([0, 1, 4]),
    st.sampled_from(["1m", "10m", "3h"]),
    st.sampled_from(["0s", "1m"]),
    st.integers(1, 4),
    st.integers(1, 8),
    st.sampled_from([0.0, 0.4]),
    st.booleans(),
    st.sampled_from([("desk",), ("pager",), ("desk", "pager")]),
)


class World:
    """Alerting over days, its tables, and a crash before the fates of every third plan are written."""

    def __init__(self, rules: RuleSet) -> None:
        self.rules, self.now_us = rules, START_US
        self.waiting: list[Alert] = []
        self.over: list[Alert] = []
        self.rows: dict[str, Call] = {}
        self.planned: list[PlannedCall] = []
        self.fates: dict[tuple[str, Turn], Fate] = {}
        self.fired: list[str] = []
        self.resolved: set[str] = set()
        self.plans = 0

    def past(self) -> Past:
        told = {alert_id for row in self.rows.values() for alert_id in row.alert_ids}
        return Past.of(self.rows.values(), [each for each in self.over if each.alert_id not in told])

    def plan(self) -> int:
        made = plan(self.rules, self.waiting, self.past(), self.now_us)
        assert made == plan(self.rules, list(self.waiting), self.past(), self.now_us)
        assert made.wake_us == 0 or made.wake_us > self.now_us
        self.write(made.calls)
        self.plans += 1
        if self.plans % 3 == 0:
            made = plan(self.rules, self.waiting, self.past(), self.now_us)
            assert not any(planned.turn is Turn.FIRING for planned in made.calls), "nobody is called again"
            self.write(made.calls)  # what was just noticed may have resolved before
        assert not self.fates.keys() & made.fates.keys()
        self.fates |= made.fates
        self.over += [a for a in self.waiting if made.fates.get((a.alert_id, a.turn)) is Fate.OVER_BUDGET]
        self.waiting = [each for each in self.waiting if (each.alert_id, each.turn) not in made.fates]
        return made.wake_us

    def write(self, made: list[PlannedCall]) -> None:
        for planned in made:
            self.planned.append(planned)
            for row in calls(planned, self.rules):
                assert row.call_id not in self.rows, "a call is made once"
                self.rows[row.call_id] = row

    def pass_time(self, minutes: int) -> None:
        """Wakes whenever the planner asked to."""
        end_us = self.now_us + minutes * MINUTE_US
        while (wake_us := self.plan()) and wake_us <= end_us:
            self.now_us = wake_us
        self.now_us = end_us

    def resolve(self, name: str) -> None:
        if name not in self.resolved:
            self.resolved.add(name)
            self.waiting.append(alert(name, self.now_us, Turn.RESOLVED))

    def run(self, steps: list[tuple[int, int, list[int]]]) -> None:
        for minutes, count, back in steps:
            for _ in range(count):
                self.fired.append(f"c{len(self.fired)}")
                self.waiting.append(alert(self.fired[-1], self.now_us))
            for which in back:
                if which < len(self.fired):
                    self.resolve(self.fired[which])
            self.pass_time(minutes)


@settings(max_examples=60)
@given(rules=RULES, steps=STEPS)
def test_no_call_beyond_the_budget(rules: RuleSet, steps: Any) -> None:
    world = World(rules)
    world.run(steps)
    made = sorted(each.made_us for each in world.planned if each.turn is Turn.FIRING and not each.notice)
    budget = rules.rules[0].budget
    for window_us, most in ((HOUR_US, budget.per_hour), (DAY_US, budget.per_day)):
        assert all(sum(1 for at in made if end - window_us < at <= end) <= most for end in made)
    notices = sorted(each.made_us for each in world.planned if each.notice and each.turn is Turn.FIRING)
    assert all(later - sooner >= HOUR_US for sooner, later in pairwise(notices))


@settings(max_examples=60)
@given(rules=RULES, steps=STEPS)
def test_every_turn_ends_in_exactly_one_fate(rules: RuleSet, steps: Any) -> None:
    world = World(rules)
    world.run(steps)
    world.pass_time(3 * 24 * 60)
    assert {(alert(name).alert_id, Turn.FIRING) for name in world.fired} <= world.fates.keys()
    for name in world.fired:
        world.resolve(name)
    world.pass_time(3 * 24 * 60)
    assert world.waiting == []
    assert set(world.fates) == {(alert(name).alert_id, turn) for name in world.fired for turn in Turn}
    told = Counter(
        (each.alert_id, planned.turn, planned.notice) for planned in world.planned for each in planned.alerts
    )
    assert set(told.values()) <= {1}
    for (alert_id, turn), fate in world.fates.items():
        called = (alert_id, turn, False) in told
        noticed = (alert_id, turn, True) in told
        assert called + noticed == (fate in (Fate.CALLED, Fate.OVER_BUDGET))
        if turn is Turn.FIRING:
            assert (noticed, called) == (fate is Fate.OVER_BUDGET, fate is Fate.CALLED)
        elif called or noticed:
            assert world.fates[alert_id, Turn.FIRING] in (Fate.CALLED, Fate.OVER_BUDGET)


@settings(max_examples=60)
@given(rules=RULES, steps=STEPS)
def test_whoever_was_called_and_wants_to_hears_that_it_is_over(rules: RuleSet, steps: Any) -> None:
    world = World(rules)
    world.run(steps)
    world.pass_time(3 * 24 * 60)
    for name in world.fired:
        world.resolve(name)
    world.pass_time(3 * 24 * 60)
    fired = {row.call_id for row in world.rows.values() if row.turn is Turn.FIRING and row.receiver == "desk"}
    about = [row.about for row in world.rows.values() if row.turn is Turn.RESOLVED]
    assert set(about) == fired
    assert len(about) == len(set(about))
