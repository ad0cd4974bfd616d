"""Cases: what may be done about one, and the records that doing it puts into the log. Pure.

A case is an alert about a customer that somebody was called for. Each function returns the records to append, keyed by
the customer; their ids follow from the alert and the step, so appending them again counts once.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from schemas.case import SOURCE, TOUCHPOINT, CaseStep, Step, encode_case_step
from schemas.encode import EncodeError, encode
from schemas.identity import MAX_SENDER_ID_CHARS, case_event_id


class CaseState(StrEnum):
    """Where a case stands."""

    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Case:
    """A row of view ``cases``. Times are UTC microseconds, 0: never."""

    case_id: str
    customer_id: str
    rule: str
    severity: str
    owner: str
    state: CaseState
    opened_us: int
    due_us: int
    overdue: bool
    acknowledged_us: int
    acknowledged_by: str
    closed_us: int
    closed_by: str
    outcome: str
    notes: int
    assignments: int
    resolved_us: int
    summary: str
    risk: float
    band: str
    score: float
    value_at_risk: float
    segment: str


class CaseError(ValueError):
    """It cannot be done: the case is closed. The message says what can be done instead."""


class BadStepError(CaseError):
    """What was given cannot be a step: a name or note is too long, an outcome unknown."""


def acknowledge(case: Case, by: str, at_us: int, note: str = "") -> tuple[bytes, ...]:
    """Take a case on. Nothing is appended where somebody has done so. CaseError for a closed case."""
    _still_open(case)
    if case.state is CaseState.ACKNOWLEDGED:
        return ()
    return (_step(CaseStep(case.customer_id, case.case_id, Step.ACKNOWLEDGED, by, note=note, at_us=at_us)),)


def assign(case: Case, owner: str, by: str, at_us: int) -> tuple[bytes, ...]:
    """Give a case to somebody. Nothing is appended where it is theirs. CaseError for a closed case."""
    _still_open(case)
    if owner == case.owner:
        return ()
    number = case.assignments
    return (
        _step(CaseStep(case.customer_id, case.case_id, Step.ASSIGNED, by, owner=owner, number=number, at_us=at_us)),
    )


def add_note(case: Case, note: str, by: str, at_us: int) -> tuple[bytes, ...]:
    """Write something down about a case, closed or not."""
    return (_step(CaseStep(case.customer_id, case.case_id, Step.NOTE, by, note=note, at_us=at_us)),)


def close(
    case: Case,
    outcome: str,
    by: str,
    at_us: int,
    *,
    note: str = "",
    complaint: str | None = None,
    contacted: bool = True,
) -> tuple[bytes, ...]:
    """End a case, and tell the log what the customer felt of it.

    ``contacted``: somebody came back to the customer, so a ``follow_up`` with the same outcome goes with it.
    ``complaint``: id of a complaint that has come to its end with it: a ``complaint_resolved``. Closing again with the
    same outcome gives the same records, which mends a closing that was broken off. CaseError where it was another.
    """
    if case.state is CaseState.CLOSED and outcome != case.outcome:
        raise CaseError(f"case {case.case_id} was closed as {case.outcome}; write what has come up since as a note")
    at_us = case.closed_us or at_us
    records = [
        _step(CaseStep(case.customer_id, case.case_id, Step.CLOSED, by, outcome=outcome, note=note, at_us=at_us))
    ]
    if contacted:
        records.append(_felt(case, "follow_up", outcome, at_us, case_event_id(case.case_id, "follow_up"), case.case_id))
    if complaint is not None:
        if not 0 < len(complaint) <= MAX_SENDER_ID_CHARS:
            raise BadStepError(f"complaint must be the case_id of a complaint, 1 to {MAX_SENDER_ID_CHARS} characters")
        event_id = case_event_id(case.case_id, "complaint_resolved", complaint)
        records.append(_felt(case, "complaint_resolved", outcome, at_us, event_id, complaint))
    return tuple(records)


def _still_open(case: Case) -> None:
    if case.state is CaseState.CLOSED:
        raise CaseError(
            f"case {case.case_id} was closed by {case.closed_by} as {case.outcome}; a new alert opens a new case"
        )


def _step(step: CaseStep) -> bytes:
    try:
        return encode_case_step(step)
    except EncodeError as error:
        raise BadStepError(str(error)) from error


def _felt(case: Case, kind: str, outcome: str, at_us: int, event_id: bytes, case_id: str) -> bytes:
    record: dict[str, Any] = {
        "event_id": event_id,
        "customer_id": case.customer_id,
        "occurred_at": at_us,
        "received_at": at_us,
        "source": SOURCE,
        "kind": kind,
        "touchpoint": TOUCHPOINT,
        "outcome": outcome,
        "case_id": case_id,
    }
    try:
        return encode(record)
    except EncodeError as error:
        raise BadStepError(str(error)) from error
