"""Event identity: any sender's id becomes sixteen bytes, the same ones every time."""

from __future__ import annotations

import hashlib
import uuid
from typing import Final

MAX_SENDER_ID_CHARS: Final = 255

_NAMESPACE: Final = uuid.UUID("6f1d9f5e-9c0b-5c57-9e0e-6c6f1a8f2d11")
"""Fixed for ever: changing it would give every string id another identity."""

_HASHED_NAMESPACE: Final = hashlib.sha1(_NAMESPACE.bytes, usedforsecurity=False)
_HASHED_SIGNALS: Final = hashlib.sha1(uuid.UUID("0b2f4f0a-6a6e-5f0c-8a53-8f0f6f0f2c11").bytes, usedforsecurity=False)
"""Fixed for ever: a replay must give a crossing, a review, an activation and a step of a case the same id."""


def identify(source: str, sender_id: str) -> tuple[bytes, str | None]:
    """Return the 16-byte event id, and the sender's id if it has to be kept because it was no UUID.

    A canonical UUID (hyphenated, any case) stands for itself whatever the source; anything else is uuid5 of
    source and id, so two systems that count 1, 2, 3 do not collide.
    """
    if len(sender_id) == 36 and sender_id[8:24:5] == "----":
        digits = sender_id.replace("-", "")
        try:
            # fromhex skips blanks, so fewer than 16 bytes come out of a text that has some.
            if len(digits) == 32 and len(event_id := bytes.fromhex(digits)) == 16:
                return event_id, None
        except ValueError:
            pass  # no hexadecimal digits: a string id like any other
    return _uuid5(f"{source}\x1f{sender_id}".encode()), sender_id


def signal_id(customer_id: str, partition: int, offset: int) -> bytes:
    """The id of the crossing of a risk band at a place in the log; a place has at most one."""
    return _uuid5(f"{customer_id}\x1f{partition}\x1f{offset}".encode(), _HASHED_SIGNALS)


def review_event_id(customer_id: str, partition: int, offset: int) -> bytes:
    """The id of the review that a state at ``offset`` calls for: two timers that see the same state make one event."""
    return _uuid5(f"review\x1f{customer_id}\x1f{partition}\x1f{offset}".encode(), _HASHED_SIGNALS)


def activation_event_id(version: str, partition: int, at_us: int) -> bytes:
    """The id of a risk model's activation in one partition: an activation that is sent again is the same event."""
    return _uuid5(f"model\x1f{version}\x1f{partition}\x1f{at_us}".encode(), _HASHED_SIGNALS)


def case_event_id(alert_id: str, *parts: str) -> bytes:
    """The id of an event of a case: a step that is taken twice is the same event."""
    return _uuid5("\x1f".join(("case", alert_id, *parts)).encode(), _HASHED_SIGNALS)


def _uuid5(name: bytes, namespace: hashlib._Hash = _HASHED_NAMESPACE) -> bytes:
    """``uuid.uuid5(namespace, name).bytes`` at a third of its cost."""
    digest = namespace.copy()
    digest.update(name)
    value = bytearray(digest.digest()[:16])
    value[6] = value[6] & 0x0F | 0x50
    value[8] = value[8] & 0x3F | 0x80
    return bytes(value)
