"""Who is to be reviewed because time alone has changed what a rule says: time as an event.

Signals come at crossings of bands; complaints grow older and silences longer in between. The sweep asks view
``customer_scores`` for whom a rule's condition as of now differs from where the rule stands, and each gets a review:
an event in the log that is judged and answered by a signal. So alerting decides by the log alone. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from schemas.tables import ALERT_STATES, DATABASE, TOUCHPOINTS
from services.alerting.alert import AlertState, Phase
from services.alerting.decide import may_change_from_us
from services.alerting.rules.model import RuleSet, sweep_condition

MOST_AT_ONCE: Final = 20_000
"""Customers of one sweep; the rest comes with the next."""
_MOST_DOUBLINGS: Final = 12
ANSWERED_WITHIN_US: Final = 10_000_000
"""Nobody is asked for again before: a review is in the log, and its signal on the way."""
_SEGMENT: Final = "told.segment"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A customer whom some rule may have to look at."""

    customer_id: str
    log_partition: int
    log_offset: int
    enters: Sequence[int]
    """By the rules' order: 1 where the rule would be entered as of now."""
    leaves: Sequence[int]


def asks_for_segments(rules: RuleSet) -> bool:
    """Whether any condition asks for the segment."""
    conditions = [c for rule in rules.rules for c in (rule.when, rule.until) if c is not None]
    return any("segment" in condition.fields for condition in conditions)


def candidates_sql(rules: RuleSet) -> str:
    """`Candidate` rows: customers for whom some rule would be entered, or has been and is not yet left."""
    segments = asks_for_segments(rules)
    pairs = [sweep_condition(rule, _SEGMENT if segments else "''") for rule in rules.rules]
    enters = ", ".join(f"toUInt8({enter})" for enter, _ in pairs)
    leaves = ", ".join(f"toUInt8({leave})" for _, leave in pairs)
    told = (
        "\nLEFT JOIN (SELECT customer_id, argMax(attributes['segment'], log_offset) AS segment "
        f"FROM {DATABASE}.{TOUCHPOINTS.name} WHERE mapContains(attributes, 'segment') GROUP BY customer_id) AS told "
        "ON told.customer_id = scores.customer_id"
        if segments
        else ""
    )
    return (
        f"SELECT scores.customer_id, scores.log_partition, scores.log_offset, [{enters}] AS enters, "
        f"[{leaves}] AS leaves\nFROM {DATABASE}.customer_scores AS scores{told}\n"
        f"WHERE has(enters, 1) OR scores.customer_id IN "
        f"(SELECT customer_id FROM {DATABASE}.{ALERT_STATES.name} FINAL WHERE phase != '{Phase.IDLE}')"
    )


def is_due(rules: RuleSet, candidate: Candidate, states: Mapping[tuple[str, str], AlertState], now_us: int) -> bool:
    """Whether a signal now would move some rule."""
    for rule, enters, leaves in zip(rules.rules, candidate.enters, candidate.leaves, strict=True):
        state = states.get((rule.name, candidate.customer_id))
        if state is None or state.phase is Phase.IDLE:
            if enters:
                return True
        elif state.phase is Phase.PENDING:
            if not enters or now_us >= may_change_from_us(rule, state):
                return True
        elif leaves and now_us >= may_change_from_us(rule, state):
            return True
    return False


@dataclass(slots=True)
class Patience:
    """Who was asked for in vain is asked for ever more rarely: what SQL and the stream see may differ by a hair."""

    interval_us: int
    _asked: dict[str, tuple[int, int]] = field(default_factory=dict)
    """By customer: how often in a row, and when next."""

    def choose(self, due: Sequence[Candidate], now_us: int) -> list[Candidate]:
        """Those of ``due`` whose turn it is. Who is no longer due is forgotten."""
        asked: dict[str, tuple[int, int]] = {}
        chosen: list[Candidate] = []
        for candidate in due:
            times, next_us = self._asked.get(candidate.customer_id, (0, 0))
            if now_us >= next_us and len(chosen) < MOST_AT_ONCE:
                chosen.append(candidate)
                next_us = now_us + max(self.interval_us << min(times, _MOST_DOUBLINGS), ANSWERED_WITHIN_US)
                times += 1
            asked[candidate.customer_id] = (times, next_us)
        self._asked = asked
        return chosen
