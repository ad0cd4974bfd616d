"""Settings of the embedded ClickHouse server, read from the environment."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from infra.embedded.clickhouse.limits import ReaderLimits


class ClickHouseServerSettings(BaseSettings):
    """`TOUCHSTONE_...` variables; wrong values raise pydantic's ValidationError, which names them."""

    model_config = SettingsConfigDict(env_prefix="TOUCHSTONE_", extra="ignore")

    data_dir: Path = Field(Path(".touchstone"), description="Folder of the engine's data, below it clickhouse/.")
    clickhouse_host: str = Field("127.0.0.1", description="Address to listen on.")
    clickhouse_port: int = Field(9000, ge=0, le=65535, description="Port of the native protocol; 0 takes a free one.")
    clickhouse_http_port: int = Field(
        8123, ge=0, le=65535, description="Port of the HTTP interface; 0 takes a free one."
    )
    clickhouse_user: str = Field("touchstone", min_length=1, max_length=255, description="Login that owns the tables.")
    clickhouse_password: SecretStr = Field(SecretStr(""), description="Its password; empty only on loopback.")
    clickhouse_reader: str = Field("analyst", min_length=1, max_length=255, description="Login that may only read.")
    clickhouse_reader_password: SecretStr = Field(SecretStr(""), description="Its password; empty only on loopback.")
    clickhouse_reader_max_seconds: int = Field(30, ge=1, description="Longest query of the reading login.")
    clickhouse_reader_max_memory_bytes: int = Field(
        2 << 30, ge=1 << 20, description="Most memory of one of its queries."
    )
    clickhouse_reader_max_result_rows: int = Field(5_000_000, ge=1, description="Most rows it is sent for one query.")
    clickhouse_reader_max_result_bytes: int = Field(
        1 << 30, ge=1 << 20, description="Most bytes it is sent for one query."
    )
    clickhouse_reader_max_threads: int = Field(1, ge=1, description="Threads of one of its queries.")
    clickhouse_reader_max_concurrent: int = Field(
        8, ge=1, description="Its queries at the same time; more wait or are refused."
    )
    clickhouse_max_connections: int = Field(256, ge=1, description="Open connections of each of its two ports.")

    clickhouse_min_free_bytes: int = Field(
        256 << 20, ge=0, description="Room its disk must have left; below it writes are refused. 0: not watched."
    )

    @model_validator(mode="after")
    def _logins_are_told_apart(self) -> Self:
        if self.clickhouse_user == self.clickhouse_reader:
            raise ValueError("TOUCHSTONE_CLICKHOUSE_USER and TOUCHSTONE_CLICKHOUSE_READER must differ")
        if not _is_loopback(self.clickhouse_host) and not (
            self.clickhouse_password.get_secret_value() and self.clickhouse_reader_password.get_secret_value()
        ):
            raise ValueError(
                "TOUCHSTONE_CLICKHOUSE_PASSWORD and TOUCHSTONE_CLICKHOUSE_READER_PASSWORD must be set"
                " when TOUCHSTONE_CLICKHOUSE_HOST is not a loopback address"
            )
        return self

    @property
    def limits(self) -> ReaderLimits:
        """Caps for the read-only login."""
        return ReaderLimits(
            max_seconds=self.clickhouse_reader_max_seconds,
            max_memory_bytes=self.clickhouse_reader_max_memory_bytes,
            max_result_rows=self.clickhouse_reader_max_result_rows,
            max_result_bytes=self.clickhouse_reader_max_result_bytes,
            max_threads=self.clickhouse_reader_max_threads,
            max_concurrent=self.clickhouse_reader_max_concurrent,
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
