"""Settings of the single-machine stack, and the guard against TOUCHSTONE_ variables that nobody reads.

Values come from the environment, then from a .env file in the working folder, then from the defaults here.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, Self

from dotenv import dotenv_values
from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.cli.console import CommandError, ExitCode
from services.cli.setting_names import OTHERS

PREFIX: Final = "TOUCHSTONE_"
ENV_FILE: Final = ".env"
_OWNER: Final = "clickhouse_password"
_READER: Final = "clickhouse_reader_password"


class StackSettings(BaseSettings):
    """TOUCHSTONE_... variables that `touchstone` itself reads; ports are those of the single-machine stack."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=ENV_FILE, env_file_encoding="utf-8", extra="ignore", env_ignore_empty=True
    )

    data_dir: Path = Field(Path(".touchstone"), description="folder of everything that the stack keeps")
    cache_dir: Path | None = Field(None, description="folder of Kafka's jars; default ~/.cache/touchstone")
    java_home: Path | None = Field(None, description="home of a Java 17 or newer; default: the one that pip installed")
    kafka_heap_mib: int = Field(512, ge=128, le=65536, description="largest Java heap of Kafka")
    kafka_port: int = Field(9092, ge=1, le=65535, description="port of Kafka on 127.0.0.1")
    kafka_bootstrap: str | None = Field(None, description="Kafka brokers of a cluster, for commands other than up")
    partitions: int = Field(4, ge=1, le=1024, description="partitions of the topics; fixed at the first start")
    scoring_workers: int = Field(1, ge=1, le=64, description="scoring worker processes")
    ingest_host: str = Field("127.0.0.1", min_length=1, description="address that ingest listens on")
    ingest_port: int = Field(8080, ge=1, le=65535, description="port of ingest")
    alerting_host: str = Field("127.0.0.1", min_length=1, description="address that alerting listens on")
    alerting_port: int = Field(8090, ge=1, le=65535, description="port of alerting: cases, may I survey")
    clickhouse_host: str = Field("127.0.0.1", min_length=1, description="address of ClickHouse")
    clickhouse_port: int = Field(9000, ge=1, le=65535, description="port of ClickHouse's native protocol")
    clickhouse_http_port: int = Field(8123, ge=1, le=65535, description="port of ClickHouse's HTTP interface")
    clickhouse_user: str = Field("touchstone", min_length=1, description="login that owns the tables")
    clickhouse_password: SecretStr | None = Field(None, description="its password; made at the first start if unset")
    clickhouse_reader: str = Field("analyst", min_length=1, description="login that may only read")
    clickhouse_reader_password: SecretStr | None = Field(None, description="its password; made likewise")

    @field_validator("data_dir", "cache_dir", "java_home")
    @classmethod
    def _absolute(cls, path: Path | None) -> Path | None:
        return None if path is None else path.expanduser().absolute()

    @model_validator(mode="after")
    def _workers_have_partitions(self) -> Self:
        if self.scoring_workers > self.partitions:
            raise ValueError(
                f"TOUCHSTONE_SCORING_WORKERS={self.scoring_workers} is more than TOUCHSTONE_PARTITIONS="
                f"{self.partitions}: a partition is read by one worker, so some would have nothing to do"
            )
        if self.clickhouse_user == self.clickhouse_reader:
            raise ValueError("TOUCHSTONE_CLICKHOUSE_USER and TOUCHSTONE_CLICKHOUSE_READER must differ")
        return self

    def is_set(self, field: str) -> bool:
        """True when the value was given, false when it is the default."""
        return field in self.model_fields_set

    def credentials(self, *, create: bool = False) -> Credentials:
        """Passwords of the two logins: as set, else as kept in the data folder, else empty.

        With ``create`` missing ones are made and kept (readable by the owner alone).
        """
        owner, reader = self.clickhouse_password, self.clickhouse_reader_password
        kept = {} if owner is not None and reader is not None else _kept(self.data_dir, create=create)
        return Credentials(
            kept[_OWNER] if owner is None else owner.get_secret_value(),
            kept[_READER] if reader is None else reader.get_secret_value(),
        )


@dataclass(frozen=True, slots=True)
class Credentials:
    """Passwords of the ClickHouse logins."""

    owner: str
    reader: str

    def __repr__(self) -> str:
        return "Credentials(owner=***, reader=***)"


def credentials_path(data_dir: Path) -> Path:
    return data_dir / "credentials.json"


def _kept(data_dir: Path, *, create: bool) -> Mapping[str, str]:
    path = credentials_path(data_dir)
    if not path.exists():
        if not create:
            return {_OWNER: "", _READER: ""}
        _make(path)
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        return {name: str(kept[name]) for name in (_OWNER, _READER)}
    except (ValueError, KeyError, TypeError) as error:
        raise CommandError(
            f"{path} cannot be read ({type(error).__name__}): restore it, or remove it and set "
            "TOUCHSTONE_CLICKHOUSE_PASSWORD and TOUCHSTONE_CLICKHOUSE_READER_PASSWORD",
            ExitCode.WRONG_USE,
        ) from error


def _make(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.tmp")
    partial.touch(mode=0o600, exist_ok=False)
    try:
        partial.write_text(json.dumps({name: secrets.token_urlsafe(24) for name in (_OWNER, _READER)}))
        # Unlike a rename, a link leaves the file of a start that was faster.
        with suppress(FileExistsError):
            path.hardlink_to(partial)
    finally:
        partial.unlink()


def names_of(settings: type[BaseSettings]) -> frozenset[str]:
    """The environment variables that a settings class reads."""
    prefix = str(settings.model_config.get("env_prefix", ""))
    return frozenset(
        (field.validation_alias if isinstance(field.validation_alias, str) else f"{prefix}{name}").upper()
        for name, field in settings.model_fields.items()
    )


def known_names() -> frozenset[str]:
    """Every TOUCHSTONE_ variable that some part of Touchstone reads."""
    return names_of(StackSettings) | OTHERS


def unknown_settings(given: Iterable[str], known: frozenset[str]) -> list[str]:
    """A complaint for each TOUCHSTONE_ name that nobody reads, with what may have been meant."""
    complaints = []
    for name in sorted(set(given)):
        if not name.upper().startswith(PREFIX) or name.upper() in known:
            continue
        near = get_close_matches(name.upper(), sorted(known), n=3, cutoff=0.75)
        hint = f"did you mean {' or '.join(near)}?" if near else "docs/settings.md lists them all"
        complaints.append(f"{name} is no setting of Touchstone: {hint}")
    return complaints


def load_settings(**given: Any) -> StackSettings:
    """Read and check all settings. CommandError (wrong use) names every wrong or unknown one."""
    names = [*os.environ, *dotenv_values(ENV_FILE)]
    complaints = unknown_settings(names, known_names())
    try:
        settings = StackSettings(**given)
    except ValidationError as error:
        complaints += [_complaint(fault["loc"], fault["msg"], fault.get("input")) for fault in error.errors()]
        raise CommandError(_joined(complaints), ExitCode.WRONG_USE) from None
    if complaints:
        raise CommandError(_joined(complaints), ExitCode.WRONG_USE)
    return settings


def _complaint(location: tuple[int | str, ...], message: str, value: object) -> str:
    if not location:
        return message.removeprefix("Value error, ")
    name = f"{PREFIX}{location[0]}".upper()
    shown = "" if "PASSWORD" in name else f"={value}"
    return f"{name}{shown}: {message}"


def _joined(complaints: list[str]) -> str:
    return "wrong settings\n" + "\n".join(f"  {complaint}" for complaint in complaints)
