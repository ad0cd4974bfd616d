"""``touchstone alerts calls|resend``: how calls to receivers fare, and those that were given up sent again."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import httpx
import typer

from schemas.tables import DATABASE
from services.cli.addresses import locate
from services.cli.console import CommandError, ExitCode, paint, print_json, print_table, say
from services.cli.reading import reader
from services.cli.settings import load_settings
from services.cli.visible import visible

MOST_ROWS: Final = 1_000
TIMEOUT_S: Final = 10.0
_SHOWN: Final = 12
_COLUMNS: Final = (
    "call_id",
    "rule",
    "turn",
    "receiver",
    "alerts",
    "state",
    "attempts",
    "made_at",
    "last_status",
    "last_detail",
    "next_at",
)
_COLOURS: Final = {"delivered": "green", "dead": "red", "failing": "yellow"}


class State(StrEnum):
    """How a call fares."""

    DELIVERED = "delivered"
    WAITING = "waiting"
    FAILING = "failing"
    DEAD = "dead"


def calls(
    state: Annotated[
        State | None, typer.Option("--state", help="Only these; default: all.", show_default=False)
    ] = None,
    receiver: Annotated[
        str, typer.Option("--receiver", metavar="NAME", help="Only to this one.", show_default=False)
    ] = "",
    limit: Annotated[int, typer.Option("--limit", min=1, max=MOST_ROWS, help="How many, the newest first.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """List calls to receivers: delivered, waiting, failing (tried again), dead (given up).

    touchstone alerts calls --state dead

    Exit code 0: done; 3: ClickHouse cannot be reached.
    """
    wanted = {"state": state.value if state else "", "receiver": receiver}
    given = {name: value for name, value in wanted.items() if value}
    where = " AND ".join(f"{name} = %({name})s" for name in given) or "1"
    with reader(load_settings()) as client:
        rows = client.query(
            f"SELECT {', '.join(_COLUMNS)} FROM {DATABASE}.alert_deliveries WHERE {where} "
            f"ORDER BY made_at DESC, call_id LIMIT {limit}",
            given,
        )
    found = [dict(zip(_COLUMNS, row, strict=True)) for row in rows]
    if as_json:
        print_json([{**row, "made_at": _time(row["made_at"]), "next_at": _time(row["next_at"])} for row in found])
        return
    print_table(
        ["call", "rule", "turn", "receiver", "alerts", "state", "attempts", "made", "next", "last answer"],
        [_line(row) for row in found],
    )
    if len(found) == limit:
        say(f"there may be more; --limit shows up to {MOST_ROWS:,}")


def resend(
    call: Annotated[
        str, typer.Argument(metavar="CALL", help="Id of a call, or its beginning, as `touchstone alerts calls` has it.")
    ],
    key: Annotated[
        str,
        typer.Option(
            "--key-file", metavar="FILE", help="File with an API key, where alerting asks for one.", show_default=False
        ),
    ] = "",
) -> None:
    """Send a call again: one that was given up, or one that waits for its next attempt. Its id stays the same.

    Exit code 0: taken; 1: there is no such call, or the key is refused; 3: alerting cannot be reached.
    """
    settings = load_settings()
    with reader(settings) as client:
        rows = client.query(
            f"SELECT call_id, receiver FROM {DATABASE}.alert_deliveries WHERE startsWith(call_id, %(begin)s) LIMIT 2",
            {"begin": call.strip().lower()},
        )
    if len(rows) != 1 or not call.strip():
        what = "several calls begin" if rows else "no call begins"
        raise CommandError(f"{what} with {visible(call)}: see `touchstone alerts calls`", ExitCode.NO)
    [(call_id, receiver)] = rows
    url = f"{locate(settings).alerting_url}/v1/calls/{call_id}/resend"
    headers = {"Authorization": f"Bearer {_key(key)}"} if key else {}
    try:
        answer = httpx.post(url, headers=headers, timeout=TIMEOUT_S, trust_env=False)
    except httpx.HTTPError as error:
        raise CommandError(
            f"alerting at {url.partition('/v1')[0]} does not answer: {error or type(error).__name__}. "
            "TOUCHSTONE_ALERTING_HOST and TOUCHSTONE_ALERTING_PORT say where it is",
            ExitCode.UNREACHABLE,
        ) from error
    if answer.status_code != httpx.codes.ACCEPTED:
        raise CommandError(f"not sent again: {_detail(answer)}", ExitCode.NO)
    print(f"call {call_id[:_SHOWN]} goes to {receiver} again; `touchstone alerts calls` shows how it fares")


def _key(path: str) -> str:
    try:
        lines = Path(path).read_text(encoding="utf-8").split("\n")
        return lines[0].strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"--key-file {path} cannot be read: {type(error).__name__}", ExitCode.WRONG_USE) from error


def _detail(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return f"alerting answered {answer.status_code}"


def _time(moment: Any) -> str | None:
    """ISO 8601; None for never."""
    return None if moment.timestamp() <= 0 else str(moment.isoformat())


def _line(row: dict[str, Any]) -> list[str]:
    state = row["state"]
    answer = " ".join(part for part in (str(row["last_status"] or ""), visible(row["last_detail"], 60)) if part)
    return [
        row["call_id"][:_SHOWN],
        row["rule"],
        row["turn"],
        row["receiver"],
        f"{row['alerts']:,}",
        paint(state, _COLOURS[state]) if state in _COLOURS else state,
        str(row["attempts"]),
        row["made_at"].strftime("%Y-%m-%d %H:%M"),
        row["next_at"].strftime("%Y-%m-%d %H:%M") if row["next_at"].timestamp() > 0 else "",
        answer,
    ]
