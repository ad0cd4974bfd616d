"""Refusals as HTTP: one table from reason to status, bodies as RFC 9457 problem details. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import orjson

from schemas.reasons import Reason
from schemas.refusals import Problem
from services.ingest.admit import RefusedEvent

MEDIA_TYPE: Final = "application/problem+json"
MAX_ERRORS: Final = 100
"""Entries in ``errors`` of one answer; ``results`` has a verdict for every event all the same."""

STATUS_OF: Final[Mapping[Reason, int]] = {
    Reason.INVALID_JSON: 400,
    Reason.TOO_DEEP: 400,
    Reason.DUPLICATE_KEY: 400,
    Reason.TOO_LARGE: 413,
    Reason.UNAVAILABLE: 503,
}
"""Any other reason is 422: read, and not valid."""

TITLES: Final[Mapping[int, str]] = {
    400: "The request cannot be read",
    401: "An API key is needed",
    404: "There is nothing here",
    405: "This method is not for this place",
    408: "The request took too long to arrive",
    413: "The request is too large",
    415: "The request is packed in an unknown way",
    422: "No event was accepted",
    429: "Too many events at once",
    500: "Something is wrong here",
    503: "Kafka did not take all events in time",
}


def status_of(reasons: Iterable[Reason]) -> int:
    """Status of a request of which nothing was accepted, by the reasons of its events."""
    statuses = {STATUS_OF.get(reason, 422) for reason in reasons}
    return statuses.pop() if len(statuses) == 1 else 422


def problem(
    status: int,
    code: str,
    detail: str,
    *,
    instance: str,
    errors: Sequence[Mapping[str, str]] = (),
    more: Mapping[str, Any] | None = None,
) -> bytes:
    """A problem details document. ``message`` repeats ``detail`` for clients that look for it there."""
    document: dict[str, Any] = {
        "type": f"urn:touchstone:problem:{code.replace('_', '-')}",
        "title": TITLES[status],
        "status": status,
        "detail": detail,
        "instance": instance,
        "code": code,
        "message": detail,
        "errors": list(errors),
    }
    return orjson.dumps(document | dict(more or {}))


def errors_of(refused: Iterable[RefusedEvent], *, single: bool) -> list[dict[str, str]]:
    """Each thing that is wrong, up to `MAX_ERRORS`: pointers into the body, which a single event is itself."""
    errors: list[dict[str, str]] = []
    for event in refused:
        prefix = "" if single else f"/{event.position}"
        errors += (_error(prefix, found) for found in event.problems)
        if len(errors) >= MAX_ERRORS:
            break
    return errors[:MAX_ERRORS]


def _error(prefix: str, found: Problem) -> dict[str, str]:
    return {"pointer": prefix + found.field, "code": found.reason, "detail": found.detail}
