"""What ingest refused, from topic ``rejected`` to rows of ``rejected_events``. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import orjson

from schemas.rejected import STAGE_INGEST, payload_of

_LAST_US: Final = 4_102_444_800_000_000
"""2100-01-01. Topics take any timestamp; a time that no table can hold must not stop the one who writes it down."""


def plausible_us(us: int) -> int:
    """A time that came with a record nobody vouches for, brought between 1970 and 2100."""
    return min(max(us, 0), _LAST_US)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A refused event with its position in topic ``rejected``."""

    log_partition: int
    log_offset: int
    rejected_at_us: int
    reason: str
    field: str
    detail: str
    source: str
    customer_id: str
    payload: bytes


def refusal(partition: int, offset: int, timestamp_ms: int, value: bytes) -> Refusal | None:
    """Read one record; None for those of scoring itself, which writes its own rows.

    Total: a record that cannot be read becomes a row that says so, with its bytes.
    """
    try:
        record: dict[str, Any] = orjson.loads(value)
        if record["stage"] != STAGE_INGEST:
            return None
        return Refusal(
            partition,
            offset,
            plausible_us(int(record["received_at"])),
            str(record["reason"]),
            str(record["field"]),
            str(record["detail"]),
            str(record["source"] or ""),
            str(record["customer_id"] or ""),
            payload_of(record),
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        detail = f"record of topic rejected cannot be read: {error}"
        return Refusal(partition, offset, plausible_us(timestamp_ms * 1000), "undecodable", "", detail, "", "", value)
