"""Where ClickHouse is and how long to wait for it."""

from __future__ import annotations

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class ClickHouseSettings(BaseSettings):
    """Environment variables `TOUCHSTONE_CLICKHOUSE_...`; wrong values raise pydantic's ValidationError."""

    model_config = SettingsConfigDict(env_prefix="TOUCHSTONE_CLICKHOUSE_", extra="ignore")

    host: str = Field("127.0.0.1", min_length=1, description="Address of ClickHouse.")
    port: int = Field(9000, ge=1, le=65535, description="Port of the native protocol.")
    http_port: int = Field(8123, ge=1, le=65535, description="Port of the HTTP interface.")
    user: str = Field("touchstone", min_length=1, description="Login that owns the tables.")
    password: SecretStr = Field(SecretStr(""), description="Its password.")
    secure: bool = Field(False, description="TLS on both ports.")
    connect_timeout_s: int = Field(5, ge=1, le=60, description="Longest wait for a connection.")
    # A broker waits longer for its consumer, so that a slow insert is given up before the partition moves.
    timeout_s: int = Field(20, ge=1, le=600, description="Longest wait for one statement.")
    retry_s: int = Field(
        60, ge=0, description="How long a statement that failed for a passing reason is tried again before it counts."
    )
