"""Steps of a case: what people do about an alert, as events of the customer whom it is about.

A case is an alert that somebody was called for; its id is the alert's. Steps stand in the customer's timeline and
change no score: what the customer feels of it is an event of an ordinary kind besides (``follow_up``,
``complaint_resolved``, ``outreach``).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from schemas.encode import EncodeError, encode
from schemas.identity import case_event_id
from schemas.kinds import OUTCOMES

KIND: Final = "case_step"
SOURCE: Final = "touchstone"
TOUCHPOINT: Final = "touchstone.case"
MAX_NOTE_CHARS: Final = 1_000
MAX_NAME_CHARS: Final = 100


class Step(StrEnum):
    """What was done about a case."""

    ACKNOWLEDGED = "acknowledged"
    ASSIGNED = "assigned"
    CLOSED = "closed"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class CaseStep:
    """One step. Names of the fields but the first and the last two are those of the record's attributes."""

    customer_id: str
    alert_id: str
    step: Step
    by: str
    """Who did it, as far as is known."""
    owner: str = ""
    """Of an assignment: who answers for the case from now on."""
    outcome: str = ""
    """Of a closing: one of `schemas.kinds.OUTCOMES`."""
    note: str = ""
    number: int = 0
    """Of an assignment: how many there were before it. Cases may go back to a former owner."""
    at_us: int = 0

    @property
    def event_id(self) -> bytes:
        """Follows from the alert and the step: who acknowledges or closes a case twice has done it once."""
        if self.step is Step.ASSIGNED:
            return case_event_id(self.alert_id, self.step, self.owner, str(self.number))
        if self.step is Step.NOTE:
            return case_event_id(self.alert_id, self.step, self.by, self.note)
        return case_event_id(self.alert_id, self.step)


def encode_case_step(step: CaseStep) -> bytes:
    """The record, to be keyed by the customer. EncodeError names what is missing or too long."""
    _check(step)
    told = {"owner": step.owner, "outcome": step.outcome, "note": step.note}
    return encode(
        {
            "event_id": step.event_id,
            "customer_id": step.customer_id,
            "occurred_at": step.at_us,
            "received_at": step.at_us,
            "source": SOURCE,
            "kind": KIND,
            "touchpoint": TOUCHPOINT,
            "case_id": step.alert_id,
            "attributes": {
                "step": step.step.value,
                "by": step.by,
                "alert_id": step.alert_id,
                **{name: value for name, value in told.items() if value},
            },
        }
    )


def _check(step: CaseStep) -> None:
    for name, value in (("customer_id", step.customer_id), ("alert_id", step.alert_id), ("by", step.by)):
        if not value:
            raise EncodeError(f"a step of a case needs {name}")
    for name, value, most in (
        ("by", step.by, MAX_NAME_CHARS),
        ("owner", step.owner, MAX_NAME_CHARS),
        ("note", step.note, MAX_NOTE_CHARS),
    ):
        if len(value) > most:
            raise EncodeError(f"{name} may have {most} characters, not {len(value)}")
    if (step.step is Step.ASSIGNED) != bool(step.owner):
        raise EncodeError("owner goes with an assignment, and an assignment needs one")
    if step.step is Step.CLOSED and step.outcome not in OUTCOMES:
        raise EncodeError(f"outcome must be {', '.join(OUTCOMES)}, not {step.outcome!r}")
    if step.step is not Step.CLOSED and step.outcome:
        raise EncodeError("outcome goes with closing a case")
    if step.step is Step.NOTE and not step.note:
        raise EncodeError("a note needs a text")
