"""The record of topic ``loyalty-signals``: JSON, keyed by customer, one per crossing of a risk band.

`Crossing` is what the stream writes, thousands at a time; `LoyaltySignal` is the contract that readers parse with, and
a test holds the first to the second.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Annotated, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field

Band = Literal["low", "elevated", "high"]
Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True, slots=True)
class Crossing:
    """A customer's loyalty risk crossed a level. ``reasons``: sentence and signed log-odds, largest first."""

    signal_id: bytes
    customer_id: str
    judged_at_us: int
    from_band: str
    to_band: str
    risk: float
    score: float
    trend: float
    confidence: float
    value_at_risk: float
    reasons: list[tuple[str, float]]
    model_version: str
    log_partition: int
    log_offset: int


class Reason(BaseModel):
    """One signed contribution to the risk, in the customer's words."""

    model_config = ConfigDict(frozen=True)
    reason: str
    log_odds: float


class LoyaltySignal(BaseModel):
    """A record of the topic. Delivered at least once; ``signal_id`` is the same each time."""

    model_config = ConfigDict(frozen=True)
    signal_id: uuid.UUID
    customer_id: str
    judged_at_us: int = Field(description="Integer UTC microseconds.")
    from_band: Band
    to_band: Band
    risk: Share
    score: Annotated[float, Field(ge=0, le=100)]
    trend: float
    confidence: Share
    value_at_risk: float
    reasons: tuple[Reason, ...]
    model_version: str
    log_partition: int
    log_offset: int


def encode_crossing(crossing: Crossing) -> bytes:
    """The record's bytes."""
    return orjson.dumps(
        {
            "signal_id": str(uuid.UUID(bytes=crossing.signal_id)),
            "customer_id": crossing.customer_id,
            "judged_at_us": crossing.judged_at_us,
            "from_band": crossing.from_band,
            "to_band": crossing.to_band,
            "risk": crossing.risk,
            "score": crossing.score,
            "trend": crossing.trend,
            "confidence": crossing.confidence,
            "value_at_risk": crossing.value_at_risk,
            "reasons": [{"reason": reason, "log_odds": log_odds} for reason, log_odds in crossing.reasons],
            "model_version": crossing.model_version,
            "log_partition": crossing.log_partition,
            "log_offset": crossing.log_offset,
        }
    )
