"""What a server must be like, looked up before the first event is taken: nothing here is taken on trust."""

from __future__ import annotations

import re
from typing import Any, Final

from infra.clickhouse.client import INSERT_SETTINGS, ClickHouse
from infra.clickhouse.errors import UnfitServerError
from schemas.tables import CUSTOMER_STATE, DATABASE, TABLES, TOUCHPOINTS

OLDEST_VERSION: Final = (25, 3)
"""A release with long support that knows every setting of the migrations."""
DEDUPLICATION_WINDOW: Final = 10_000
"""Blocks per table whose repetition is noticed: far more than are written while a retry waits."""

_WINDOW: Final = re.compile(r"\b(?:non_)?replicated_deduplication_window = (\d+)")
_MIGRATE: Final = "run `touchstone up` or `python -m infra.clickhouse.migrate`"


def assert_settings(client: ClickHouse) -> None:
    """Raise UnfitServerError, saying what to change, unless the server and its tables are as Touchstone needs them."""
    _check_version(client)
    _check_insert_settings(client)
    _check_columns(client)
    _check_windows(client)


def _check_version(client: ClickHouse) -> None:
    [(version,)] = client.query("SELECT version()")
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_VERSION:
        wanted = ".".join(str(part) for part in OLDEST_VERSION)
        raise UnfitServerError(f"ClickHouse is of version {version}, at least {wanted} is needed: upgrade the server")


def _check_insert_settings(client: ClickHouse) -> None:
    """As the server sees them while a statement runs with them: a login's profile may hold others fast."""
    names = ", ".join(f"'{name}'" for name in INSERT_SETTINGS)
    rows = client.query(f"SELECT name, value FROM system.settings WHERE name IN ({names})", settings=INSERT_SETTINGS)
    found: dict[str, Any] = dict(rows)
    for name, wanted in INSERT_SETTINGS.items():
        if name not in found:
            raise UnfitServerError(
                f"ClickHouse does not know the setting {name}: use a release that Touchstone supports"
            )
        if found[name] != str(wanted):
            raise UnfitServerError(
                f"inserts need {name} = {wanted}, but the login's profile makes it {found[name]}: "
                f"take {name} out of the profile's constraints"
            )


def _check_columns(client: ClickHouse) -> None:
    """Columns that nobody here knows are a newer version's: all statements name theirs, so they do no harm, and during
    a rolling upgrade a worker of before may start again."""
    rows = client.query(
        f"SELECT table, name, type FROM system.columns WHERE database = '{DATABASE}' ORDER BY table, position"
    )
    found: dict[str, dict[str, str]] = {}
    for table_name, name, type_name in rows:
        found.setdefault(table_name, {})[name] = type_name
    for table in TABLES:
        wanted = {column.name: column.type for column in (*table.columns, *table.packed)}
        if table.name not in found:
            raise UnfitServerError(f"table {DATABASE}.{table.name} does not exist: {_MIGRATE}")
        missing = sorted(set(wanted.items()) - set(found[table.name].items()))
        if missing:
            raise UnfitServerError(
                f"table {DATABASE}.{table.name} has not all columns that are needed, or of other types: {missing}; "
                f"{_MIGRATE}"
            )


def _check_windows(client: ClickHouse) -> None:
    rows = client.query(f"SELECT name, engine, engine_full FROM system.tables WHERE database = '{DATABASE}'")
    engines = {name: (engine, full) for name, engine, full in rows}
    for table in (TOUCHPOINTS, CUSTOMER_STATE):
        engine, full = engines[table.name]
        window = _WINDOW.search(full)
        # Replicated tables have a window by default.
        blocks = int(window[1]) if window else DEDUPLICATION_WINDOW if engine.startswith("Replicated") else 0
        if blocks < DEDUPLICATION_WINDOW:
            raise UnfitServerError(
                f"table {DATABASE}.{table.name} notices the repetition of {blocks} blocks, {DEDUPLICATION_WINDOW} are "
                f"needed: ALTER TABLE {DATABASE}.{table.name} MODIFY SETTING "
                f"non_replicated_deduplication_window = {DEDUPLICATION_WINDOW}"
            )
