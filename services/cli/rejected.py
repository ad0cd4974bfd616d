"""``touchstone rejected``: what was not taken, why, and its bytes; fixed and sent again."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from pydantic import ValidationError

from infra.clickhouse.client import ClickHouse, connect
from schemas.tables import DATABASE
from services.cli.addresses import locate
from services.cli.console import CommandError, ExitCode, print_json, print_table, say
from services.cli.figures import clickhouse_settings
from services.cli.http_sender import Sender
from services.cli.reading import quiet_driver, reader
from services.cli.resend import ACCEPTED, BEFORE, FIT, PAGE, REFUSED, Changes, Outcome, Which, resend
from services.cli.resume import resume
from services.cli.settings import StackSettings, load_settings
from services.cli.visible import visible, visible_bytes
from services.ingest.limits import Limits
from services.ingest.settings import IngestSettings

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
LISTED: Final = 20
HEX_BYTES: Final = 512
"""Of the payload shown as hex; --payload has all of it."""

_KEY: Final = "stage, log_partition, log_offset"
_FROM: Final = (
    f"FROM (SELECT * FROM {DATABASE}.rejected_events FINAL) AS r LEFT JOIN "
    f"(SELECT {_KEY}, resent_at, hex(event_id) AS resent_id FROM {DATABASE}.resent_events FINAL) AS s USING ({_KEY})"
)
_SELECT: Final = f"SELECT {', '.join(COLUMNS)}, length(payload), resent_at, resent_id {_FROM}"
_ORDER: Final = " ORDER BY rejected_at DESC, stage, log_partition, log_offset DESC"


def rejected(
    what: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[list | show WHICH | resend [WHICH]... | resume PARTITION...]",
            help="WHICH is STAGE/PARTITION/OFFSET, as in the list. WHICH alone shows it; nothing lists. PARTITION: one "
            "that stopped under a flood, or all.",
            show_default=False,
        ),
    ] = None,
    reason: Annotated[str | None, typer.Option("--reason", help="Only with this reason.")] = None,
    field: Annotated[
        str | None, typer.Option("--field", help="Only with this field at fault, such as /rating.")
    ] = None,
    source: Annotated[str | None, typer.Option("--source", help="Only of this source.")] = None,
    customer: Annotated[str | None, typer.Option("--customer", help="Only of this customer.")] = None,
    stage: Annotated[str | None, typer.Option("--stage", help="ingest: refused at the edge; log: by scoring.")] = None,
    since: Annotated[
        datetime | None,
        typer.Option("--since", help="Only from this time on, UTC.", formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]),
    ] = None,
    left: Annotated[bool, typer.Option("--left", help="Only those not sent again yet.")] = False,
    limit: Annotated[
        int | None, typer.Option("--limit", "-n", min=1, help="So many, the latest first; 20 are listed, all resent.")
    ] = None,
    count: Annotated[bool, typer.Option("--count", help="Count by stage and reason instead of listing.")] = False,
    payload: Annotated[
        bool, typer.Option("--payload", help="Write the raw bytes of the one shown, unchanged.")
    ] = False,
    set_to: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="resend: set a member; may be repeated.")
    ] = None,
    unset: Annotated[
        list[str] | None, typer.Option("--unset", metavar="FIELD", help="resend: leave a member out; may be repeated.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", help="resend: send the event in this JSON file instead of the one kept.")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="resend: also what was resent before.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="resend: judge the fixed events and send none.")] = False,
    api_key_file: Annotated[
        Path | None, typer.Option("--api-key-file", help="resend: file with the key that ingest asks for.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON; the payload as text and as hex.")] = False,
) -> None:
    """List events that were not taken, count them by reason, show one with its bytes, or fix and send some again.

    touchstone rejected --count

    touchstone rejected --reason out_of_range --limit 5

    touchstone rejected show ingest/0/12

    touchstone rejected resend ingest/0/12 --set rating=9

    touchstone rejected resend --reason unknown_field --unset shop --dry-run

    touchstone rejected resume 3

    What is sent again passes the same rules as any event, keeps its id, and counts once however often it is sent.

    Exit code 0: done; 1: there is no such rejected event, a fixed one is still refused, or no partition stands still
    that is to go on; 3: not reachable.
    """
    settings = load_settings()
    if what and what[0] == "resume":
        resume(settings, what[1:], as_json=as_json)
        return
    where = {
        "reason": reason,
        "field": field,
        "source": source,
        "customer_id": customer,
        "stage": stage,
        "since": since,
        "left": left or None,
    }
    action, named = _action(what or [])
    if action == "resend":
        filtered = any(value is not None for value in where.values())
        if bool(named) == filtered:
            raise CommandError(
                "resend wants either events, as STAGE/PARTITION/OFFSET, or filters such as --reason", ExitCode.WRONG_USE
            )
        changes = Changes.of(set_to or (), unset or (), file, several=len(named) != 1)
        _resend(
            settings, named, where, limit, changes, again, None if dry_run else _sender(settings, api_key_file), as_json
        )
        return
    if set_to or unset or file or again or dry_run:
        raise CommandError("--set, --unset, --file, --again and --dry-run go with resend", ExitCode.WRONG_USE)
    with reader(settings) as client:
        if action == "show":
            _show(client, named[0], payload=payload, as_json=as_json)
        elif count:
            _count(client, where, as_json=as_json)
        else:
            _list(client, where, limit or LISTED, as_json=as_json)


def _action(what: Sequence[str]) -> tuple[str, list[Which]]:
    if not what or list(what) == ["list"]:
        return "list", []
    action, names = (what[0], what[1:]) if what[0] in ("show", "resend", "list") else ("show", what)
    if action == "list" or (action == "show" and len(names) != 1):
        raise CommandError(
            f"rejected {' '.join(what)}: {action} takes {'one' if action == 'show' else 'no'} event", ExitCode.WRONG_USE
        )
    return action, [_position(name) for name in dict.fromkeys(names)]


def _filtered(where: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    given = {name: value for name, value in where.items() if value is not None}
    special = {"since": "rejected_at >= %(since)s", "left": "resent_id = ''"}
    tests = [special.get(name, f"{name} = %({name})s") for name in given]
    return (f" WHERE {' AND '.join(tests)}" if tests else ""), given


def _list(client: ClickHouse, where: dict[str, Any], limit: int, *, as_json: bool) -> None:
    condition, parameters = _filtered(where)
    rows = client.query(f"{_SELECT}{condition}{_ORDER} LIMIT {limit}", parameters)
    if as_json:
        print_json([_document(row) for row in rows])
        return
    if not rows:
        say("nothing was rejected" + (" that fits" if condition else ""))
        return
    print_table(
        ["which", "when", "reason", "field", "source", "customer", "resent", "detail"],
        [
            [
                _name(row[:3]),
                f"{row[3]:%Y-%m-%d %H:%M:%S}",
                visible(row[4]),
                visible(row[5], 30),
                visible(row[7], 20),
                visible(row[8], 24),
                "-" if not row[-1] else f"{row[-2]:%Y-%m-%d %H:%M:%S}",
                visible(row[6], 90),
            ]
            for row in rows
        ],
    )
    say(f"next: touchstone rejected show {_name(rows[0][:3])}, or touchstone rejected --count")


def _count(client: ClickHouse, where: dict[str, Any], *, as_json: bool) -> None:
    condition, parameters = _filtered(where)
    rows = client.query(
        f"SELECT stage, reason, count(), countIf(resent_id != ''), max(rejected_at) {_FROM}{condition} "
        "GROUP BY stage, reason ORDER BY count() DESC, stage, reason",
        parameters,
    )
    if as_json:
        print_json(
            [
                {"stage": row[0], "reason": row[1], "events": row[2], "resent": row[3], "latest": row[4].isoformat()}
                for row in rows
            ]
        )
        return
    if not rows:
        say("nothing was rejected" + (" that fits" if condition else ""))
        return
    print_table(
        ["stage", "reason", "events", "resent", "left", "latest"],
        [
            [
                row[0],
                visible(row[1]),
                f"{row[2]:,}",
                f"{row[3]:,}",
                f"{row[2] - row[3]:,}",
                f"{row[4]:%Y-%m-%d %H:%M:%S}",
            ]
            for row in rows
        ],
    )


def _show(client: ClickHouse, which: Which, *, payload: bool, as_json: bool) -> None:
    rows = client.query(
        f"SELECT {', '.join(COLUMNS)}, length(payload), resent_at, resent_id, hex(payload) {_FROM} WHERE {_at([which])}"
    )
    if not rows:
        raise CommandError(f"no rejected event at {_name(which)}; touchstone rejected lists them", ExitCode.NO)
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
            print(f"{name.ljust(width)}  {visible('-' if value is None else str(value))}")
        print(f"\n{visible_bytes(raw)}\n")
        for start in range(0, min(len(raw), HEX_BYTES), 16):
            line = raw[start : start + 16]
            text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in line)
            print(f"{start:08x}  {line.hex(' ').ljust(47)}  {text}")
        if len(raw) > HEX_BYTES:
            print(f"{len(raw) - HEX_BYTES:,} more bytes; --payload writes all of them")


def _resend(
    settings: StackSettings,
    named: Sequence[Which],
    where: dict[str, Any],
    limit: int | None,
    changes: Changes,
    again: bool,
    sender: Sender | None,
    as_json: bool,
) -> None:
    quiet_driver()
    limits = _limits()
    counts: Counter[str] = Counter()
    with connect(clickhouse_settings(settings, locate(settings))) as client:
        chosen = _existing(client, named) if named else _fitting(client, where, limit, again=again)
        documents = []
        for start in range(0, len(chosen), PAGE):
            rows = _payloads(client, chosen[start : start + PAGE])
            now = lambda: datetime.now(UTC)  # noqa: E731  # the one clock of this command
            for outcome in resend(client, sender, rows, changes, limits=limits, now=now, again=again):
                counts[outcome.verdict] += 1
                if as_json:
                    documents.append(_told(outcome))
                else:
                    _print(outcome)
    if as_json:
        print_json({"counts": {name: counts[name] for name in (ACCEPTED, FIT, REFUSED, BEFORE)}, "events": documents})
    else:
        told = ", ".join(f"{number:,} {verdict}" for verdict, number in counts.items())
        say(f"{counts.total():,} rejected events: {told}" if counts else "nothing was rejected that fits")
    if counts[REFUSED]:
        raise typer.Exit(ExitCode.NO)


def _limits() -> Limits:
    """As ingest has them, if it is set up in this environment."""
    try:
        return IngestSettings().limits
    except ValidationError as error:
        raise CommandError(f"wrong settings of ingest: {error}", ExitCode.WRONG_USE) from error


def _sender(settings: StackSettings, key_file: Path | None) -> Sender:
    key = None
    if key_file is not None:
        try:
            key = key_file.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(f"the key file {key_file} cannot be read: {error}", ExitCode.WRONG_USE) from error
    sender = Sender(locate(settings).ingest_url, connections=1, api_key=key)
    sender.require_listener()
    return sender


def _existing(client: ClickHouse, named: Sequence[Which]) -> list[Which]:
    found = {which for which, _ in _payloads(client, named)}
    missing = [_name(which) for which in named if which not in found]
    if missing:
        raise CommandError(f"no rejected event at {', '.join(missing)}; touchstone rejected lists them", ExitCode.NO)
    return list(named)


def _fitting(client: ClickHouse, where: dict[str, Any], limit: int | None, *, again: bool) -> list[Which]:
    condition, parameters = _filtered(where if again else {**where, "left": True})
    cut = f" LIMIT {limit}" if limit is not None else ""
    rows = client.query(f"SELECT {_KEY} {_FROM}{condition}{_ORDER}{cut}", parameters)
    return [(stage, partition, offset) for stage, partition, offset in rows]


def _payloads(client: ClickHouse, which: Sequence[Which]) -> list[tuple[Which, bytes]]:
    rows = client.query(
        f"SELECT {_KEY}, hex(payload) FROM {DATABASE}.rejected_events FINAL WHERE {_at(which)} ORDER BY {_KEY}"
    )
    return [((stage, partition, offset), bytes.fromhex(raw)) for stage, partition, offset, raw in rows]


def _at(which: Sequence[Which]) -> str:
    places = ", ".join(f"('{stage}', {partition}, {offset})" for stage, partition, offset in which)
    return f"({_KEY}) IN ({places})"


def _print(outcome: Outcome) -> None:
    after = f" at {outcome.at:%Y-%m-%d %H:%M:%S}, --again sends it all the same" if outcome.at is not None else ""
    print(f"{_name(outcome.which)}  {outcome.verdict}{after}")
    for problem in outcome.problems:
        print(f"    {' '.join(filter(None, (problem['reason'], problem['field'])))}: {visible(problem['detail'])}")


def _told(outcome: Outcome) -> dict[str, Any]:
    return {
        "which": _name(outcome.which),
        "verdict": outcome.verdict,
        "resent_at": None if outcome.at is None else outcome.at.isoformat(),
        "problems": list(outcome.problems),
        "event": outcome.event,
    }


def _name(which: Sequence[Any]) -> str:
    return "/".join(map(str, which))


def _position(which: str) -> Which:
    stage, _, position = which.partition("/")
    partition, _, offset = position.partition("/")
    if not stage.isalpha() or not partition.isdecimal() or not offset.isdecimal():
        raise CommandError(f"{which!r} is no STAGE/PARTITION/OFFSET, such as ingest/0/12", ExitCode.WRONG_USE)
    return stage, int(partition), int(offset)


def _document(row: tuple[Any, ...]) -> dict[str, Any]:
    """Of a row that begins with `COLUMNS`, the length of the payload, resent_at and resent_id."""
    size, resent_at, resent_id = row[len(COLUMNS) : len(COLUMNS) + 3]
    document = dict(zip(COLUMNS, row, strict=False))
    document["rejected_at"] = row[3].isoformat()
    return {
        **document,
        "payload_bytes": size,
        "resent_at": resent_at.isoformat() if resent_id else None,
        "resent_as": resent_id.lower() or None,
    }
