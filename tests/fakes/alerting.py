"""Signals and rules for tests of alerting: what a test does not say is ordinary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import polars as pl

from services.alerting.alert import Alert, AlertState, Turn, stable_id
from services.alerting.decide import SIGNALS, Decided, decide
from services.alerting.rules.fields import FIELDS
from services.alerting.rules.model import RuleSet

START_US: Final = 1_767_225_600_000_000
"""2026-01-01T00:00:00Z."""
MINUTE_US: Final = 60_000_000
HOUR_US: Final = 60 * MINUTE_US
DAY_US: Final = 24 * HOUR_US

ORDINARY: Final[Mapping[str, Any]] = {
    name: {"band": "low", "from_band": "low"}.get(name, "") if field.kind == "text" else 0.5
    for name, field in FIELDS.items()
}


def rule(name: str = "leaving", **more: Any) -> dict[str, Any]:
    """A rule as the file has it; ``more`` may overrule any key (`for_` stands for `for`)."""
    said = {"name": name, "when": "band = 'high'", "owner": "retention", "receivers": ("desk",), "cooldown": "0s"}
    return said | {key.rstrip("_"): value for key, value in more.items()}


def rule_set(*rules: dict[str, Any], **more: Any) -> RuleSet:
    """A rules file of these rules, with receivers desk and pager, of which pager hears of no resolved alerts."""
    receivers = (
        {"name": "desk", "type": "file", "path": "-"},
        {"name": "pager", "type": "file", "path": "pager.ndjson", "resolved": False},
    )
    return RuleSet.model_validate({"version": 1, "receivers": receivers, "rules": rules or (rule(),)} | more)


def signal(customer: str = "ann", offset: int = 0, at_us: int | None = None, **facts: Any) -> dict[str, Any]:
    """One signal; by default an hour after the one before it in the log."""
    return {
        "signal_id": stable_id("signal", customer, str(offset)),
        "customer_id": customer,
        "judged_at": START_US + offset * HOUR_US if at_us is None else at_us,
        "log_partition": 3,
        "log_offset": offset,
        "reasons": [{"reason": "A complaint waits.", "log_odds": 1.2}],
        **ORDINARY,
        **facts,
    }


def frame(signals: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame(list(signals), schema=SIGNALS)


class Alerting:
    """Decides batch by batch and keeps the states, as intake does."""

    def __init__(self, rules: RuleSet) -> None:
        self.rules = rules
        self.states: dict[tuple[str, str], AlertState] = {}
        self.alerts: list[Alert] = []

    def take(self, *signals: Mapping[str, Any]) -> list[Alert]:
        return self.take_frame(frame(signals)).alerts

    def take_frame(self, signals: pl.DataFrame) -> Decided:
        decided = decide(self.rules, signals, self.states)
        self.states |= {(state.rule, state.customer_id): state for state in decided.states}
        self.alerts += decided.alerts
        return decided


def alert(name: str, at_us: int = START_US, turn: Turn = Turn.FIRING, **more: Any) -> Alert:
    """A turn of an alert that waits; its id follows from ``name``."""
    said: dict[str, Any] = {
        "alert_id": stable_id("alert", name),
        "turn": turn,
        "rule": "leaving",
        "rules_version": "v",
        "customer_id": name,
        "subject": name,
        "at_us": at_us,
        "fired_us": at_us,
        "severity": "warning",
        "owner": "retention",
        "due_us": 0,
        "summary": f"Customer {name}: risk 70% (high).",
        "facts": dict(ORDINARY) | {"value_at_risk": 10.0},
        "reasons": [("A complaint waits.", 1.2)],
        "signal_id": stable_id("signal", name),
        "log_partition": 3,
        "log_offset": 7,
    }
    return Alert(**(said | more))
