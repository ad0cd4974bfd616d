"""The record that makes a customer be judged at a moment of silence, and be told about in a signal.

Its id follows from the state it was due for: whoever else asks for the same review makes the same event, and the second
one is dropped as a repeat.
"""

from __future__ import annotations

from typing import Final

from schemas.encode import encode
from schemas.identity import review_event_id

KIND: Final = "review_due"


def encode_review(customer_id: str, partition: int, offset: int, now_us: int) -> bytes:
    """The record for a customer whose state stands at ``offset`` of ``partition``; judged as of ``now_us``."""
    return encode(
        {
            "event_id": review_event_id(customer_id, partition, offset),
            "customer_id": customer_id,
            "occurred_at": now_us,
            "received_at": now_us,
            "source": "touchstone",
            "kind": KIND,
            "touchpoint": "touchstone.review",
            "channel": "",
            "attributes": {},
        }
    )
