"""Settings of a scoring worker: environment variables ``TOUCHSTONE_SCORING_...`` and one that is shared."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class ScoringSettings(BaseSettings):
    """Wrong values raise pydantic's ValidationError."""

    model_config = SettingsConfigDict(
        env_prefix="TOUCHSTONE_SCORING_", env_file=".env", extra="ignore", frozen=True, populate_by_name=True
    )

    kafka_bootstrap: str = Field(
        "127.0.0.1:9092",
        min_length=1,
        validation_alias="TOUCHSTONE_KAFKA_BOOTSTRAP",
        description="Kafka's address, host:port, several with commas.",
    )
    worker: int = Field(1, ge=1, description="Number of this worker on this machine; shown in logs and metrics.")
    ready_file: Path | None = Field(None, description="Made when the worker is ready, if set.")
    cache_customers: int = Field(
        300_000,
        ge=10_000,
        description="Customers' states kept in memory, about 1 kB each; others are loaded when needed.",
    )
    max_unwritten_records: int = Field(
        60_000, ge=1_000, description="Records folded and not yet written; about 0.5 kB each."
    )
    max_open_bytes: int = Field(
        64 << 20,
        ge=16 << 20,
        description="Bytes of records read and not yet acknowledged; reading waits above it.",
    )
    write_interval_ms: int = Field(
        200, ge=10, le=10_000, description="Least time between two writes to the tables: part of the freshness."
    )
    flood_rejected: int = Field(
        1_000,
        ge=0,
        description=(
            "A partition stops, and says so, when this many records were rejected within the window; 0: it never does."
        ),
    )
    flood_window_records: int = Field(
        2_000, ge=1, description="The window for that: so many records of the partition in a row."
    )
    review_interval_s: float = Field(
        5.0,
        ge=0.5,
        le=3600,
        description="Least time between two looks for customers whose risk band changed in silence.",
    )
    metrics_host: str = Field("127.0.0.1", min_length=1, description="Address that /metrics listens on.")
    metrics_port: int = Field(
        0, ge=0, le=65000, description="Port of /metrics of worker 1; worker n takes n - 1 more. 0 means none."
    )
    log_level: str = Field("info", pattern="^(debug|info|warning|error)$", description="Of the process's log.")

    @model_validator(mode="after")
    def _flood_fits(self) -> Self:
        if self.flood_rejected > self.flood_window_records:
            raise ValueError(
                f"TOUCHSTONE_SCORING_FLOOD_REJECTED={self.flood_rejected} can never be reached within "
                f"TOUCHSTONE_SCORING_FLOOD_WINDOW_RECORDS={self.flood_window_records}"
            )
        return self
