"""``touchstone rejected``: what was not taken, why, and its bytes."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import Annotated, Any, Final

import typer

from infra.clickhouse.client import ClickHouse
from schemas.tables import DATABASE
from services.cli.console import CommandError, ExitCode, print_json, print_table, say
from services.cli.reading import reader
from services.cli.settings import load_settings
from services.cli.visible import visible, visible_bytes

COLUMNS: Final = (
    "stage",
    "log_partition",
    "log_offset",
    "rejected_at",
    "reason",
    "field",
    "detail",
    "source",
    "customer_id",
)
_SELECT: Final = f"SELECT {', '.join(COLUMNS)}, length(payload) FROM {DATABASE}.rejected_events FINAL"


def rejected(
    which: Annotated[
        str | None, typer.Argument(help="Show one, as named in the list: STAGE/PARTITION/OFFSET.", show_default=False)
    ] = None,
    reason: Annotated[str | None, typer.Option("--reason", help="Only with this reason.")] = None,
    source: Annotated[str | None, typer.Option("--source", help="Only of this source.")] = None,
    customer: Annotated[str | None, typer.Option("--customer", help="Only of this customer.")] = None,
    stage: Annotated[str | None, typer.Option("--stage", help="ingest: refused at the edge; log: by scoring.")] = None,
    since: Annotated[
        datetime | None,
        typer.Option("--since", help="Only from this time on, UTC.", formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="So many, the latest first.")] = 20,
    count: Annotated[bool, typer.Option("--count", help="Count by stage and reason instead of listing.")] = False,
    payload: Annotated[
        bool, typer.Option("--payload", help="Write the raw bytes of the one shown, unchanged.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON; the payload as text and as hex.")] = False,
) -> None:
    """List events that were not taken, count them by reason, or show one with its bytes.

    touchstone rejected --count

    touchstone rejected --reason out_of_range --limit 5

    touchstone rejected ingest/0/12

    Exit code 0: done; 1: there is no such rejected event; 3: ClickHouse cannot be reached.
    """
    settings = load_settings()
    where = {"reason": reason, "source": source, "customer_id": customer, "stage": stage, "since": since}
    with reader(settings) as client:
        if which is not None:
            _show(client, which, payload=payload, as_json=as_json)
        elif count:
            _count(client, where, as_json=as_json)
        else:
            _list(client, where, limit, as_json=as_json)


def _filtered(where: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    given = {name: value for name, value in where.items() if value is not None}
    tests = ["rejected_at >= %(since)s" if name == "since" else f"{name} = %({name})s" for name in given]
    return (f" WHERE {' AND '.join(tests)}" if tests else ""), given


def _list(client: ClickHouse, where: dict[str, Any], limit: int, *, as_json: bool) -> None:
    condition, parameters = _filtered(where)
    order = " ORDER BY rejected_at DESC, stage, log_partition, log_offset DESC"
    rows = client.query(f"{_SELECT}{condition}{order} LIMIT {limit}", parameters)
    if as_json:
        print_json([_document(row) for row in rows])
        return
    if not rows:
        say("nothing was rejected" + (" that fits" if condition else ""))
        return
    print_table(
        ["which", "when", "reason", "field", "source", "customer", "detail"],
        [
            [
                f"{row[0]}/{row[1]}/{row[2]}",
                f"{row[3]:%Y-%m-%d %H:%M:%S}",
                visible(row[4]),
                visible(row[5], 30),
                visible(row[7], 20),
                visible(row[8], 24),
                visible(row[6], 90),
            ]
            for row in rows
        ],
    )
    say(f"next: touchstone rejected {rows[0][0]}/{rows[0][1]}/{rows[0][2]}, or touchstone rejected --count")


def _count(client: ClickHouse, where: dict[str, Any], *, as_json: bool) -> None:
    condition, parameters = _filtered(where)
    rows = client.query(
        f"SELECT stage, reason, count(), max(rejected_at) FROM {DATABASE}.rejected_events FINAL{condition} "
        "GROUP BY stage, reason ORDER BY count() DESC, stage, reason",
        parameters,
    )
    if as_json:
        print_json(
            [{"stage": row[0], "reason": row[1], "events": row[2], "latest": row[3].isoformat()} for row in rows]
        )
        return
    if not rows:
        say("nothing was rejected" + (" that fits" if condition else ""))
        return
    print_table(
        ["stage", "reason", "events", "latest"],
        [[row[0], visible(row[1]), f"{row[2]:,}", f"{row[3]:%Y-%m-%d %H:%M:%S}"] for row in rows],
    )


def _show(client: ClickHouse, which: str, *, payload: bool, as_json: bool) -> None:
    stage, partition, offset = _position(which)
    rows = client.query(
        f"SELECT {', '.join(COLUMNS)}, length(payload), hex(payload) FROM {DATABASE}.rejected_events FINAL "
        "WHERE stage = %(stage)s AND log_partition = %(partition)s AND log_offset = %(offset)s",
        {"stage": stage, "partition": partition, "offset": offset},
    )
    if not rows:
        raise CommandError(f"no rejected event at {which}; touchstone rejected lists them", ExitCode.NO)
    [row] = rows
    raw = bytes.fromhex(row[-1])
    if payload:
        sys.stdout.buffer.write(raw)
        sys.stdout.flush()
    elif as_json:
        print_json(
            {**_document(row), "payload": raw.decode("utf-8", errors="backslashreplace"), "payload_hex": raw.hex()}
        )
    else:
        document = _document(row)
        width = max(map(len, document))
        for name, value in document.items():
            print(f"{name.ljust(width)}  {visible(str(value))}")
        print(f"\n{visible_bytes(raw)}")


def _position(which: str) -> tuple[str, int, int]:
    stage, _, position = which.partition("/")
    partition, _, offset = position.partition("/")
    if not stage or not partition.isdecimal() or not offset.isdecimal():
        raise CommandError(f"{which!r} is no STAGE/PARTITION/OFFSET, such as ingest/0/12", ExitCode.WRONG_USE)
    return stage, int(partition), int(offset)


def _document(row: tuple[Any, ...]) -> dict[str, Any]:
    document = dict(zip(COLUMNS, row, strict=False))
    document["rejected_at"] = row[3].isoformat()
    return {**document, "payload_bytes": row[len(COLUMNS)]}
