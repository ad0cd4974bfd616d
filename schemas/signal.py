"""The record of topic ``loyalty-signals``: JSON, keyed by customer: what judging found that somebody may want to hear.

There is one for each crossing of a risk band, and one for each review of a customer, which somebody asked for; then the
band may be the one before. The stream writes frames of signals, thousands of rows at a time; `LoyaltySignal` is the
contract that readers parse with, and a test holds the first to the second.
"""

from __future__ import annotations

import uuid
from typing import Annotated, Final, Literal

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from schemas.state_layout import BANDS

Band = Literal["low", "elevated", "high"]
Share = Annotated[float, Field(ge=0, le=1)]


BAND_TYPE: Final = pl.Enum(BANDS)
REASONS_TYPE: Final = pl.List(pl.Struct({"reason": pl.String, "log_odds": pl.Float64}))
SIGNALS: Final[dict[str, pl.DataType | type[pl.DataType]]] = {
    "signal_id": pl.Binary,
    "customer_id": pl.String,
    "judged_at": pl.Int64,
    "from_band": BAND_TYPE,
    "to_band": BAND_TYPE,
    "risk": pl.Float64,
    "score": pl.Float64,
    "trend": pl.Float64,
    "confidence": pl.Float64,
    "value_at_risk": pl.Float64,
    "reasons": REASONS_TYPE,
    "model_version": pl.String,
    "log_partition": pl.Int64,
    "log_offset": pl.Int64,
    "volatility": pl.Float64,
    "complaint_hours": pl.Float64,
    "feedback_hours": pl.Float64,
    "silence_days": pl.Float64,
    "usual_gap_days": pl.Float64,
    "worst_touchpoint": pl.String,
}
"""Columns of a frame of signals, those of table ``loyalty_signals``. ``judged_at`` is integer UTC microseconds,
``signal_id`` sixteen bytes, ``reasons`` sentences with signed log-odds, largest first."""


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
    # Records of before version 0.2 have none of these.
    volatility: Annotated[float, Field(ge=0)] = 0.0
    complaint_hours: Annotated[float, Field(ge=0, description="Age of the oldest open complaint; 0: none.")] = 0.0
    feedback_hours: Annotated[float, Field(ge=0, description="Unhappy feedback unanswered since; 0: none.")] = 0.0
    silence_days: Annotated[float, Field(ge=0, description="Since the customer last came; 0: never came.")] = 0.0
    usual_gap_days: Annotated[float, Field(ge=0, description="Mean days between comings; 0: not known yet.")] = 0.0
    worst_touchpoint: str = ""

    @property
    def crossed(self) -> bool:
        """True where the band changed."""
        return self.from_band != self.to_band


_HEX: Final = pl.col("signal_id").bin.encode("hex")
_UUID: Final = pl.concat_str(
    [_HEX.str.slice(start, length) for start, length in ((0, 8), (8, 4), (12, 4), (16, 4), (20, 12))], separator="-"
)
_RECORD: Final = pl.struct(
    [
        _UUID.alias("signal_id"),
        *(
            pl.col(name).alias("judged_at_us" if name == "judged_at" else name)
            for name in SIGNALS
            if name != "signal_id"
        ),
    ]
)


def encode_signals(signals: pl.DataFrame) -> list[bytes]:
    """The records' bytes, one for each row of a frame of `SIGNALS`."""
    return signals.select(_RECORD.struct.json_encode().cast(pl.Binary)).to_series().to_list()
