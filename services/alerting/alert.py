"""What alerting keeps: the state of a rule about a customer, turns of alerts, calls and attempts at delivering them.

An *alert* is a rule that holds for a customer (or for a part of the company, then ``customer_id`` is empty): it fires
once and may resolve once. Its id follows from the log. A *call* tells one receiver of one or more alerts. Times are
integer UTC microseconds, 0 meaning never.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

ID_BYTES: Final = 16


class Phase(StrEnum):
    """Where a rule stands with a customer."""

    IDLE = "idle"
    PENDING = "pending"
    """The condition holds, and not yet for as long as the rule wants."""
    FIRING = "firing"


class Turn(StrEnum):
    """What happened to an alert."""

    FIRING = "firing"
    RESOLVED = "resolved"


class Fate(StrEnum):
    """What became of a turn of an alert."""

    WAITING = "waiting"
    """Decided, and not yet in a call."""
    CALLED = "called"
    """In a call."""
    OVER_BUDGET = "over_budget"
    """The rule had made as many calls as it may: recorded, and counted in one notice."""
    HELD_OUT = "held_out"
    """Recorded and not sent, by chance, so that the effect of calls can be measured."""
    UNTOLD = "untold"
    """Resolved, and nobody had been called."""


class Outcome(StrEnum):
    """How an attempt at a delivery ended."""

    DELIVERED = "delivered"
    FAILED = "failed"
    """It is tried again at ``next_us``."""
    DEAD = "dead"
    """Given up: it can be looked at and sent again by hand."""


@dataclass(frozen=True, slots=True)
class AlertState:
    """A rule and a customer, as of the last signal taken. A row of table ``alert_states``."""

    rule: str
    customer_id: str
    phase: Phase
    since_us: int
    """When the phase began, in the log's time."""
    alert_id: str
    """Of the alert that fires or fired last; empty: none ever."""
    fired_us: int
    resolved_us: int
    log_partition: int
    log_offset: int
    """Place in topic ``touchpoints`` of the event behind the last signal that was taken."""


@dataclass(frozen=True, slots=True)
class Alert:
    """One turn of an alert. A row of table ``alert_log``."""

    alert_id: str
    turn: Turn
    rule: str
    rules_version: str
    customer_id: str
    subject: str
    """What it is about where it is no customer: ``touchpoint=checkout``; else the customer."""
    at_us: int
    fired_us: int
    severity: str
    owner: str
    due_us: int
    """When the case should have been answered; 0: no time set."""
    summary: str
    facts: Mapping[str, float | str]
    """The fields of `services.alerting.rules.fields` as they were."""
    reasons: Sequence[tuple[str, float]]
    """Sentences with signed log-odds, largest first."""
    signal_id: str
    """Of the signal behind it, 32 hexadecimal digits; empty for a part of the company."""
    log_partition: int
    log_offset: int
    fate: Fate = Fate.WAITING


@dataclass(frozen=True, slots=True)
class Call:
    """What one receiver is to be told, once made never changed. A row of table ``alert_calls``."""

    call_id: str
    turn: Turn
    about: str
    """Of a resolved notice: the call whose alerts have resolved. Else empty."""
    rule: str
    severity: str
    receiver: str
    made_us: int
    not_before_us: int
    """Quiet hours end then; 0: at once."""
    alert_ids: tuple[str, ...]
    document: str
    """`services.alerting.document.Document` as JSON: every format is made from it, so a repeat has the same body."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try to deliver a call. A row of table ``alert_attempts``."""

    call_id: str
    receiver: str
    number: int
    """From 1; a call sent again by hand goes on counting."""
    at_us: int
    took_us: int
    outcome: Outcome
    status: int
    """HTTP status, or 0 where there was none."""
    detail: str
    """What went wrong and what to do; never a secret."""
    next_us: int
    """When it is tried again; 0: not."""


@dataclass(frozen=True, slots=True)
class Told:
    """What `document.Document` needs besides alerts: names that only the deployment knows."""

    base_url: str = ""
    """Where people open cases; empty: no links."""
    links: Mapping[str, str] = field(default_factory=dict)
    """By alert id: an address that acknowledges, with its token."""


def stable_id(*parts: str) -> str:
    """32 hexadecimal digits that follow from the parts alone: the same log gives the same ids."""
    said = "".join(f"{len(part) if part.isascii() else len(part.encode())}:{part}\x1f" for part in parts)
    return hashlib.sha256(said.encode()).hexdigest()[: 2 * ID_BYTES]
