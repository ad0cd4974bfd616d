"""Where ClickHouse is and how long to wait for it."""

from __future__ import annotations

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class ClickHouseSettings(BaseSettings):
    """Environment variables `TOUCHSTONE_CLICKHOUSE_...`; wrong values raise pydantic's ValidationError."""

    model_config = SettingsConfigDict(env_prefix="TOUCHSTONE_CLICKHOUSE_", extra="ignore")

    host: str = Field("127.0.0.1", min_length=1)
    port: int = Field(9000, ge=1, le=65535)
    """Native protocol."""
    http_port: int = Field(8123, ge=1, le=65535)
    user: str = Field("touchstone", min_length=1)
    password: SecretStr = SecretStr("")
    secure: bool = False
    """TLS on both ports."""
    connect_timeout_s: int = Field(5, ge=1, le=60)
    timeout_s: int = Field(20, ge=1, le=600)
    """Longest wait for one statement. A broker waits longer for its consumer, so that a slow insert is given up
    before the partition moves to another worker."""
    retry_s: int = Field(60, ge=0)
    """How long a statement that failed for a passing reason is tried again before the error is handed on."""
