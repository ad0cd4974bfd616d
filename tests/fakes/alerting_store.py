"""A fake of alerting's tables, in memory: it can refuse any write, before or after the rows are there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from services.alerting.alert import Alert, AlertState, Attempt, Call, Fate, Outcome, Turn
from services.alerting.delivery.ports import Stored
from services.alerting.intake import Segments
from services.alerting.plan import Key
from services.alerting.rules.durations import DAY_US
from services.alerting.rules.model import RuleSet
from services.alerting.sweep import Candidate


class StoreDownError(Exception):
    """The fake refuses for now."""


class FakeAlertStore:
    """Rows as the tables would keep them. ``effects`` names each write in order."""

    def __init__(self) -> None:
        self.states: dict[tuple[str, str], AlertState] = {}
        self.alerts: dict[Key, Alert] = {}
        self.calls: dict[str, Call] = {}
        self.attempts_by_place: dict[tuple[str, int], Attempt] = {}
        self.told_segments: dict[str, list[tuple[int, str]]] = {}
        self.due: list[Candidate] = []
        self.rules_versions: list[str] = []
        self.effects: list[str] = []
        self.refusals: dict[str, int] = {}
        """By effect: how often it refuses before it writes."""
        self.broken: dict[str, int] = {}
        """By effect: how often it writes and then says that it could not."""

    def _write(self, effect: str, act: Any) -> None:
        if self.refusals.get(effect, 0):
            self.refusals[effect] -= 1
            raise StoreDownError(effect)
        act()
        self.effects.append(effect)
        if self.broken.get(effect, 0):
            self.broken[effect] -= 1
            raise StoreDownError(f"{effect}, and it was written")

    def load_states(self, customers: Sequence[str]) -> dict[tuple[str, str], AlertState]:
        return {key: state for key, state in self.states.items() if key[1] in set(customers)}

    def write_states(self, states: Iterable[AlertState]) -> None:
        some = list(states)

        def act() -> None:
            for state in some:
                key = (state.rule, state.customer_id)
                if key not in self.states or self.states[key].log_offset <= state.log_offset:
                    self.states[key] = state

        self._write("states", act)

    def segments(self, customers: Sequence[str]) -> Segments:
        return {customer: self.told_segments[customer] for customer in customers if customer in self.told_segments}

    def fates(self, alerts: Sequence[Alert]) -> dict[Key, Fate]:
        ids = {alert.alert_id for alert in alerts}
        return {key: alert.fate for key, alert in self.alerts.items() if key[0] in ids}

    def write_alerts(self, alerts: Iterable[Alert], fates: Mapping[Key, Fate] | None = None) -> None:
        some = list(alerts)

        def act() -> None:
            for alert in some:
                key = (alert.alert_id, alert.turn)
                row = replace(alert, fate=(fates or {}).get(key, alert.fate))
                # What became of a turn stands over that it waited.
                if key not in self.alerts or row.fate is not Fate.WAITING or self.alerts[key].fate is Fate.WAITING:
                    self.alerts[key] = row

        self._write("fates" if fates is not None else "alerts", act)

    def waiting(self) -> list[Alert]:
        return [alert for alert in self.alerts.values() if alert.fate is Fate.WAITING]

    def over_budget_untold(self) -> list[Alert]:
        told = {i for call in self.calls.values() if call.turn is Turn.FIRING for i in call.alert_ids}
        return [
            alert
            for alert in self.alerts.values()
            if alert.fate is Fate.OVER_BUDGET and alert.turn is Turn.FIRING and alert.alert_id not in told
        ]

    def past_calls(self, now_us: int, waiting: Sequence[Alert]) -> list[Call]:
        ids = {alert.alert_id for alert in waiting}
        answered = {call.about for call in self.calls.values()}
        return [
            call
            for call in self.calls.values()
            if call.made_us > now_us - DAY_US
            or (call.turn is Turn.FIRING and call.call_id not in answered)
            or ids.intersection(call.alert_ids)
        ]

    def write_calls(self, calls: Iterable[Call]) -> None:
        some = list(calls)
        self._write("calls", lambda: self.calls.update({call.call_id: call for call in some}))

    def unfinished(self) -> tuple[list[Call], list[Attempt]]:
        last: dict[str, Attempt] = {}
        for attempt in sorted(self.attempts_by_place.values(), key=lambda attempt: attempt.number):
            last[attempt.call_id] = attempt
        open_calls = [
            call
            for call in self.calls.values()
            if call.call_id not in last or last[call.call_id].outcome is Outcome.FAILED
        ]
        ids = {call.call_id for call in open_calls}
        return open_calls, [attempt for attempt in self.attempts_by_place.values() if attempt.call_id in ids]

    def write_rules(self, rules: RuleSet, now_us: int) -> None:
        del now_us
        self._write("rules", lambda: self.rules_versions.append(rules.rules_version))

    def candidates(self, rules: RuleSet) -> list[Candidate]:
        del rules
        return list(self.due)

    def focus_alerts(self, rule: str) -> list[Alert]:
        return [alert for alert in self.alerts.values() if alert.rule == rule and not alert.customer_id]

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        del sql
        return []

    # `delivery.ports.Store`

    async def record(self, attempts: Sequence[Attempt]) -> None:
        self._write(
            "attempts",
            lambda: self.attempts_by_place.update({(each.call_id, each.number): each for each in attempts}),
        )

    async def find(self, call_ids: Sequence[str]) -> Sequence[Stored]:
        return [
            Stored(
                self.calls[call_id],
                [attempt for (of, _), attempt in sorted(self.attempts_by_place.items()) if of == call_id],
            )
            for call_id in call_ids
            if call_id in self.calls
        ]
