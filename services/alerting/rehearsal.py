"""Rules rehearsed: signals in, in the order of time; out comes who would have been called, when. Pure.

The same decisions and the same planning as in operation (`decide`, `plan`), with a clock that is an argument.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl

from services.alerting.alert import Alert, AlertState, Call, Fate, Turn, stable_id
from services.alerting.decide import PLACE, decide
from services.alerting.past import Past
from services.alerting.plan import PlannedCall, plan
from services.alerting.rules.model import RuleSet

ALERTS: Final[dict[str, pl.DataType | type[pl.DataType]]] = {
    "rule": pl.String,
    "alert_id": pl.String,
    "customer_id": pl.String,
    "step": pl.Int64,
    "fired_us": pl.Int64,
    "called_us": pl.Int64,
    "fate": pl.String,
    "risk": pl.Float64,
    "score": pl.Float64,
    "value_at_risk": pl.Float64,
    "segment": pl.String,
}
"""Alerts that fired. ``step``: in which call of `Rehearsal.step`, from 0; ``called_us``: null if nobody was called;
``fate``: of `services.alerting.alert.Fate`, waiting where quiet hours or a storm held it back to the end."""

CALLS: Final[dict[str, pl.DataType | type[pl.DataType]]] = {"rule": pl.String, "made_us": pl.Int64, "alerts": pl.Int64}
"""Calls that were made of firing alerts, whatever the number of receivers; notices are left out."""


@dataclass(slots=True)
class _Fired:
    """What is told of an alert in the end: the alert itself is large."""

    rule: str
    customer_id: str
    step: int
    fired_us: int
    risk: float | None
    score: float | None
    value_at_risk: float | None
    segment: str
    fate: Fate = Fate.WAITING
    called_us: int | None = None

    @classmethod
    def of(cls, alert: Alert, step: int) -> _Fired:
        def number(name: str) -> float | None:
            value = alert.facts[name]
            return value if isinstance(value, float) else None

        return cls(
            alert.rule,
            alert.customer_id,
            step,
            alert.fired_us,
            number("risk"),
            number("score"),
            number("value_at_risk"),
            str(alert.facts["segment"]),
        )


class Rehearsal:
    """Rules and where they stand. Each step takes the signals of a stretch of time."""

    def __init__(self, rules: RuleSet) -> None:
        self._rules = rules
        self._enters = [rule.when.holds() for rule in rules.rules]
        self._states: dict[tuple[str, str], AlertState] = {}
        self._waiting: dict[tuple[str, Turn], Alert] = {}
        self._past = Past()
        self._fired: dict[str, _Fired] = {}
        self._calls: list[tuple[str, int, int]] = []
        self._steps = 0
        self._wake_us = 0

    def step(self, signals: pl.DataFrame, until_us: int) -> None:
        """Decide by signals (`decide.SIGNALS`, later in the log than those of the steps before), and make the calls
        that follow up to ``until_us``, not included."""
        decided = decide(self._rules, self._moving(signals), self._states)
        # Signals come once here, so that customers' places need not be remembered.
        self._states.update((state_key(state), state) for state in decided.states if state.rule != PLACE)
        for alert in decided.alerts:
            if alert.turn is Turn.FIRING:
                self._fired[alert.alert_id] = _Fired.of(alert, self._steps)
        self._make_calls(sorted(decided.alerts, key=lambda alert: alert.at_us), until_us)
        self._steps += 1

    def alerts(self) -> pl.DataFrame:
        """`ALERTS`, in the order in which they fired."""
        rows = [
            (
                fired.rule,
                alert_id,
                fired.customer_id,
                fired.step,
                fired.fired_us,
                fired.called_us,
                fired.fate.value,
                fired.risk,
                fired.score,
                fired.value_at_risk,
                fired.segment,
            )
            for alert_id, fired in self._fired.items()
        ]
        return pl.DataFrame(rows, schema=ALERTS, orient="row")

    def calls(self) -> pl.DataFrame:
        """`CALLS`."""
        return pl.DataFrame(self._calls, schema=CALLS, orient="row")

    def _moving(self, signals: pl.DataFrame) -> pl.DataFrame:
        """Signals that some rule may move by: where its condition holds, and of whom it is not idle."""
        if not self._enters:
            return signals.clear()
        standing = {customer for (_, customer), state in self._states.items() if state.phase != "idle"}
        known = pl.col("customer_id").is_in(list(standing)) if standing else pl.lit(value=False)
        return signals.filter(pl.any_horizontal(*self._enters).fill_null(value=False) | known)

    def _make_calls(self, arriving: list[Alert], until_us: int) -> None:
        at = 0
        while True:
            times = [time for time in (self._wake_us, arriving[at].at_us if at < len(arriving) else 0) if time]
            now_us = min(times, default=until_us)
            if now_us >= until_us:
                return
            while at < len(arriving) and arriving[at].at_us <= now_us:
                self._waiting[arriving[at].alert_id, arriving[at].turn] = arriving[at]
                at += 1
            self._plan(now_us)

    def _plan(self, now_us: int) -> None:
        waiting = list(self._waiting.values())
        made = plan(self._rules, waiting, self._past, now_us)
        calls = [call for planned in made.calls for call in _stored(planned)]
        self._past = self._past.after(calls, made.fates, waiting)
        for (alert_id, turn), fate in made.fates.items():
            self._waiting.pop((alert_id, turn), None)
            if turn is Turn.FIRING and alert_id in self._fired:
                self._fired[alert_id].fate = fate
                if fate is Fate.CALLED:
                    self._fired[alert_id].called_us = now_us
        for planned in made.calls:
            if planned.turn is Turn.FIRING and not planned.notice:
                self._calls.append((planned.rule, now_us, len(planned.alerts)))
        self._wake_us = made.wake_us if made.wake_us > now_us else 0


def state_key(state: AlertState) -> tuple[str, str]:
    """Where `decide` looks for a state."""
    return state.rule, state.customer_id


def _stored(planned: PlannedCall) -> Sequence[Call]:
    """What the past needs to know of a planned call: its document says no more than whether it is a notice."""
    ids = tuple(sorted(alert.alert_id for alert in planned.alerts))
    document = json.dumps({"over_budget": planned.notice})
    return [
        Call(
            stable_id("call", planned.turn, planned.rule, receiver, *ids),
            planned.turn,
            planned.about.get(receiver, ""),
            planned.rule,
            "",
            receiver,
            planned.made_us,
            0,
            ids,
            document,
        )
        for receiver in planned.receivers
    ]
