"""Standard Webhooks: ``{type, timestamp, data}``, signed with one secret or, while one takes over, with two. Pure."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from standardwebhooks import Webhook

from services.alerting.delivery.formats.fitting import Payload, as_json, fitted
from services.alerting.document import Document

MOST_BYTES: Final = 20_000
"""The specification asks for less than 20 kB."""
KEY_BYTES: Final = range(24, 65)
PREFIX: Final = "whsec_"


class SigningSecretError(ValueError):
    """Not a secret by the specification; never quotes it."""


def render(document: Document) -> Payload:
    """The body, the same for every attempt: its time is that of the call."""
    return Payload(fitted(document, _body, MOST_BYTES - 1))


def signed(secrets: Sequence[str], call_id: str, now_us: int, body: bytes) -> dict[str, str]:
    """Headers of one attempt. Raises `SigningSecretError`.

    ``webhook-id`` is the call's id, the same with each attempt: receivers know a repeat by it. ``webhook-timestamp`` is
    the attempt's, so that a repeat days later is no replay.
    """
    moment = datetime.fromtimestamp(now_us // 1_000_000, UTC)
    signatures = [key_of(secret, place).sign(call_id, moment, body.decode()) for place, secret in enumerate(secrets)]
    return {
        "webhook-id": call_id,
        "webhook-timestamp": str(now_us // 1_000_000),
        "webhook-signature": " ".join(signatures),
    }


def key_of(secret: str, place: int = 0) -> Webhook:
    """What signs and verifies with a secret ``whsec_`` and base64 of 24 to 64 bytes; raises `SigningSecretError`."""
    try:
        if not secret.startswith(PREFIX):
            raise ValueError
        key = base64.b64decode(secret.removeprefix(PREFIX) + "==", validate=False)
    except (ValueError, binascii.Error):
        key = b""
    if len(key) not in KEY_BYTES:
        raise SigningSecretError(f"signing_secrets[{place}]: give whsec_ and the base64 of 24 to 64 random bytes")
    return Webhook(key)


def _body(document: Document) -> bytes:
    return as_json(
        {
            "type": f"touchstone.alert.{document.status}",
            "timestamp": document.made_at,
            "data": document.model_dump(mode="json"),
        }
    )
