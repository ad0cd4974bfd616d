"""From the bytes of a rejected event to an event that can be changed and sent again. Pure."""

from __future__ import annotations

import io
import json
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import fastavro

from schemas.rejected import MAX_PAYLOAD_BYTES, STAGE_INGEST
from schemas.versions import BY_HEADER, HEADER_BYTES

Event = dict[str, Any]

_ATTRIBUTES: Final = "attributes"
_NUMBERS: Final = frozenset({"rating", "intensity", "confidence"})
_OURS: Final = frozenset({"received_at", "sender_event_id", "amount_micros"})
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class UnreadableEventError(ValueError):
    """The bytes are no event that could be changed member by member; the message says why."""


class WrongChangeError(ValueError):
    """A change is not written as FIELD=VALUE."""


def event_of(stage: str, payload: bytes) -> Event:
    """The event as a sender would write it: of JSON what was sent, of a record of the log what was meant."""
    if len(payload) >= MAX_PAYLOAD_BYTES:
        raise UnreadableEventError(f"only its first {MAX_PAYLOAD_BYTES:,} bytes were kept")
    return _from_json(payload) if stage == STAGE_INGEST else _from_record(payload)


def _from_json(payload: bytes) -> Event:
    try:
        value = json.loads(payload, object_pairs_hook=_members)
    except (ValueError, RecursionError) as error:
        raise UnreadableEventError(f"its bytes are no JSON: {error}") from error
    if not isinstance(value, dict):
        raise UnreadableEventError("it is no JSON object")
    return value


def _members(pairs: list[tuple[str, Any]]) -> Event:
    members = dict(pairs)
    if len(members) != len(pairs):
        # Which of the two values was meant, only a person can say.
        raise ValueError("a member is there twice")
    return members


def _from_record(payload: bytes) -> Event:
    version = BY_HEADER.get(payload[:HEADER_BYTES])
    if version is None:
        raise UnreadableEventError("its bytes name no known schema")
    document = version.document
    for field in document["fields"]:
        if isinstance(field["type"], dict) and "logicalType" in field["type"]:
            field["type"] = field["type"]["type"]
    body = io.BytesIO(payload[HEADER_BYTES:])
    try:
        record = fastavro.schemaless_reader(body, fastavro.parse_schema(document), None)
    except Exception as error:  # damaged bytes: the reader has no error of its own that covers them
        raise UnreadableEventError(f"its bytes do not fit their schema: {error or type(error).__name__}") from error
    if body.read(1) or not isinstance(record, dict):
        raise UnreadableEventError("its bytes do not fit their schema: some are left over")
    return _as_sent(record)


def _as_sent(record: dict[str, Any]) -> Event:
    event = {name: value for name, value in record.items() if name not in _OURS and value not in (None, "", {})}
    event["event_id"] = record.get("sender_event_id") or str(uuid.UUID(bytes=record["event_id"]))
    event["occurred_at"] = _time(record["occurred_at"])
    if record.get("amount_micros") is not None:
        event["amount"] = str(Decimal(record["amount_micros"]).scaleb(-6))
    return event


def _time(us: int) -> str:
    try:
        return (_EPOCH + timedelta(microseconds=us)).isoformat().replace("+00:00", "Z")
    except OverflowError:
        return f"{us} microseconds after 1970"


def changed(event: Event, set_to: Sequence[str], unset: Sequence[str]) -> Event:
    """A copy with some members set (FIELD=VALUE, attributes.NAME=VALUE) and some left out. WrongChangeError."""
    made = {**event}
    if isinstance(made.get(_ATTRIBUTES), dict):
        made[_ATTRIBUTES] = {**made[_ATTRIBUTES]}
    for name in unset:
        members, member = _place(made, name)
        members.pop(member, None)
    for change in set_to:
        name, equals, text = change.partition("=")
        if not equals or not name:
            raise WrongChangeError(f"--set {change!r} is no FIELD=VALUE, such as metric=nps or attributes.shop=north")
        members, member = _place(made, name)
        members[member] = _value(name, text)
    return made


def _place(event: Event, name: str) -> tuple[Event, str]:
    group, dot, member = name.partition(".")
    if group != _ATTRIBUTES or not dot:
        return event, name
    if not isinstance(event.get(_ATTRIBUTES), dict):
        event[_ATTRIBUTES] = {}
    return event[_ATTRIBUTES], member


def _value(name: str, text: str) -> Any:
    """Texts stay texts; numbers, and attributes as a whole, are read as JSON where they are some."""
    if name in _NUMBERS or name == _ATTRIBUTES:
        try:
            return json.loads(text)
        except ValueError:
            return text
    return text
