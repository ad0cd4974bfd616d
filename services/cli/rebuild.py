"""``touchstone rebuild``: the states made anew from the log, beside those that are in use, and put in their place."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from typing import Annotated

import typer

from infra.clickhouse import activations
from services.cli.console import CommandError, ExitCode, print_json, say
from services.cli.settings import StackSettings, load_settings
from services.cli.verification.against import BY_LOG, by_log, uncompared
from services.cli.verification.deployment import Deployment, deployment
from services.cli.verification.holding import held_workers
from services.cli.verification.population import Population
from services.cli.verification.report import Report, document, print_summary
from services.cli.verification.swapping import FORMER, Rebuilt
from services.cli.verify import checking, gone
from services.scoring.risk.model import ModelError, RiskModel, documented


def rebuild(
    swap: Annotated[bool, typer.Option("--swap", help="Put the new states in the place of the old ones.")] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", min=0, help="Print so many differences.")] = 100,
    activity: Annotated[
        list[str] | None,
        typer.Option(
            "--activity",
            metavar="KIND",
            help="Count events of this kind as coming back, from now on; may be repeated. Default: as before.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Make all customers' states anew from the log, beside those in use; show what differs; swap where that is wanted.

    Ingest, queries and scoring go on meanwhile. For the swap itself scoring stands still for a moment: workers of the
    stack on this machine are held and started anew, workers elsewhere have to be ended before. No signal is sent.

    With --activity the new states count other kinds as coming back (a contract business may count renewals alone): the
    documented default judges by them, until a model that counts the same is fitted and activated.

    Exit code 0: equal, or swapped; 1: something differs and nothing was swapped; 3: it could not be done.
    """
    settings = load_settings()
    with checking(), deployment(settings) as found:
        if not found.log_is_whole:
            raise CommandError(
                f"states can only be made anew from the whole log: {gone(found)}. What the tables have stays the truth",
                ExitCode.UNREACHABLE,
            )
        counted = found.model
        found = replace(found, model=_counting(activity, counted))
        report = Report(limit, quiet=as_json, left_out=uncompared(found))
        report.begin(BY_LOG)
        with Rebuilt(found) as rebuilt:
            for compared in by_log(found, Population(), keep=rebuilt.save):
                report.take(compared)
            if not as_json:
                print_summary(found, report)
            differs = not report.equal or bool(report.left_out) or found.model != counted
            swapped = differs and (swap or _wanted(as_json=as_json))
            if swapped:
                _swap(settings, found, rebuilt, chosen=found.model != counted)
    if as_json:
        print_json({**document(found, report), "swapped": swapped})
    elif not swapped:
        say("nothing was swapped" + ("" if differs else ": there is no reason to"))
    raise typer.Exit(ExitCode.DONE if report.equal or swapped else ExitCode.NO)


def _wanted(*, as_json: bool) -> bool:
    if as_json or not sys.stdin.isatty():
        return False
    return typer.confirm("put the new states in the place of the old ones?", err=True)


def _counting(kinds: list[str] | None, now: RiskModel) -> RiskModel:
    """The documented default that counts ``kinds``; ``now`` without any. CommandError for kinds that there are not."""
    if not kinds:
        return now
    try:
        return documented(kinds)
    except ModelError as error:
        raise CommandError(f"--activity {' '.join(kinds)}: {error}", ExitCode.WRONG_USE) from error


def _swap(settings: StackSettings, found: Deployment, rebuilt: Rebuilt, *, chosen: bool) -> None:
    with held_workers(settings, found):
        records = rebuilt.catch_up()
        if chosen:
            # Workers ask at their start what the states count.
            model, now_us = found.model, time.time_ns() // 1000
            activations.choose_documented(found.client, model.version, model.to_json(), now_us)
        rebuilt.exchange()
    say(f"swapped, after {records:,} records that came meanwhile; the former states are in table {FORMER}")
