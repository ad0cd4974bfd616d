"""The record of topic ``loyalty-signals``: JSON, keyed by customer, one per crossing of a risk band."""

from __future__ import annotations

import uuid
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

_NAMESPACE: Final = uuid.UUID("0b2f4f0a-6a6e-5f0c-8a53-8f0f6f0f2c11")
"""Fixed for ever: a replay must give a crossing the same id."""

Band = Literal["low", "elevated", "high"]
Share = Annotated[float, Field(ge=0, le=1)]


class Reason(BaseModel):
    """One signed contribution to the risk, in the customer's words."""

    model_config = ConfigDict(frozen=True)
    reason: str
    log_odds: float


class LoyaltySignal(BaseModel):
    """A customer's loyalty risk crossed a level. Delivered at least once; ``signal_id`` is the same each time."""

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


def signal_id(customer_id: str, partition: int, offset: int) -> uuid.UUID:
    """The id of the crossing at a place in the log; a place has at most one."""
    return uuid.uuid5(_NAMESPACE, f"{customer_id}\x1f{partition}\x1f{offset}")


def review_event_id(customer_id: str, partition: int, offset: int) -> uuid.UUID:
    """The id of the review that a state at ``offset`` calls for: two timers that see the same state make one event."""
    return uuid.uuid5(_NAMESPACE, f"review\x1f{customer_id}\x1f{partition}\x1f{offset}")
