"""Event identity: any sender's id becomes sixteen bytes, the same ones every time."""

from __future__ import annotations

import re
import uuid
from typing import Final

MAX_SENDER_ID_CHARS: Final = 255

_NAMESPACE: Final = uuid.UUID("6f1d9f5e-9c0b-5c57-9e0e-6c6f1a8f2d11")
"""Fixed for ever: changing it would give every string id another identity."""

_UUID: Final = re.compile(r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}")


def identify(source: str, sender_id: str) -> tuple[bytes, str | None]:
    """Return the 16-byte event id, and the sender's id if it has to be kept because it was no UUID.

    A canonical UUID (hyphenated, any case) stands for itself whatever the source; anything else is uuid5 of
    source and id, so two systems that count 1, 2, 3 do not collide.
    """
    if len(sender_id) == 36 and _UUID.fullmatch(sender_id):
        return bytes.fromhex(sender_id.replace("-", "")), None
    return uuid.uuid5(_NAMESPACE, f"{source}\x1f{sender_id}").bytes, sender_id
