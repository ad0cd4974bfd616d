"""Refusals over HTTP as RFC 9457 problem details. Pure."""

from __future__ import annotations

from typing import Final

import orjson

MEDIA_TYPE: Final = "application/problem+json"

TITLES: Final = {
    400: "The request cannot be read",
    401: "An API key is needed",
    403: "This link does not open it",
    404: "There is nothing here",
    405: "This method is not for this place",
    409: "The case does not allow it",
    413: "The request is too large",
    422: "The request makes no sense",
    500: "Something is wrong here",
    503: "It cannot be told now",
}


def problem(status: int, code: str, detail: str, instance: str) -> bytes:
    """A problem details document. ``message`` repeats ``detail`` for clients that look for it there."""
    return orjson.dumps(
        {
            "type": f"urn:touchstone:problem:{code.replace('_', '-')}",
            "title": TITLES[status],
            "status": status,
            "detail": detail,
            "instance": instance,
            "code": code,
            "message": detail,
        }
    )
