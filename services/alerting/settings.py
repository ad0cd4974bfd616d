"""Settings of the alerting process: environment variables ``TOUCHSTONE_ALERTING_...`` and some that are shared."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX: Final = "TOUCHSTONE_ALERTING_"


class AlertingSettings(BaseSettings):
    """Wrong values raise pydantic's ValidationError."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=".env", extra="ignore", frozen=True, env_ignore_empty=True
    )

    kafka_bootstrap: str = Field(
        "127.0.0.1:9092",
        min_length=1,
        validation_alias="TOUCHSTONE_KAFKA_BOOTSTRAP",
        description="Kafka's address, host:port, several with commas.",
    )
    rules: Path | None = Field(
        None, description="The rules file, YAML; not set: nobody is called. Read when it changes."
    )
    host: str = Field("127.0.0.1", min_length=1, description="Address of the HTTP interface for cases.")
    port: int = Field(8090, ge=0, le=65535, description="Its port; 0 takes a free one.")
    api_keys: SecretStr = Field(
        SecretStr(""),
        validation_alias="TOUCHSTONE_API_KEYS",
        description="Keys that senders may use, with commas, or @ and the path of a file with one a line.",
    )
    base_url: str = Field("", max_length=1000, description="Address of this interface as people reach it, for links.")
    link_keys: SecretStr = Field(
        SecretStr(""),
        description="Secrets that sign links in calls, the present one first and the former after a comma, or @ and a "
        "file's path. Not set: calls have no links.",
    )
    link_days: float = Field(14.0, gt=0, le=365, description="How long a link can acknowledge.")
    sweep_interval_s: float = Field(
        30.0, ge=0.5, le=86_400, description="Least time between two looks for customers whom time alone has changed."
    )
    focus_interval_s: float = Field(
        300.0, ge=1, le=86_400, description="Time between two looks for windows that have closed."
    )
    rules_interval_s: float = Field(
        5.0, ge=0.2, le=3600, description="Time between two looks for a changed rules file."
    )
    metrics_host: str = Field("127.0.0.1", min_length=1, description="Address that /metrics listens on.")
    metrics_port: int = Field(0, ge=0, le=65535, description="Port of /metrics; 0 means none.")
    stop_timeout_s: float = Field(25.0, gt=0, le=600, description="For calls under way when told to stop.")
    log_level: str = Field("info", pattern="^(debug|info|warning|error)$", description="Of the process's log.")
