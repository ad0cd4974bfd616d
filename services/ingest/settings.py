"""Settings of the ingest process: environment variables ``TOUCHSTONE_INGEST_...`` and two that are shared."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from schemas.touchpoint import FUTURE_REFUSED_US
from services.ingest.limits import Limits
from services.ingest.rates import Rate

PREFIX: Final = "TOUCHSTONE_INGEST_"
MIN_KEY_CHARS: Final = 16
KEY_EVENTS_PER_S: Final = 20_000
"""Per key where senders come from elsewhere: less than half of what a process takes, so that one cannot fill it."""


class SettingsError(ValueError):
    """A setting is unknown or wrong; the message names it and says what it must be."""


class IngestSettings(BaseSettings):
    """Wrong values raise pydantic's ValidationError; `load` turns it into words."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_file=".env", extra="ignore", frozen=True)

    host: str = Field("127.0.0.1", min_length=1, description="Address to listen on.")
    port: int = Field(8080, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    kafka_bootstrap: str = Field(
        "127.0.0.1:9092",
        min_length=1,
        validation_alias="TOUCHSTONE_KAFKA_BOOTSTRAP",
        description="Kafka's address, host:port, several with commas.",
    )
    api_keys: SecretStr = Field(
        SecretStr(""),
        validation_alias="TOUCHSTONE_API_KEYS",
        description="Keys that senders may use, with commas, or @ and the path of a file with one a line.",
    )
    max_body_bytes: int = Field(4 << 20, ge=1 << 10, le=64 << 20, description="Of a body, packed and unpacked.")
    max_batch_events: int = Field(5_000, ge=1, le=50_000, description="Events in one request.")
    max_event_bytes: int = Field(1 << 20, ge=1 << 10, le=1 << 20, description="JSON text of one event.")
    max_future_s: int = Field(
        FUTURE_REFUSED_US // 1_000_000, ge=0, description="An event further ahead of its arrival is refused."
    )
    warn_future_s: int = Field(60, ge=0, description="An event further ahead is taken with a warning.")
    max_inflight_bytes: int = Field(
        64 << 20, ge=1 << 20, description="Bodies being received or waiting for Kafka; more are told to retry."
    )
    max_connections: int = Field(4_000, ge=1, description="Open connections; more are closed with 503.")
    key_events_per_s: int | None = Field(
        None,
        ge=0,
        description=(
            f"Events a second that each API key may send, or each client address where no key is asked for; 0: any "
            f"number. Not set: any number on loopback, {KEY_EVENTS_PER_S} elsewhere. More are answered 429. Each "
            "process counts for itself."
        ),
    )
    key_burst_events: int = Field(
        60_000,
        ge=1,
        description="Events that one key may send at once after a pause; a larger batch is refused (422).",
    )
    events_per_s: int = Field(0, ge=0, description="Events a second from all senders together; 0: any number.")
    burst_events: int = Field(
        120_000, ge=1, description="Events that all together may send at once after a pause; a larger batch is refused."
    )
    max_queued_records: int = Field(
        100_000, ge=1_000, description="Records waiting for Kafka; requests that would add more are told to retry."
    )
    receive_timeout_s: float = Field(15, gt=0, le=600, description="From a request's first byte to its last.")
    delivery_timeout_s: float = Field(
        10, gt=0.5, le=300, description="How long Kafka may take to acknowledge a request's events."
    )
    retry_after_s: int = Field(2, ge=1, le=300, description="Sent in Retry-After.")
    stop_timeout_s: float = Field(20, gt=0, le=600, description="For requests in flight when told to stop.")
    linger_ms: int = Field(5, ge=0, le=1_000, description="How long records wait to travel in company.")
    log_level: str = Field("info", pattern="^(debug|info|warning|error)$", description="Of the process's log.")

    @property
    def key_rate(self) -> Rate | None:
        """What each sender may send."""
        per_s = self.key_events_per_s
        if per_s is None:
            per_s = 0 if is_loopback(self.host) else KEY_EVENTS_PER_S
        return Rate(per_s, self.key_burst_events) if per_s else None

    @property
    def overall_rate(self) -> Rate | None:
        """What all senders may send together."""
        return Rate(self.events_per_s, self.burst_events) if self.events_per_s else None

    def _rates(self) -> list[Rate]:
        return [rate for rate in (self.key_rate, self.overall_rate) if rate is not None]

    @property
    def limits(self) -> Limits:
        return Limits(
            max_body_bytes=self.max_body_bytes,
            max_batch_events=min([self.max_batch_events, *(rate.burst_events for rate in self._rates())]),
            max_event_bytes=self.max_event_bytes,
            future_refused_us=self.max_future_s * 1_000_000,
            future_warned_us=min(self.warn_future_s, self.max_future_s) * 1_000_000,
        )

    def keys(self) -> tuple[str, ...]:
        """The API keys in clear text; empty means that none is asked for. Raises `SettingsError`."""
        text = self.api_keys.get_secret_value().strip()
        if text.startswith("@"):
            path = Path(text[1:])
            try:
                text = path.read_text("utf-8").replace("\n", ",")
            except (OSError, UnicodeDecodeError) as error:
                raise SettingsError(f"TOUCHSTONE_API_KEYS: file {path} cannot be read: {error}") from error
        keys = tuple(key for part in text.split(",") if (key := part.strip()))
        if any(len(key) < MIN_KEY_CHARS or not key.isascii() or not key.isprintable() for key in keys):
            raise SettingsError(
                f"TOUCHSTONE_API_KEYS: each key needs at least {MIN_KEY_CHARS} printable ASCII characters"
            )
        if not keys and not is_loopback(self.host):
            raise SettingsError(
                f"TOUCHSTONE_INGEST_HOST={self.host} can be reached from elsewhere: set TOUCHSTONE_API_KEYS, "
                "or listen on 127.0.0.1"
            )
        return keys


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach ``host``; a name other than localhost counts as reachable."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def load(environ: Mapping[str, str] = os.environ, **values: Any) -> IngestSettings:
    """Settings of this process; raises `SettingsError` for unknown and wrong ones."""
    known = {PREFIX + name.upper() for name in IngestSettings.model_fields}
    unknown = sorted(name for name in environ if name.upper().startswith(PREFIX) and name.upper() not in known)
    if unknown:
        raise SettingsError(f"unknown setting {', '.join(unknown)}; known are {', '.join(sorted(known))}")
    try:
        settings = IngestSettings(**values)
    except ValidationError as error:
        raise SettingsError("; ".join(map(_in_words, error.errors()))) from error
    settings.keys()
    return settings


def _in_words(error: Any) -> str:
    name = str(error["loc"][0]) if error["loc"] else PREFIX
    variable = name if name.startswith("TOUCHSTONE_") else PREFIX + name.upper()
    return f"{variable}: {error['msg']}"
