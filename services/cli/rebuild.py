"""``touchstone rebuild``: the states made anew from the log, beside those that are in use, and put in their place."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from services.cli.console import CommandError, ExitCode, print_json, say
from services.cli.settings import StackSettings, load_settings
from services.cli.verification.against import BY_LOG, by_log, uncompared
from services.cli.verification.deployment import Deployment, deployment
from services.cli.verification.holding import held_workers
from services.cli.verification.population import Population
from services.cli.verification.report import Report, document, print_summary
from services.cli.verification.swapping import FORMER, Rebuilt
from services.cli.verify import checking, gone


def rebuild(
    swap: Annotated[bool, typer.Option("--swap", help="Put the new states in the place of the old ones.")] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", min=0, help="Print so many differences.")] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Make all customers' states anew from the log, beside those in use; show what differs; swap where that is wanted.

    Ingest, queries and scoring go on meanwhile. For the swap itself scoring stands still for a moment: workers of the
    stack on this machine are held and started anew, workers elsewhere have to be ended before. No signal is sent.

    Exit code 0: equal, or swapped; 1: something differs and nothing was swapped; 3: it could not be done.
    """
    settings = load_settings()
    with checking(), deployment(settings) as found:
        if not found.log_is_whole:
            raise CommandError(
                f"states can only be made anew from the whole log: {gone(found)}. What the tables have stays the truth",
                ExitCode.UNREACHABLE,
            )
        report = Report(limit, quiet=as_json, left_out=uncompared(found))
        report.begin(BY_LOG)
        with Rebuilt(found) as rebuilt:
            for compared in by_log(found, Population(), keep=rebuilt.save):
                report.take(compared)
            if not as_json:
                print_summary(found, report)
            differs = not report.equal or bool(report.left_out)
            swapped = differs and (swap or _wanted(as_json=as_json))
            if swapped:
                _swap(settings, found, rebuilt)
    if as_json:
        print_json({**document(found, report), "swapped": swapped})
    elif not swapped:
        say("nothing was swapped" + ("" if differs else ": there is no reason to"))
    raise typer.Exit(ExitCode.DONE if report.equal or swapped else ExitCode.NO)


def _wanted(*, as_json: bool) -> bool:
    if as_json or not sys.stdin.isatty():
        return False
    return typer.confirm("put the new states in the place of the old ones?", err=True)


def _swap(settings: StackSettings, found: Deployment, rebuilt: Rebuilt) -> None:
    with held_workers(settings, found):
        records = rebuilt.catch_up()
        rebuilt.exchange()
    say(f"swapped, after {records:,} records that came meanwhile; the former states are in table {FORMER}")
