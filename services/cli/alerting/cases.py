"""``touchstone alerts list|show|ack|assign|resolve``: cases, and steps of them into the log."""

from __future__ import annotations

import getpass
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import typer

from infra.clickhouse.client import ClickHouse
from schemas.case import MAX_NAME_CHARS
from schemas.kinds import OUTCOMES
from schemas.topics import TOUCHPOINTS
from services.alerting import cases as rules
from services.alerting.case_ports import MOST_ROWS, Asked
from services.alerting.case_tables import CaseTables
from services.alerting.cases import BadStepError, Case, CaseError, CaseState
from services.cli.addresses import locate
from services.cli.console import CommandError, ExitCode, paint, print_json, print_table, say
from services.cli.reading import reader
from services.cli.settings import load_settings
from services.cli.visible import visible

MICROS: Final = 1_000_000
_LEAST_PREFIX: Final = 4
_ID_CHARS: Final = 32
_SHOWN: Final = 12

AsJson = Annotated[bool, typer.Option("--json", help="Print as JSON.")]
CaseId = Annotated[
    str, typer.Argument(metavar="CASE", help=f"Id of a case, or its first {_LEAST_PREFIX} digits or more.")
]
By = Annotated[str, typer.Option("--by", metavar="NAME", help="Who does it; default: your login.", show_default=False)]
Note = Annotated[str, typer.Option("--note", metavar="TEXT", help="Kept with the step.", show_default=False)]


def list_(
    state: Annotated[
        CaseState | None, typer.Option("--state", help="Only these; default: those not closed.", show_default=False)
    ] = None,
    owner: Annotated[str, typer.Option("--owner", metavar="NAME", help="Only theirs.", show_default=False)] = "",
    rule: Annotated[str, typer.Option("--rule", metavar="NAME", help="Only of this rule.", show_default=False)] = "",
    customer: Annotated[
        str, typer.Option("--customer", metavar="ID", help="Only this one's.", show_default=False)
    ] = "",
    overdue: Annotated[bool, typer.Option("--overdue", help="Only those that should be closed by now.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, max=MOST_ROWS, help="How many, the newest first.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List cases: alerts about customers that somebody was called for.

    touchstone alerts list --owner retention --overdue

    Exit code 0: done; 3: ClickHouse cannot be reached.
    """
    chosen = {"state": state.value if state else "", "owner": owner, "rule": rule, "customer_id": customer}
    asked = Asked({name: value for name, value in chosen.items() if value}, overdue=overdue, limit=limit)
    with reader(load_settings()) as client:
        found = _not_closed(CaseTables(client), asked) if state is None else CaseTables(client).cases(asked)
    if as_json:
        print_json([_document(case) for case in found])
        return
    print_table(
        ["case", "customer", "rule", "state", "owner", "due", "risk", "at risk"], [_line(case) for case in found]
    )
    if len(found) == limit:
        say(f"there may be more; --limit shows up to {MOST_ROWS}")


def _not_closed(tables: CaseTables, asked: Asked) -> list[Case]:
    found = [
        case
        for state in (CaseState.OPEN, CaseState.ACKNOWLEDGED)
        for case in tables.cases(Asked({**asked.equal, "state": state.value}, overdue=asked.overdue, limit=asked.limit))
    ]
    return sorted(found, key=lambda case: (case.opened_us, case.case_id), reverse=True)[: asked.limit]


def show(case_id: CaseId, as_json: AsJson = False) -> None:
    """Show a case and what was done about it.

    touchstone alerts show 3f2a9c

    Exit code 0: done; 1: no such case; 3: ClickHouse cannot be reached.
    """
    with reader(load_settings()) as client:
        case = _find(client, case_id)
        steps = CaseTables(client).steps(case)
    if as_json:
        print_json({**_document(case), "steps": [_times(asdict(step)) for step in steps]})
        return
    print(f"case     {case.case_id}, {_state(case)}")
    print(f"customer {visible(case.customer_id)}{f', segment {visible(case.segment)}' if case.segment else ''}")
    print(f"what     {visible(case.summary)}")
    print(f"rule     {visible(case.rule)} ({case.severity}), opened {_moment(case.opened_us)}")
    print(
        f"then     risk {case.risk:.0%} ({case.band}), score {case.score:.0f}, value at risk {case.value_at_risk:,.2f}"
    )
    late = paint(", overdue", "red") if case.overdue else ""
    print(f"owner    {visible(case.owner) or 'nobody'}, due {_moment(case.due_us) or 'at no set time'}{late}")
    if case.resolved_us:
        print(f"now      the rule no longer holds, since {_moment(case.resolved_us)}")
    if steps:
        print()
        rows = [
            [
                _moment(step.taken_us),
                step.step,
                visible(step.by),
                visible(step.owner or step.outcome),
                visible(step.note),
            ]
            for step in steps
        ]
        print_table(["when", "step", "by", "", "note"], rows)


def ack(case_id: CaseId, by: By = "", note: Note = "") -> None:
    """Take a case on: nobody else need look at it.

    touchstone alerts ack 3f2a9c --note "calling at noon"

    Exit code 0: done; 1: no such case, or it is closed; 2: wrong use; 3: a part cannot be reached.
    """
    _do(case_id, lambda case, at_us: rules.acknowledge(case, _who(by), at_us, note), "acknowledged")


def assign(
    case_id: CaseId, owner: Annotated[str, typer.Argument(metavar="OWNER", help="Who answers for it.")], by: By = ""
) -> None:
    """Give a case to somebody.

    touchstone alerts assign 3f2a9c lee

    Exit code 0: done; 1: no such case, or it is closed; 2: wrong use; 3: a part cannot be reached.
    """
    _do(case_id, lambda case, at_us: rules.assign(case, owner, _who(by), at_us), f"given to {visible(owner)}")


def resolve(
    case_id: CaseId,
    outcome: Annotated[
        str, typer.Option("--outcome", metavar="|".join(OUTCOMES), help="How it ended for the customer.")
    ],
    complaint: Annotated[
        str | None,
        typer.Option(
            "--complaint", metavar="ID", help="A complaint that has come to its end with it.", show_default=False
        ),
    ] = None,
    contacted: Annotated[
        bool, typer.Option("--contacted/--not-contacted", help="Whether somebody came back to the customer.")
    ] = True,
    by: By = "",
    note: Note = "",
) -> None:
    """Close a case. What the customer felt goes into the log with it, and so into the score.

    A follow_up of the same outcome, unless nobody contacted the customer; with --complaint a complaint_resolved.

    touchstone alerts resolve 3f2a9c --outcome succeeded --complaint T-4711

    Exit code 0: done; 1: no such case, or closed otherwise; 2: wrong use; 3: a part cannot be reached.
    """
    _do(
        case_id,
        lambda case, at_us: rules.close(
            case, outcome, _who(by), at_us, note=note, complaint=complaint, contacted=contacted
        ),
        f"closed as {outcome}",
    )


def _do(case_id: str, records_of: Callable[[Case, int], tuple[bytes, ...]], done: str) -> None:
    settings = load_settings()
    with reader(settings) as client:
        case = _find(client, case_id)
    now_us = time.time_ns() // 1_000
    try:
        records = records_of(case, now_us)
    except BadStepError as error:
        raise CommandError(str(error), ExitCode.WRONG_USE) from error
    except CaseError as error:
        raise CommandError(str(error), ExitCode.NO) from error
    if not records:
        say(f"case {case.case_id[:_SHOWN]} was {_state(case)} already, owner {visible(case.owner) or 'nobody'}")
        return
    with _publisher(locate(settings).kafka_bootstrap) as publish:
        publish([case.customer_id] * len(records), records, now_us // 1000)
    print(f"case {case.case_id[:_SHOWN]} of {visible(case.customer_id)} {done}; the tables show it in a second or two")


@contextmanager
def _publisher(bootstrap: str) -> Iterator[Callable[[list[str], tuple[bytes, ...], int], None]]:
    from infra.kafka.publish import Publisher  # the client library loads when there is something to send

    publisher = Publisher(bootstrap)
    try:
        yield lambda customers, records, at_ms: publisher.publish(TOUCHPOINTS, customers, records, at_ms)
    finally:
        publisher.close()


def _find(client: ClickHouse, given: str) -> Case:
    """The case of an id or of the beginning of one. CommandError where there is none, or there are several."""
    digits = given.strip().lower()
    if len(digits) == _ID_CHARS:
        case = CaseTables(client).case(digits)
        if case is not None:
            return case
    elif len(digits) >= _LEAST_PREFIX:
        rows = client.query(
            "SELECT case_id FROM touchstone.cases WHERE startsWith(case_id, %(digits)s) ORDER BY case_id LIMIT 2",
            {"digits": digits},
        )
        if len(rows) > 1:
            raise CommandError(f"several cases begin with {visible(digits)}: give more digits", ExitCode.WRONG_USE)
        if rows and (case := CaseTables(client).case(rows[0][0])) is not None:
            return case
    else:
        raise CommandError(f"give at least {_LEAST_PREFIX} digits of the case's id", ExitCode.WRONG_USE)
    raise CommandError(
        f"there is no case {visible(given)}: cases are alerts about customers that somebody was called for; "
        "`touchstone alerts list` shows them",
        ExitCode.NO,
    )


def _who(by: str) -> str:
    if by:
        return by
    try:
        return getpass.getuser()[:MAX_NAME_CHARS]
    except (KeyError, OSError):  # no login, as in a container
        raise CommandError("say who does it: --by NAME", ExitCode.WRONG_USE) from None


def _state(case: Case) -> str:
    if case.state is CaseState.CLOSED:
        return f"closed by {visible(case.closed_by)} {_moment(case.closed_us)} as {case.outcome}"
    if case.state is CaseState.ACKNOWLEDGED:
        return f"acknowledged by {visible(case.acknowledged_by)} {_moment(case.acknowledged_us)}"
    return "open"


def _line(case: Case) -> list[str]:
    due = _moment(case.due_us)
    return [
        case.case_id[:_SHOWN],
        visible(case.customer_id, 30),
        visible(case.rule, 30),
        case.state.value,
        visible(case.owner, 20),
        paint(f"{due} late", "red") if case.overdue else due,
        f"{case.risk:.0%}",
        f"{case.value_at_risk:,.2f}",
    ]


def _document(case: Case) -> dict[str, Any]:
    return _times(asdict(case))


def _times(row: dict[str, Any]) -> dict[str, Any]:
    """Moments as ISO 8601 under names that end in ``_at``; null for never."""
    return {
        name.removesuffix("_us") + "_at" if name.endswith("_us") else name: (
            (datetime.fromtimestamp(value / MICROS, UTC).isoformat() if value else None)
            if name.endswith("_us")
            else value
        )
        for name, value in row.items()
    }


def _moment(at_us: int) -> str:
    return f"{datetime.fromtimestamp(at_us // MICROS, UTC):%Y-%m-%d %H:%M}" if at_us else ""
