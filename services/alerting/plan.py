"""Alerts to calls: who is told of what together, and when. Pure; the time is an argument.

In this order, for each rule:

1. an alert that a stored call tells of already is taken as called (a crash came between the two writes);
2. one that resolved before anybody was called is dropped, both turns untold;
3. quiet hours hold back what fires, until they end;
4. the first alert waits `group.wait` for company;
5. up to `group.above` calls about one customer each within `group.within`; what fires beyond is one call, and what
   fires after that waits for the end of `within`, to be one call again;
6. of what is told now, the hold-out is recorded and not sent: chosen by the alert's id, so always the same;
7. the budget counts calls. With too little left for one each, the costliest have theirs and the others share the last;
   with none left they are over budget, and one notice an hour (a day, where the day's budget is used up) says how many.

A call whose alerts have all resolved is followed by one about it to the same receivers. Resolved turns wait for that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from services.alerting.alert import Alert, Fate, Turn
from services.alerting.past import Past, PastCall
from services.alerting.quiet import quiet_until_us
from services.alerting.rules.durations import DAY_US, HOUR_US
from services.alerting.rules.model import Focus, Rule, RuleSet

CALLED: Final[Mapping[bool, Fate]] = {False: Fate.CALLED, True: Fate.OVER_BUDGET}
"""Fate of an alert by whether the call that tells of it is a notice."""

Key = tuple[str, Turn]
"""An alert's id and its turn."""


@dataclass(frozen=True, slots=True)
class PlannedCall:
    """What some receivers are to be told; `services.alerting.tell.calls` makes a call for each of them."""

    turn: Turn
    rule: str
    alerts: tuple[Alert, ...]
    """The costliest first. Of a resolved one: the resolved turns."""
    receivers: tuple[str, ...]
    made_us: int
    notice: bool = False
    """It says how many were not called since the budget is used up."""
    about: Mapping[str, str] = field(default_factory=dict)
    """Of a resolved one, by receiver: the call whose alerts have resolved."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do now."""

    calls: list[PlannedCall]
    fates: dict[Key, Fate]
    """Of the turns that wait no longer. Calls are to be written before them."""
    wake_us: int
    """When to plan again though nothing new came; 0: no need."""


def plan(rules: RuleSet, waiting: Sequence[Alert], past: Past, now_us: int) -> Plan:
    """What to tell of the alerts that wait. The same waiting, past and time give the same plan."""
    return _Planner(rules, waiting, past, now_us).plan()


def is_held_out(alert_id: str, share: float) -> bool:
    """Whether chance, by the alert's id alone, takes it out of those that are called. Uniform."""
    if share <= 0:
        return False
    drawn = int.from_bytes(hashlib.sha256(f"hold-out:{alert_id}".encode()).digest()[:8]) / 2**64
    return drawn < share


def costliest_first(alerts: Sequence[Alert]) -> list[Alert]:
    """By value at risk, then by time and id."""

    def order(alert: Alert) -> tuple[float, int, str]:
        value = alert.facts.get("value_at_risk", 0.0)
        return -(value if isinstance(value, int | float) else 0.0), alert.fired_us, alert.alert_id

    return sorted(alerts, key=order)


class _Planner:
    def __init__(self, rules: RuleSet, waiting: Sequence[Alert], past: Past, now_us: int) -> None:
        self.rules, self.past, self.now_us = rules, past, now_us
        self.calls: list[PlannedCall] = []
        self.fates: dict[Key, Fate] = {}
        self.wakes: list[int] = []
        self.fired: dict[str, Alert] = {}
        self.resolved: dict[str, Alert] = {}
        for alert in waiting:
            (self.fired if alert.turn is Turn.FIRING else self.resolved).setdefault(alert.alert_id, alert)

    def plan(self) -> Plan:
        self._take_stored()
        self._drop_resolved()
        by_rule: dict[str, list[Alert]] = {}
        for alert in self.fired.values():
            by_rule.setdefault(alert.rule, []).append(alert)
        for name in sorted(by_rule):
            rule = self.rules.by_name.get(name)
            if rule is None:  # nobody is named any more who should hear it
                self._end(by_rule[name], Fate.UNTOLD)
            else:
                self._tell(rule, sorted(by_rule[name], key=lambda alert: (alert.at_us, alert.alert_id)))
        self._notices()
        self._tell_resolved()
        return Plan(self.calls, self.fates, min(self.wakes, default=0))

    def _end(self, alerts: Sequence[Alert], fate: Fate) -> None:
        for alert in alerts:
            self.fates[alert.alert_id, alert.turn] = fate

    def _take_stored(self) -> None:
        for call in self.past.calls:
            of = self.fired if call.turn is Turn.FIRING else self.resolved
            stored = [of.pop(alert_id) for alert_id in call.alert_ids if alert_id in of]
            self._end(stored, CALLED[call.notice])

    def _drop_resolved(self) -> None:
        for alert_id in [alert_id for alert_id in self.fired if alert_id in self.resolved]:
            self._end([self.fired.pop(alert_id), self.resolved.pop(alert_id)], Fate.UNTOLD)

    def _quiet(self, rule: Rule | Focus | None) -> bool:
        """Whether quiet hours hold back the calls of a rule; wakes at their end."""
        if rule is None or rule.quiet_hours is None:
            return False
        if rule.severity == "critical" and not rule.quiet_hours.critical:
            return False
        until_us = quiet_until_us(rule.quiet_hours, self.now_us)
        if until_us:
            self.wakes.append(until_us)
        return until_us > 0

    def _tell(self, rule: Rule | Focus, alerts: list[Alert]) -> None:
        if self._quiet(rule):
            return
        first_us = alerts[0].at_us
        # A time to come is another machine's clock: it must not make anybody wait.
        if first_us <= self.now_us < first_us + rule.group.wait_us:
            self.wakes.append(first_us + rule.group.wait_us)
            return
        kept = [alert for alert in alerts if is_held_out(alert.alert_id, rule.held_out)]
        told = [alert for alert in alerts if not is_held_out(alert.alert_id, rule.held_out)]
        made = [call for call in self.past.calls if self._counts(call, rule, rule.group.within_us)]
        storm = [call for call in made if len(call.alert_ids) > 1] or made[rule.group.above :]
        if storm and told:
            self.wakes.append(max(call.made_us for call in storm) + rule.group.within_us)
            return
        self._end(kept, Fate.HELD_OUT)
        if not told:
            return
        left = self._left(rule)
        if left <= 0:
            self._end(told, Fate.OVER_BUDGET)
            return
        ordered = costliest_first(told)
        singles = len(ordered) if len(made) + len(ordered) <= rule.group.above else 0
        if singles > left:
            singles = left - 1
        for alert in ordered[:singles]:
            self._call(rule, [alert])
        if ordered[singles:]:
            self._call(rule, ordered[singles:])
        self._end(ordered, Fate.CALLED)

    def _call(self, rule: Rule | Focus, alerts: list[Alert], *, notice: bool = False) -> None:
        receivers = tuple(dict.fromkeys(rule.receivers))
        self.calls.append(PlannedCall(Turn.FIRING, rule.name, tuple(alerts), receivers, self.now_us, notice))

    def _counts(self, call: PastCall, rule: Rule | Focus, within_us: int) -> bool:
        return (
            call.rule == rule.name
            and call.turn is Turn.FIRING
            and not call.notice
            and call.made_us > self.now_us - within_us
        )

    def _made(self, rule: Rule | Focus, within_us: int) -> int:
        return sum(1 for call in self.past.calls if self._counts(call, rule, within_us))

    def _left(self, rule: Rule | Focus) -> int:
        """Calls that the rule may still make now."""
        return min(
            rule.budget.per_hour - self._made(rule, HOUR_US),
            rule.budget.per_day - self._made(rule, DAY_US),
        )

    def _notices(self) -> None:
        """One for each rule with alerts over budget that no notice told of yet."""
        over = {alert.alert_id: alert for alert in self.past.unnoticed}
        over |= {i: alert for i, alert in self.fired.items() if self.fates.get((i, Turn.FIRING)) is Fate.OVER_BUDGET}
        told = {alert_id for call in self.past.calls if call.notice for alert_id in call.alert_ids}
        by_rule: dict[str, list[Alert]] = {}
        for alert_id, alert in over.items():
            if alert_id not in told:
                by_rule.setdefault(alert.rule, []).append(alert)
        for name in sorted(by_rule):
            rule = self.rules.by_name.get(name)
            if rule is None or self._quiet(rule):
                continue
            window_us = DAY_US if rule.budget.per_day <= self._made(rule, DAY_US) else HOUR_US
            last_us = max((c.made_us for c in self.past.calls if c.notice and c.rule == name), default=0)
            if last_us and self.now_us < last_us + window_us:
                self.wakes.append(last_us + window_us)
            else:
                self._call(rule, costliest_first(by_rule[name]), notice=True)

    def _tell_resolved(self) -> None:
        if not self.resolved:
            return
        # A notice will tell of these yet.
        kept = {alert.alert_id for alert in self.past.unnoticed if alert.rule in self.rules.by_name}
        kept |= {alert.alert_id for call in self.calls for alert in call.alerts}
        for call in self.past.open:
            kept.update(call.alert_ids)
            back = [self.resolved[alert_id] for alert_id in call.alert_ids if alert_id in self.resolved]
            if len(back) < len(call.alert_ids) or self._quiet(self.rules.by_name.get(call.rule)):
                continue
            about = {name: call_id for name, call_id in call.call_ids.items() if self._hears_resolved(name)}
            if about:
                ordered = tuple(costliest_first(back))
                self.calls.append(
                    PlannedCall(Turn.RESOLVED, call.rule, ordered, tuple(about), self.now_us, call.notice, about)
                )
            self._end(back, Fate.CALLED if about else Fate.UNTOLD)
        self._end([alert for alert_id, alert in self.resolved.items() if alert_id not in kept], Fate.UNTOLD)

    def _hears_resolved(self, receiver: str) -> bool:
        known = self.rules.receivers_by_name.get(receiver)
        return known is not None and known.resolved
