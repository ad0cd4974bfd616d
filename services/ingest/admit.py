"""A body becomes verdicts, records for the log, and refusals. Pure: the time of arrival is an argument.

A batch whose events are all good is read in one go. Anything doubtful in it (a value that does not fit, a member too
many, a key twice) sends the whole batch down the careful road, where each event's own text is judged alone; there the
good ones pass just the same.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from pydantic import ValidationError

from schemas.encode import Record, encode
from schemas.encode_event import DoubtfulEventError, encode_events
from schemas.reasons import Reason, Verdict
from schemas.refusals import Problem, RefusedEventError, explain
from schemas.scalars import MAX_EXACT_JSON_AMOUNT
from schemas.touchpoint import EVENT, EVENTS, MAX_ATTRIBUTES, MAX_ID_CHARS, to_record
from services.ingest.json_text import BLANK, NotJsonError, count_members, find_fault, split_array
from services.ingest.limits import Limits

LINE_TYPES: Final = frozenset(
    {"application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"}
)
MAX_MEMBERS: Final = 19 + MAX_ATTRIBUTES
"""More than any valid event has."""

_BOM: Final = b"\xef\xbb\xbf"
_KIND: Final = b'"kind"'
"""In every event, if no letter of it is escaped; then the careful road finds it."""
_OBJECT_AFTER_OBJECT: Final = re.compile(rb"\}[ \t\r]*\n\s*\{")

_validate_one: Final = EVENT.validator.validate_json
_validate_all: Final = EVENTS.validator.validate_json


class RefusedBodyError(ValueError):
    """No event of the body could be read; ``problem`` says why."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.problem = problem


@dataclass(frozen=True, slots=True)
class RefusedEvent:
    """An event that was read and is not taken."""

    position: int
    problems: tuple[Problem, ...]
    payload: bytes
    """Its text as it was sent."""
    event_id: str | None
    customer_id: str | None
    source: str | None


@dataclass(slots=True)
class Admission:
    """What became of a body's events. Record i belongs to the event at ``positions[i]`` of ``results``."""

    received_at_us: int
    results: list[dict[str, str | None]] = field(default_factory=list)
    """Verdicts in the order sent, as the reply shows them."""
    keys: list[str] = field(default_factory=list)
    values: list[bytes] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    refused: list[RefusedEvent] = field(default_factory=list)
    warned: list[Reason] = field(default_factory=list)
    """Why accepted events carry a warning."""


def admit(body: bytes, *, lines: bool, received_at_us: int, limits: Limits) -> Admission:
    """Judge each event of a body: one object, an array, or with ``lines`` (or plainly so) one object a line.

    Raises `RefusedBodyError` if it is none of these, has no event, or has more than ``limits.max_batch_events``.
    """
    body = body.removeprefix(_BOM)
    start = body[:64].lstrip(BLANK)[:1] or body.lstrip(BLANK)[:1]
    if not start:
        raise RefusedBodyError(Problem(Reason.INVALID_JSON, "", "The body is empty; send at least one event."))
    if lines or (start == b"{" and _OBJECT_AFTER_OBJECT.search(body)):
        texts = [text for line in body.split(b"\n") if (text := line.strip(BLANK))]
        return _admit_each(texts, received_at_us, limits)
    if start == b"[":
        return _admit_array(body, received_at_us, limits)
    return _admit_each([body.strip(BLANK)], received_at_us, limits)


def _admit_array(body: bytes, received_at_us: int, limits: Limits) -> Admission:
    members = count_members(body)
    # Validation takes microseconds for each member, good or not; more than events can have are counted out first.
    if members <= min(limits.max_batch_events, body.count(_KIND)) * MAX_MEMBERS:
        admission = _admit_good(body, members, received_at_us, limits)
        if admission is not None:
            return admission
    texts: list[bytes] = []
    try:
        for text in split_array(body):
            texts.append(text)
            if len(texts) > limits.max_batch_events:
                break
    except NotJsonError as error:
        raise RefusedBodyError(error.problem) from None
    return _admit_each(texts, received_at_us, limits)


def _admit_good(body: bytes, members: int, received_at_us: int, limits: Limits) -> Admission | None:
    """Admit an array in which nothing is doubtful; otherwise None."""
    try:
        events: list[dict[str, Any]] = _validate_all(body)
    except ValidationError:
        return None
    _check_count(len(events), limits)
    seen = sum(map(len, events))
    seen += sum(len(event["attributes"]) for event in events if event.get("attributes"))
    if seen != members:
        return None
    try:
        values = encode_events(events, received_at_us, received_at_us + limits.future_warned_us).values
    except DoubtfulEventError:
        return None
    return Admission(
        received_at_us,
        results=[{"event_id": event["event_id"], "verdict": "ok"} for event in events],
        keys=[event["customer_id"] for event in events],
        values=values,
        positions=list(range(len(events))),
    )


def _check_count(count: int, limits: Limits) -> None:
    if count == 0:
        raise RefusedBodyError(Problem(Reason.MISSING_FIELD, "", "The batch is empty; send at least one event."))
    if count > limits.max_batch_events:
        detail = f"More than {limits.max_batch_events} events in one request; send several."
        raise RefusedBodyError(Problem(Reason.TOO_LONG, "", detail))


def _admit_each(texts: list[bytes], received_at_us: int, limits: Limits) -> Admission:
    _check_count(len(texts), limits)
    admission = Admission(received_at_us)
    for position, text in enumerate(texts):
        try:
            sender_id, record = _judge(text, received_at_us, limits)
        except RefusedEventError as error:
            _refuse(admission, position, text, error.problems, limits)
            continue
        result = _accepted(sender_id, record, limits)
        if result["verdict"] != Verdict.OK:
            admission.warned.append(Reason.FUTURE_TIME)
        admission.results.append(result)
        admission.keys.append(record["customer_id"])
        admission.values.append(encode(record))
        admission.positions.append(position)
    return admission


def _accepted(sender_id: str, record: Record, limits: Limits) -> dict[str, str | None]:
    ahead_us = record["occurred_at"] - record["received_at"]
    if ahead_us <= limits.future_warned_us:
        return {"event_id": sender_id, "verdict": Verdict.OK}
    return {
        "event_id": sender_id,
        "verdict": Verdict.WARNING,
        "reason": Reason.FUTURE_TIME,
        "field": "/occurred_at",
        "detail": f"Accepted, but {ahead_us // 1_000_000} s ahead of its arrival; set the sender's clock.",
    }


def _judge(text: bytes, received_at_us: int, limits: Limits) -> tuple[str, Record]:
    """The sender's id and the record of one event's text; `RefusedEventError` if it is not taken."""
    if len(text) > limits.max_event_bytes:
        detail = f"An event's JSON may have {limits.max_event_bytes} bytes; shorten text and attributes."
        raise RefusedEventError(Problem(Reason.TOO_LARGE, "", detail))
    members = count_members(text)
    if members > limits.max_event_members:
        _refuse_many_members(text, limits)
    try:
        event: dict[str, Any] = _validate_one(text)
    except ValidationError as error:
        fault = find_fault(text)
        raise RefusedEventError(*((fault,) if fault else explain(error))) from None
    if len(event) + len(event.get("attributes") or ()) != members:
        fault = find_fault(text)
        if fault is not None:
            raise RefusedEventError(fault)
    amount = event.get("amount")
    if type(amount) is float and amount >= MAX_EXACT_JSON_AMOUNT:
        event["amount"] = json.loads(text, parse_float=Decimal)["amount"]
    sender_id: str = event["event_id"]
    record = to_record(event, received_at_us)
    if record["occurred_at"] - received_at_us > limits.future_refused_us:
        allowed = limits.future_refused_us // 1_000_000
        detail = f"More than {allowed} s ahead of its arrival; set the sender's clock, or send it when it happens."
        raise RefusedEventError(Problem(Reason.FUTURE_TIME, "/occurred_at", detail))
    return sender_id, record


def _refuse_many_members(text: bytes, limits: Limits) -> None:
    """Refuse before validation, which takes microseconds for each unknown member; quotes in a text look like some."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return  # validation stops at the same place and says more
    if (
        isinstance(value, dict)
        and max(len(value), *(len(m) for m in value.values() if isinstance(m, dict)), 0) > MAX_MEMBERS
    ):
        detail = (
            f"More than {limits.max_event_members} members; an event has at most {MAX_MEMBERS}, attributes included."
        )
        raise RefusedEventError(Problem(Reason.TOO_LARGE, "", detail))


def _refuse(admission: Admission, position: int, text: bytes, problems: tuple[Problem, ...], limits: Limits) -> None:
    event_id, customer_id, source = _names(text, limits)
    admission.refused.append(RefusedEvent(position, problems, text, event_id, customer_id, source))
    first = problems[0]
    admission.results.append(
        {
            "event_id": event_id,
            "verdict": Verdict.DROP,
            "reason": first.reason,
            "field": first.field,
            "detail": first.detail,
        }
    )


def _names(text: bytes, limits: Limits) -> Iterable[str | None]:
    """event_id, customer_id and source of a refused event, as far as they can be read."""
    try:
        value = json.loads(text) if len(text) <= limits.max_event_bytes else None
    except (ValueError, RecursionError):
        value = None
    event = value if isinstance(value, dict) else {}
    return [_short(event.get(name)) for name in ("event_id", "customer_id", "source")]


def _short(value: object) -> str | None:
    """A sender's string as far as it is whole characters and no longer than an id may be."""
    if not isinstance(value, str) or len(value) > MAX_ID_CHARS:
        return None
    return value.encode(errors="replace").decode()
