"""Records of the topic ``rejected``: what was refused, why, and its bytes, as JSON for any reader."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Final

import orjson

MAX_PAYLOAD_BYTES: Final = 64 << 10
"""More of a refused event is not kept: it has to fit a record beside its reason, even in base64."""

STAGE_INGEST: Final = "ingest"
STAGE_LOG: Final = "log"


def encode_rejected(
    *,
    stage: str,
    received_at_us: int,
    reason: str,
    field: str,
    detail: str,
    payload: bytes,
    event_id: str | None = None,
    customer_id: str | None = None,
    source: str | None = None,
) -> bytes:
    """One record: ``received_at`` is UTC microseconds, ``payload`` text where the bytes are UTF-8, else base64.

    ``payload_bytes`` is the length before it was cut at `MAX_PAYLOAD_BYTES`.
    """
    text, encoding = _as_text(payload)
    return orjson.dumps(
        {
            "stage": stage,
            "received_at": received_at_us,
            "reason": reason,
            "field": field,
            "detail": detail,
            "event_id": event_id,
            "customer_id": customer_id,
            "source": source,
            "payload": text,
            "payload_encoding": encoding,
            "payload_bytes": len(payload),
        }
    )


def payload_of(record: Mapping[str, Any]) -> bytes:
    """The bytes that were refused, as far as they were kept, from a parsed record."""
    payload: str = record["payload"]
    return base64.b64decode(payload) if record["payload_encoding"] == "base64" else payload.encode()


def _as_text(payload: bytes) -> tuple[str, str]:
    kept = payload[:MAX_PAYLOAD_BYTES]
    try:
        return kept.decode(), "utf-8"
    except UnicodeDecodeError as error:
        # The cut may have gone through a character; then only its beginning is missing from the text.
        if len(kept) < len(payload) and error.start > len(kept) - 4 and error.end == len(kept):
            return kept[: error.start].decode(), "utf-8"
    return base64.b64encode(kept).decode(), "base64"
