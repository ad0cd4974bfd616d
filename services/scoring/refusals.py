"""What ingest refused, from topic ``rejected`` to rows of ``rejected_events``. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from schemas.rejected import STAGE_INGEST, payload_of


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
            int(record["received_at"]),
            str(record["reason"]),
            str(record["field"]),
            str(record["detail"]),
            str(record["source"] or ""),
            str(record["customer_id"] or ""),
            payload_of(record),
        )
    except (ValueError, KeyError, TypeError) as error:
        detail = f"record of topic rejected cannot be read: {error}"
        return Refusal(partition, offset, timestamp_ms * 1000, "undecodable", "", detail, "", "", value)
