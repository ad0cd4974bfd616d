"""Signals to alerts: where each rule stands with each customer, a fold over the log.

A rule and a customer are idle, pending (the condition holds, not yet long enough or too soon after the last time) or
firing. Only the log moves them: `judged_at` is the clock, so that the same log gives the same alerts with the same ids,
however it is cut into batches. Each customer has a row under rule `PLACE` that holds its place in the log; a signal at
or below it is a repeat and decides nothing, so a replay or a rebuild calls nobody again.

Where entering and leaving hold at the same signal, leaving wins. A rule that is no longer in the file is resolved at
the customer's next signal, so that whoever was called hears it. Facts that are not finite neither fire nor resolve.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import polars as pl

from services.alerting.alert import Alert, AlertState, Phase, Turn, stable_id
from services.alerting.rules.fields import FIELDS, printable
from services.alerting.rules.model import Rule, RuleSet

PLACE: Final = ""
"""Name of the rule under which a customer's place in the log is kept."""

REASON: Final = pl.Struct({"reason": pl.String, "log_odds": pl.Float64})
_Type = pl.DataType | type[pl.DataType]
_FACTS: Final[dict[str, _Type]] = {
    name: pl.Float64 if field.kind == "number" else pl.String for name, field in FIELDS.items()
}
SIGNALS: Final[dict[str, _Type]] = {
    "signal_id": pl.String,
    "customer_id": pl.String,
    "judged_at": pl.Int64,
    "log_partition": pl.Int64,
    "log_offset": pl.Int64,
    "reasons": pl.List(REASON),
    **_FACTS,
}
"""Columns that `decide` needs. ``signal_id``: 32 hexadecimal digits; ``judged_at``: integer UTC microseconds."""

States = Mapping[tuple[str, str], AlertState]
"""By rule and customer: all rows of the customers at hand, with those under `PLACE`."""


@dataclass(frozen=True, slots=True)
class Decided:
    """What follows from some signals."""

    states: list[AlertState]
    """Those that changed, the last of each: to be written after the alerts."""
    alerts: list[Alert]
    """In the order of the log, then of the rules; all wait."""


def decide(rules: RuleSet, signals: pl.DataFrame, states: States) -> Decided:
    """What the rules say of signals, given where they stood before.

    ``signals``: the columns of `SIGNALS`, in any order; a customer's signals come in the order of the log from one
    call to the next, repeats may come at any time.
    """
    fresh = _fresh(signals, states)
    if fresh.is_empty():
        return Decided([], [])
    rows = _Rows(fresh)
    changed: dict[tuple[str, str], AlertState] = {}
    found: list[tuple[int, int, int, int, Alert]] = []
    known = _standing(rows, states)
    for place, rule in enumerate(rules.rules):
        for row, alert in _walk(rule, rules.rules_version, rows, states, known.pop(rule.name, set()), changed):
            found.append((rows.partition[row], rows.offset[row], place, row, alert))
    for place, (name, customers) in enumerate(sorted(known.items()), start=len(rules.rules)):
        for row, alert in _retire(name, rules.rules_version, rows, states, customers, changed):
            found.append((rows.partition[row], rows.offset[row], place, row, alert))
    for customer, last in rows.last.items():
        changed[PLACE, customer] = AlertState(
            PLACE, customer, Phase.IDLE, 0, "", 0, 0, rows.partition[last], rows.offset[last]
        )
    found.sort()  # two alerts never have all four in common
    return Decided(list(changed.values()), [alert for *_, alert in found])


def may_change_from_us(rule: Rule, state: AlertState) -> int:
    """When a signal would move a pending rule to firing, or could let a firing one resolve, the condition permitting.

    For the sweep: before that a review is of no use.
    """
    if state.phase is Phase.FIRING:
        return state.fired_us + rule.keep_firing_for_us
    earliest = state.resolved_us + rule.cooldown_us if state.resolved_us else 0
    return max(earliest, state.since_us + rule.for_us) if state.phase is Phase.PENDING else 0


def _fresh(signals: pl.DataFrame, states: States) -> pl.DataFrame:
    """Signals that were not taken before, each once, by customer and offset."""
    customers = signals.get_column("customer_id").unique().to_list()
    places = {c: states[PLACE, c].log_offset for c in customers if (PLACE, c) in states}
    taken = pl.DataFrame(
        {"customer_id": list(places), "taken": list(places.values())},
        schema={"customer_id": pl.String, "taken": pl.Int64},
    )
    return (
        signals.lazy()
        .select(pl.col(name).cast(type_) for name, type_ in SIGNALS.items())
        .join(taken.lazy(), on="customer_id", how="left")
        .filter(pl.col("taken").is_null() | (pl.col("log_offset") > pl.col("taken")))
        .drop("taken")
        .sort("customer_id", "log_offset", maintain_order=True)
        .unique(["customer_id", "log_offset"], keep="first", maintain_order=True)
        .collect()
    )


class _Rows:
    """Signals as Python needs them, and what was made of a row kept for the next rule."""

    def __init__(self, frame: pl.DataFrame) -> None:
        self.frame = frame
        self.customer: list[str] = frame.get_column("customer_id").to_list()
        self.at_us: list[int] = frame.get_column("judged_at").to_list()
        self.partition: list[int] = frame.get_column("log_partition").to_list()
        self.offset: list[int] = frame.get_column("log_offset").to_list()
        self.first: dict[str, int] = {}
        self.last: dict[str, int] = {}
        for row, customer in enumerate(self.customer):
            self.first.setdefault(customer, row)
            self.last[customer] = row
        self._columns: dict[str, list[Any]] = {}
        self._told: dict[int, tuple[dict[str, float | str], list[tuple[str, float]], str, str]] = {}

    def told(self, row: int) -> tuple[dict[str, float | str], list[tuple[str, float]], str, str]:
        """Facts, reasons, id and a sentence."""
        if row not in self._told:
            facts = {name: _fact(self._column(name)[row]) for name in FIELDS}
            reasons = [(each["reason"], each["log_odds"]) for each in self._column("reasons")[row] or ()]
            told = sentence(self.customer[row], facts, reasons)
            self._told[row] = facts, reasons, self._column("signal_id")[row], told
        return self._told[row]

    def _column(self, name: str) -> list[Any]:
        """As a list: a frame hands out single rows slowly, and most batches need none of this."""
        if name not in self._columns:
            self._columns[name] = self.frame.get_column(name).to_list()
        return self._columns[name]


def _fact(value: Any) -> float | str:
    """A fact as JSON can tell it: what is unknown is an empty text."""
    if type(value) is str:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else ""
    return "" if value is None else str(value)


def sentence(customer_id: str, facts: Mapping[str, float | str], reasons: Sequence[tuple[str, float]]) -> str:
    """What is the matter with a customer, in a sentence or two."""
    parts = []
    if isinstance(facts["risk"], float):
        parts.append(f"risk {facts['risk']:.0%} ({printable(str(facts['band']))})")
    if isinstance(facts["score"], float):
        parts.append(f"score {facts['score']:.0f}")
    if isinstance(facts["value_at_risk"], float):
        parts.append(f"value at risk {facts['value_at_risk']:,.2f}")
    worst = next((printable(reason, 200) for reason, log_odds in reasons if log_odds > 0), "")
    return f"Customer {printable(customer_id)}: {', '.join(parts)}." + (f" {worst}" if worst else "")


def _standing(rows: _Rows, states: States) -> dict[str, set[str]]:
    """By rule, the customers at hand with whom it is not idle."""
    standing: dict[str, set[str]] = {}
    for (name, customer), state in states.items():
        if state.phase is not Phase.IDLE and customer in rows.last:
            standing.setdefault(name, set()).add(customer)
    return standing


def _walk(
    rule: Rule,
    rules_version: str,
    rows: _Rows,
    states: States,
    standing: set[str],
    changed: dict[tuple[str, str], AlertState],
) -> list[tuple[int, Alert]]:
    """One rule over the rows of those customers with whom it may move."""
    leaves = rule.until.holds() if rule.until is not None else rule.when.fails()
    entered, left = rows.frame.select(
        (rule.when.holds() & ~leaves).alias("enters"), leaves.alias("leaves")
    ).get_columns()
    customers = standing | {rows.customer[row] for row in entered.arg_true().to_list()}
    enters, leaving = entered.to_list(), left.to_list()
    alerts = []
    for customer in customers:
        key = (rule.name, customer)
        before = state = states.get(key) or AlertState(rule.name, customer, Phase.IDLE, 0, "", 0, 0, 0, -1)
        for row in range(rows.first[customer], rows.last[customer] + 1):
            if rows.offset[row] <= state.log_offset:
                continue  # the rule's own row was written, the customer's place was not
            after = _next(rule, rows, row, state, enters=enters[row], leaves=leaving[row])
            if after is state:
                continue
            if after.phase is Phase.FIRING:
                alerts.append((row, _alert(rule, rules_version, rows, row, after, Turn.FIRING)))
            elif state.phase is Phase.FIRING:
                alerts.append((row, _alert(rule, rules_version, rows, row, after, Turn.RESOLVED)))
            state = after
        if state is not before:
            changed[key] = state
    return alerts


def _next(rule: Rule, rows: _Rows, row: int, state: AlertState, *, enters: bool, leaves: bool) -> AlertState:
    """The state after a signal; the same object where nothing changed."""
    at_us, partition, offset = rows.at_us[row], rows.partition[row], rows.offset[row]

    def moved(
        phase: Phase,
        alert_id: str = state.alert_id,
        fired_us: int = state.fired_us,
        resolved_us: int = state.resolved_us,
    ) -> AlertState:
        return AlertState(
            state.rule, state.customer_id, phase, at_us, alert_id, fired_us, resolved_us, partition, offset
        )

    if state.phase is Phase.FIRING:
        if leaves and at_us >= state.fired_us + rule.keep_firing_for_us:
            return moved(Phase.IDLE, resolved_us=at_us)
        return state
    if not enters:
        return state if state.phase is Phase.IDLE else moved(Phase.IDLE)
    held_since_us = state.since_us if state.phase is Phase.PENDING else at_us
    rested = state.resolved_us == 0 or at_us >= state.resolved_us + rule.cooldown_us
    if rested and at_us >= held_since_us + rule.for_us:
        alert_id = stable_id("alert", rule.name, state.customer_id, str(partition), str(offset))
        return moved(Phase.FIRING, alert_id=alert_id, fired_us=at_us)
    return state if state.phase is Phase.PENDING else moved(Phase.PENDING)


def _alert(rule: Rule, rules_version: str, rows: _Rows, row: int, state: AlertState, turn: Turn) -> Alert:
    facts, reasons, signal_id, told = rows.told(row)
    return Alert(
        alert_id=state.alert_id,
        turn=turn,
        rule=rule.name,
        rules_version=rules_version,
        customer_id=state.customer_id,
        subject=state.customer_id,
        at_us=rows.at_us[row],
        fired_us=state.fired_us,
        severity=rule.severity,
        owner=rule.owner,
        due_us=state.fired_us + rule.answer_within_us if rule.answer_within_us else 0,
        summary=told,
        facts=facts,
        reasons=reasons,
        signal_id=signal_id,
        log_partition=rows.partition[row],
        log_offset=rows.offset[row],
    )


def _retire(
    name: str,
    rules_version: str,
    rows: _Rows,
    states: States,
    customers: set[str],
    changed: dict[tuple[str, str], AlertState],
) -> list[tuple[int, Alert]]:
    """A rule that is no longer in the file: what fires is resolved at the customer's next signal."""
    alerts = []
    for customer in customers:
        state, row = states[name, customer], rows.first[customer]
        if rows.offset[row] <= state.log_offset:
            continue
        idle = replace(
            state,
            phase=Phase.IDLE,
            since_us=rows.at_us[row],
            log_partition=rows.partition[row],
            log_offset=rows.offset[row],
        )
        if state.phase is Phase.FIRING:
            idle = replace(idle, resolved_us=rows.at_us[row])
            facts, reasons, signal_id, _ = rows.told(row)
            alerts.append(
                (
                    row,
                    Alert(
                        alert_id=state.alert_id,
                        turn=Turn.RESOLVED,
                        rule=name,
                        rules_version=rules_version,
                        customer_id=customer,
                        subject=customer,
                        at_us=rows.at_us[row],
                        fired_us=state.fired_us,
                        severity="info",
                        owner="",
                        due_us=0,
                        summary=f"Customer {printable(customer)}: rule {name} is no longer in the rules file.",
                        facts=facts,
                        reasons=reasons,
                        signal_id=signal_id,
                        log_partition=rows.partition[row],
                        log_offset=rows.offset[row],
                    ),
                )
            )
        changed[name, customer] = idle
    return alerts
