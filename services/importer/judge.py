"""Mapped rows through the contract: records for the log, or refusals. The same rules as at the HTTP edge. Pure."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import polars as pl
from pydantic import ValidationError

from schemas.encode import encode
from schemas.encode_event import DoubtfulEventError, encode_events
from schemas.reasons import Reason
from schemas.refusals import Problem, RefusedEventError, explain
from schemas.touchpoint import EVENT, EVENTS, FUTURE_REFUSED_US, to_record
from services.importer.plan import ATTRIBUTE, ATTRIBUTES, RATED_NAME, RATED_VALUE, SKIPPED

_JUDGED_AT_ONCE: Final = 500
"""Few enough to stay in the processor's cache from step to step, and a bad row slows only its neighbours."""


@dataclass(frozen=True, slots=True)
class RefusedRow:
    """A row that became no event."""

    row: int
    """Number of the row, 1 for the first after a header."""
    problems: tuple[Problem, ...]
    event: dict[str, Any]
    """What the mapping made of it; empty if it could not be read at all."""


@dataclass(slots=True)
class Judged:
    """What became of a chunk of rows."""

    keys: list[str] = field(default_factory=list)
    values: list[bytes] = field(default_factory=list)
    refused: list[RefusedRow] = field(default_factory=list)
    skipped: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    """Accepted events by kind."""
    earliest_us: int | None = None
    latest_us: int | None = None
    """Range of occurred_at of the accepted events."""

    def spans(self, earliest_us: int, latest_us: int) -> None:
        """Widen the range."""
        self.earliest_us = earliest_us if self.earliest_us is None else min(self.earliest_us, earliest_us)
        self.latest_us = latest_us if self.latest_us is None else max(self.latest_us, latest_us)


def to_events(mapped: pl.DataFrame) -> list[dict[str, Any] | None]:
    """Events as a sender would write them, members without a value left out; None for skipped rows."""
    names = mapped.columns
    plain = [(name, at) for at, name in enumerate(names) if not _is_extra(name)]
    attributes = [(name.removeprefix(ATTRIBUTE), at) for at, name in enumerate(names) if name.startswith(ATTRIBUTE)]
    skipped_at = names.index(SKIPPED)
    rated = (names.index(RATED_NAME), names.index(RATED_VALUE)) if RATED_NAME in names else None
    object_at = names.index(ATTRIBUTES) if ATTRIBUTES in names else None
    events: list[dict[str, Any] | None] = []
    for row in mapped.iter_rows():
        if row[skipped_at]:
            events.append(None)
            continue
        event = {name: value for name, at in plain if (value := row[at]) is not None}
        kept = {name: value for name, at in attributes if (value := row[at]) is not None}
        if rated is not None and row[rated[0]] is not None:
            kept[row[rated[0]]] = row[rated[1]]
        if object_at is not None and row[object_at] is not None:
            kept = _members(row[object_at], kept)
        if kept:
            event["attributes"] = kept
        events.append(event)
    return events


def _is_extra(name: str) -> bool:
    return name.startswith(ATTRIBUTE) or name in (RATED_NAME, RATED_VALUE, ATTRIBUTES, SKIPPED)


_decode: Final = json.JSONDecoder(parse_float=str, parse_int=str).decode


def _members(text: str, more: dict[str, str]) -> Any:
    """Attributes out of a JSON object, those that the mapping names on top; what is none is left to be refused."""
    try:
        members = _decode(text)
    except (ValueError, RecursionError):
        return text
    if not isinstance(members, dict):
        return members
    return {name: value for name, value in members.items() if value is not None} | more


def judge(events: Sequence[dict[str, Any] | None], rows: Sequence[int], received_at_us: int) -> Judged:
    """Judge events of the rows with these numbers, all received at one time (UTC microseconds)."""
    judged = Judged()
    present = [(row, event) for row, event in zip(rows, events, strict=True) if event is not None]
    judged.skipped = len(events) - len(present)
    for start in range(0, len(present), _JUDGED_AT_ONCE):
        some = present[start : start + _JUDGED_AT_ONCE]
        if not _judge_good([event for _, event in some], received_at_us, judged):
            _judge_each(some, received_at_us, judged)
    return judged


def _judge_good(events: list[dict[str, Any]], received_at_us: int, judged: Judged) -> bool:
    """Take events of which none is doubtful, all at once; False if there is one, and then nothing is taken."""
    try:
        valid: list[dict[str, Any]] = EVENTS.validator.validate_python(events)
        if any(len(after) != len(before) for after, before in zip(valid, events, strict=True)):
            return False  # a member that its kind does not have was left out
        encoded = encode_events(valid, received_at_us, received_at_us + FUTURE_REFUSED_US)
    except (ValidationError, DoubtfulEventError):
        return False
    judged.values += encoded.values
    judged.keys += [event["customer_id"] for event in valid]
    judged.kinds.update([event["kind"] for event in valid])
    judged.spans(encoded.earliest_us, encoded.latest_us)
    return True


def _judge_each(present: list[tuple[int, dict[str, Any]]], received_at_us: int, judged: Judged) -> None:
    latest_us = received_at_us + FUTURE_REFUSED_US
    kinds: list[str] = []
    times: list[int] = []
    for row, event in present:
        try:
            record = to_record(_validated_one(event), received_at_us)
            if record["occurred_at"] > latest_us:
                raise RefusedEventError(_AHEAD)
        except RefusedEventError as error:
            judged.refused.append(RefusedRow(row, error.problems, event))
            continue
        judged.values.append(encode(record))
        judged.keys.append(record["customer_id"])
        kinds.append(record["kind"])
        times.append(record["occurred_at"])
    if times:
        judged.kinds.update(kinds)
        judged.spans(min(times), max(times))


def _validated_one(event: dict[str, Any]) -> dict[str, Any]:
    try:
        valid: dict[str, Any] = EVENT.validator.validate_python(event)
    except ValidationError as error:
        raise RefusedEventError(*explain(error)) from None
    return valid


_AHEAD: Final = Problem(
    Reason.FUTURE_TIME,
    "/occurred_at",
    f"More than {FUTURE_REFUSED_US // 1_000_000} s in the future; look at format and zone of the time in the mapping.",
)
