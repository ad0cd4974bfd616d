"""Packets of the native protocol: numbers, revisions, and the parts of a query packet."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from typing import Final

from clickhouse_driver.settings.available import settings as old_settings
from clickhouse_driver.settings.types import SettingChar, SettingFloat, SettingString

from infra.embedded.clickhouse.errors import UNKNOWN_SETTING, ClickHouseError, ProtocolError
from infra.embedded.clickhouse.wire import ByteReader

# Below 54454 columns carry no serialisation byte, so blocks pass between client and engine as they are.
REVISION: Final = 54453
REVISION_BLOCK_INFO: Final = 51903
REVISION_CLIENT_INFO: Final = 54032
REVISION_TIMEZONE: Final = 54058
REVISION_QUOTA_KEY: Final = 54060
REVISION_DISPLAY_NAME: Final = 54372
REVISION_VERSION_PATCH: Final = 54401
REVISION_WRITE_INFO: Final = 54420
REVISION_SETTINGS_AS_STRINGS: Final = 54429
REVISION_INTERSERVER_SECRET: Final = 54441
REVISION_OPENTELEMETRY: Final = 54442
REVISION_FORWARDED_FOR: Final = 54443
REVISION_REFERER: Final = 54447
REVISION_DISTRIBUTED_DEPTH: Final = 54448
REVISION_QUERY_START_TIME: Final = 54449
REVISION_PARALLEL_REPLICAS: Final = 54453

HELLO, QUERY, DATA, CANCEL, PING, TABLES_STATUS = range(6)
SCALAR: Final = 7
S_HELLO, S_DATA, S_EXCEPTION, S_PROGRESS, S_PONG, S_END, S_PROFILE = range(7)
S_TABLES_STATUS: Final = 9
INTERFACE_TCP: Final = 1
INTERFACE_HTTP: Final = 2
STAGE_COMPLETE: Final = 2

MAX_LOGIN_BYTES: Final = 4096
MAX_QUERY_BYTES: Final = 256 << 20
MAX_READER_QUERY_BYTES: Final = 4 << 20
# What a query may bring along as temporary tables; they are held in memory.
MAX_EXTERNAL_BYTES: Final = 64 << 20
MAX_SETTINGS: Final = 4096
RECEIVE_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Query:
    """A query packet."""

    text: str
    settings: dict[str, str]
    compressed: bool


def skip_client_info(reader: ByteReader, revision: int) -> None:
    """Pass over what a query packet says of its client."""
    if reader.u8() == 0:
        return
    for _ in range(3):
        reader.blob(MAX_LOGIN_BYTES)
    if revision >= REVISION_QUERY_START_TIME:
        reader.exactly(8)
    interface = reader.u8()
    if interface == INTERFACE_TCP:
        for _ in range(3):
            reader.blob(MAX_LOGIN_BYTES)
        for _ in range(3):
            reader.varint()
    elif interface == INTERFACE_HTTP:  # a server passes on what an HTTP client of its own asked
        reader.u8()
        for since in (0, REVISION_FORWARDED_FOR, REVISION_REFERER):
            if revision >= since:
                reader.blob(MAX_LOGIN_BYTES)
    if revision >= REVISION_QUOTA_KEY:
        reader.blob(MAX_LOGIN_BYTES)
    if revision >= REVISION_DISTRIBUTED_DEPTH:
        reader.varint()
    if revision >= REVISION_VERSION_PATCH and interface == INTERFACE_TCP:
        reader.varint()
    if revision >= REVISION_OPENTELEMETRY and reader.u8():
        reader.exactly(24)
        reader.blob(MAX_LOGIN_BYTES)
        reader.u8()
    if revision >= REVISION_PARALLEL_REPLICAS:
        for _ in range(3):
            reader.varint()


def read_settings(
    reader: ByteReader, revision: int, known: Container[str]
) -> tuple[dict[str, str], ClickHouseError | None]:
    """Settings of a query packet, and what is wrong with them if they are unknown and important."""
    found: dict[str, str] = {}
    problem: ClickHouseError | None = None
    for _ in range(MAX_SETTINGS):
        name = reader.text(MAX_LOGIN_BYTES)
        if not name:
            return found, problem
        important = True
        if revision >= REVISION_SETTINGS_AS_STRINGS:
            important = bool(reader.u8() & 1)
            value = reader.text(1 << 20)
        else:
            value = _old_setting(reader, name)
        if name in known:
            found[name] = value
        elif important:
            problem = ClickHouseError(UNKNOWN_SETTING, f"Unknown setting '{name}'")
    raise ProtocolError("a query with too many settings")


def _old_setting(reader: ByteReader, name: str) -> str:
    """A setting in the typed form of old clients; its type must be known to find its end."""
    kind = old_settings.get(name)
    if kind is None:
        raise ProtocolError("a setting of unknown type")
    if isinstance(kind, SettingString | SettingFloat | SettingChar):
        return reader.text(1 << 20)
    return str(reader.varint())
