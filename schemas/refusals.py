"""Why an event was refused, told so that its sender can mend it: field, reason and remedy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from pydantic import ValidationError

from schemas.emotions import EMOTIONS
from schemas.kinds import KINDS, OUTCOMES, RESERVED_KINDS
from schemas.metrics import METRICS
from schemas.reasons import Reason

MAX_POINTER_CHARS: Final = 200
"""A sender's own member names end up in pointers; they are cut to this."""


class Problem(NamedTuple):
    """One thing that is wrong with one event."""

    reason: Reason
    field: str
    """JSON pointer (RFC 6901) into the event; empty where the event as a whole is meant."""
    detail: str
    """One or two sentences for a person: what is wrong and what to do. Quotes no value of the event."""


class RefusedEventError(ValueError):
    """The event is not accepted; ``problems`` has at least one entry, the first is the verdict's."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__("; ".join(f"{p.field or 'event'}: {p.detail}" for p in problems))
        self.problems = problems


_SENDERS_KINDS: Final = ", ".join(kind for kind in KINDS if kind not in RESERVED_KINDS)

_EXPECTED: Final[Mapping[str, str]] = {
    "event_id": "a string of 1 to 255 characters without control characters: a UUID or the sender's own id",
    "customer_id": "a string of 1 to 255 characters without control characters",
    "occurred_at": 'an ISO 8601 time with a UTC offset, such as "2026-03-01T09:30:00Z"',
    "source": "the sending system's name: 1 to 100 letters, digits or _ . : / -",
    "kind": f"one of {_SENDERS_KINDS}",
    "touchpoint": "a dotted name of up to 100 small letters, digits, _ and - such as support.phone",
    "channel": "a dotted name of up to 100 small letters, digits, _ and - such as web",
    "journey_id": "a string of 1 to 255 characters without control characters",
    "journey": "a dotted name of up to 100 small letters, digits, _ and - such as onboarding",
    "case_id": "a string of 1 to 255 characters without control characters",
    "outcome": f"one of {', '.join(OUTCOMES)}",
    "metric": f"one of {', '.join(METRICS)} (a review takes stars or sentiment)",
    "rating": "a finite number on the metric's scale, not a string",
    "emotion": f"one of {', '.join(EMOTIONS)}",
    "intensity": "a number above 0 and up to 1",
    "confidence": "a number above 0 and up to 1",
    "amount": 'a decimal such as "49.90", not negative, with up to six decimals',
    "currency": "an ISO 4217 code of three capital letters, such as EUR",
    "text": "a string of up to 10000 characters without NUL",
    "attributes": "an object of up to 32 members; keys of 1 to 64 characters without control characters, "
    "values strings of up to 1000 characters without NUL",
}
"""What a field must be, in words; used as the remedy of every refusal of it."""

_REASON_OF_TYPE: Final[Mapping[str, Reason]] = {
    "missing": Reason.MISSING_FIELD,
    "union_tag_not_found": Reason.MISSING_FIELD,
    "extra_forbidden": Reason.UNKNOWN_FIELD,
    "string_too_long": Reason.TOO_LONG,
    "too_long": Reason.TOO_LONG,
    "greater_than": Reason.OUT_OF_RANGE,
    "less_than_equal": Reason.OUT_OF_RANGE,
}
"""pydantic's error types; any other is an invalid value."""


def pointer(parts: Iterable[object]) -> str:
    """RFC 6901 pointer, cut to `MAX_POINTER_CHARS`."""
    joined = "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)
    return joined if len(joined) <= MAX_POINTER_CHARS else joined[: MAX_POINTER_CHARS - 1] + "…"


def invalid(field: str) -> Problem:
    """``field`` has a value that it cannot have."""
    return Problem(Reason.INVALID_VALUE, f"/{field}", f"{field} must be {_EXPECTED[field]}.")


def missing(field: str, why: str) -> Problem:
    """``field`` is needed because of something else in the event."""
    return Problem(Reason.MISSING_FIELD, f"/{field}", f"{why}; add {field}: {_EXPECTED[field]}.")


def explain(error: ValidationError, limit: int = 10) -> tuple[Problem, ...]:
    """Up to ``limit`` problems behind a failed validation of one event, the most telling first.

    A member that is missing often has a neighbour with a mistyped name, so unknown members come first.
    """
    problems = [_problem(entry) for entry in error.errors(include_url=False, include_context=False)]
    problems.sort(key=lambda problem: problem.reason is not Reason.UNKNOWN_FIELD)
    return tuple(problems[:limit])


def _problem(entry: Mapping[str, Any]) -> Problem:
    kind_of_error: str = entry["type"]
    if kind_of_error == "json_invalid":
        return _not_json(entry["msg"])
    if kind_of_error == "union_tag_not_found":
        return Problem(Reason.MISSING_FIELD, "/kind", f"kind is missing; add {_EXPECTED['kind']}.")
    if kind_of_error == "union_tag_invalid":
        return _unknown_kind(entry["input"])
    location = entry["loc"][1:]  # the first part is the kind that told which fields to expect
    if not location:
        return Problem(Reason.INVALID_VALUE, "", "An event is a JSON object.")
    if location[-1] == "[key]":  # the pointer names the member whose key is at fault
        location = location[:-1]
    field = str(location[0])
    where = pointer(location)
    reason = _REASON_OF_TYPE.get(kind_of_error, Reason.INVALID_VALUE)
    if reason is Reason.UNKNOWN_FIELD:
        return Problem(reason, where, f"An event of kind {entry['loc'][0]} has no such member; {_hint(field)}.")
    if reason is Reason.MISSING_FIELD:
        return Problem(reason, where, f"{field} is missing; add {_EXPECTED[field]}.")
    return Problem(reason, where, f"{field} must be {_EXPECTED[field]}.")


def _hint(field: str) -> str:
    if field == "received_at":
        return "leave it out, it is set on arrival"
    if field in _EXPECTED:
        return "leave it out or send it with a kind that has it"
    return "leave it out or put it into attributes"


def _unknown_kind(value: object) -> Problem:
    kind = value.get("kind") if isinstance(value, dict) else None
    if isinstance(kind, str) and kind in RESERVED_KINDS:
        detail = f"Events of this kind are written by Touchstone itself; send {_EXPECTED['kind']}."
        return Problem(Reason.RESERVED_KIND, "/kind", detail)
    return Problem(Reason.UNKNOWN_KIND, "/kind", f"kind must be {_EXPECTED['kind']}.")


def _not_json(message: str) -> Problem:
    """By pydantic's text: its parser has no codes. The texts are held by tests."""
    text = message.removeprefix("Invalid JSON: ")
    if text.startswith("recursion limit exceeded"):
        return Problem(Reason.TOO_DEEP, "", "Nested too deeply; an event has two levels: itself and attributes.")
    return Problem(Reason.INVALID_JSON, "", f"Not JSON: {text}.")
