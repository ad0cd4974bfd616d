"""Topics of a cluster: how many partitions and copies."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class TopicSettings(BaseSettings):
    """Environment variables ``TOUCHSTONE_...``; wrong values raise pydantic's ValidationError."""

    model_config = SettingsConfigDict(env_prefix="TOUCHSTONE_", env_file=".env", extra="ignore", frozen=True)

    kafka_bootstrap: str = Field(
        "127.0.0.1:9092", min_length=1, description="Kafka's address, host:port, several with commas."
    )
    partitions: int = Field(4, ge=1, le=1024, description="Partitions of the topics; fixed when they are made.")
    kafka_replication: int = Field(
        1, ge=1, le=15, description="Brokers that hold each record, for topics that are made anew."
    )
    kafka_min_insync: int = Field(
        1, ge=1, le=15, description="Brokers that must have a record before it is acknowledged (min.insync.replicas)."
    )

    @model_validator(mode="after")
    def _one_may_be_away(self) -> Self:
        if self.kafka_min_insync > self.kafka_replication:
            raise ValueError(
                f"TOUCHSTONE_KAFKA_MIN_INSYNC={self.kafka_min_insync} is more than TOUCHSTONE_KAFKA_REPLICATION="
                f"{self.kafka_replication}: nothing would ever be acknowledged"
            )
        return self
