"""Which risk model judges where in the log: table `model_activations`, and the models that are shown as active."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from infra.clickhouse.client import ClickHouse, quoted
from schemas.activation import Activation
from schemas.tables import DATABASE, MODEL_ACTIVATIONS, MODELS

_TABLE: Final = f"{DATABASE}.{MODEL_ACTIVATIONS.name}"
_MODELS: Final = f"{DATABASE}.{MODELS.name}"
_SELECT: Final = (
    "SELECT log_partition, log_offset, toUnixTimestamp64Micro(activated_at) AS activated_at_us, version, parameters "
    f"FROM {_TABLE} FINAL"
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ALWAYS: Final = _EPOCH + timedelta(seconds=1)
"""Since when the documented default has been active: before any activation, and not never, which is the epoch."""


def load(client: ClickHouse, partition: int, before: int) -> list[Activation]:
    """Activations of a partition below an offset, ascending."""
    rows = client.query(f"{_SELECT} WHERE log_partition = {partition} AND log_offset < {before} ORDER BY log_offset")
    return [Activation(*row) for row in rows]


def latest(client: ClickHouse) -> dict[int, Activation]:
    """The last activation of each partition that has one."""
    rows = client.query(f"{_SELECT} ORDER BY log_offset DESC LIMIT 1 BY log_partition")
    return {row[0]: Activation(*row) for row in rows}


def write(client: ClickHouse, activations: Sequence[Activation]) -> None:
    """Keep activations, and show their models as active since then. A report that is there stays.

    Writing the same again changes nothing: of the rows of one model the one activated last stands.
    """
    client.insert_rows(
        MODEL_ACTIVATIONS.name,
        MODEL_ACTIVATIONS.names,
        [
            (at.log_partition, at.log_offset, _moment(at.activated_at_us), at.version, at.parameters)
            for at in activations
        ],
    )
    newest = {at.version: at for at in sorted(activations, key=lambda at: (at.activated_at_us, at.log_offset))}
    reports = dict(
        client.query(f"SELECT version, report FROM {_MODELS} FINAL WHERE version IN ({quoted(list(newest))})")
    )
    client.insert_rows(
        MODELS.name,
        MODELS.names,
        [
            (at.version, _moment(at.activated_at_us), at.parameters, reports.get(at.version, ""))
            for at in newest.values()
        ],
    )


def unlogged(client: ClickHouse) -> list[str]:
    """Models that table ``models`` shows as active without an event in the log that says where."""
    rows = client.query(
        f"SELECT DISTINCT version FROM {_MODELS} FINAL WHERE toUnixTimestamp64Micro(activated_at) > 0 "
        f"AND version NOT IN (SELECT version FROM {_TABLE}) ORDER BY version"
    )
    return [version for (version,) in rows]


def documented(client: ClickHouse, version: str) -> str | None:
    """Parameters of the documented default that judges where the log activates no other: the newest of ``version`` and
    its variants, whose versions go on with a +. None in a fresh database."""
    rows = client.query(
        f"SELECT parameters FROM {_MODELS} FINAL WHERE (version = %(version)s OR startsWith(version, %(variants)s)) "
        f"AND version NOT IN (SELECT version FROM {_TABLE}) ORDER BY activated_at DESC LIMIT 1",
        {"version": version, "variants": f"{version}+"},
    )
    return rows[0][0] if rows else None


def choose_documented(client: ClickHouse, version: str, parameters: str, now_us: int) -> None:
    """Let a variant of the documented default judge from now on where the log activates no other."""
    client.insert_rows(MODELS.name, MODELS.names, [(version, _moment(now_us), parameters, "")])


def show_default(client: ClickHouse, version: str, parameters: str, former: str) -> None:
    """Show the documented default as active where no activation says otherwise: in a fresh database, and instead of a
    default of an earlier release, whose versions begin with ``former``."""
    known = f"version = {quoted([version])}"
    if client.query(f"SELECT 1 FROM {_MODELS} WHERE {known} LIMIT 1"):
        return
    [(since_us,)] = client.query(
        f"SELECT toUnixTimestamp64Micro(max(activated_at)) FROM {_MODELS} "
        f"WHERE startsWith(version, {quoted([former])}) AND version NOT IN (SELECT version FROM {_TABLE})"
    )
    since = max(_ALWAYS, _moment(since_us + 1))
    client.insert_rows(MODELS.name, MODELS.names, [(version, since, parameters, "")])


def _moment(us: int) -> datetime:
    return _EPOCH + timedelta(microseconds=us)
