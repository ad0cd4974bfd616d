"""``touchstone alerts backtest``: what rules would have done on the log, and what that would have been worth."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import polars as pl
import typer
from pydantic import TypeAdapter, ValidationError

from infra.clickhouse.models import list_models
from services.alerting.backtest import Past, Result, Span, judge
from services.alerting.decide import SIGNALS
from services.alerting.rehearsal import Rehearsal
from services.alerting.rules.durations import DurationUs
from services.alerting.rules.model import RuleSet
from services.alerting.rules.read import RulesError
from services.cli.alerting.backtest_told import Told, document, print_told
from services.cli.alerting.check import AsJson, RulesPath, read_file
from services.cli.alerting.everybody import CANCELLING, DAY_US, Tables, comings, latest_us, signals
from services.cli.alerting.recorded import recorded_signals
from services.cli.console import CommandError, ExitCode, print_json, say
from services.cli.learning.asking import day_of, moment_us, tables
from services.cli.learning.compare import Subject
from services.cli.learning.fit import judging_model
from services.cli.learning.models import Known, found
from services.cli.learning.told import moment
from services.cli.progress import Progress
from services.cli.settings import load_settings
from services.scoring.risk.model import RiskModel

MOST_STEPS: Final = 1000
LEAST_EVERY_US: Final = 3_600_000_000
SHOWN: Final = 10


@dataclass(frozen=True, slots=True)
class Asked:
    """What the options say, UTC microseconds."""

    since_us: int
    until_us: int | None
    every_us: int
    now_us: int
    recorded: bool


def backtest(
    rules: RulesPath,
    since: Annotated[str, typer.Option("--since", metavar="DATE", help="Rehearse the rules from then on, UTC.")],
    until: Annotated[
        str | None,
        typer.Option("--until", metavar="DATE", help="Until then; default: the newest event.", show_default=False),
    ] = None,
    every: Annotated[
        str, typer.Option("--every", metavar="DURATION", help="Judge everybody so often: 6h, 1d, 7d.")
    ] = "1d",
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="VERSION", help="Judge by it; default: the one that judges now."),
    ] = None,
    recorded: Annotated[
        bool, typer.Option("--recorded", help="Use the signals that were recorded, instead of judging everybody again.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="Write each alert and what came of it, CSV."),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=0, help="Show so many customers of each rule.")] = SHOWN,
    as_json: AsJson = False,
) -> None:
    """Before a rule goes live: whom would it have called, how early before they left, and who would have stayed anyway?

    Everybody is judged again at each step, and the rules decide by that; nothing is sent, nothing is kept.

    touchstone alerts backtest rules.yml --since 2026-01-01

    touchstone alerts backtest rules.yml --since 2026-01-01 --until 2026-06-01 --every 7d --out called.csv

    Exit code 0: done; 1: there is no history, or nothing to rehearse; 2: wrong use; 3: ClickHouse cannot be reached.
    """
    read = _rules(rules)
    until_us = None if until is None else moment_us(until, "--until")
    asked = Asked(moment_us(since, "--since"), until_us, _every_us(every), time.time_ns() // 1000, recorded)
    if out is not None and (out.is_dir() or not out.absolute().parent.is_dir()):
        raise CommandError(f"--out {out}: name a file in a folder that exists", ExitCode.WRONG_USE)
    with tables(load_settings()) as client:
        stored = list_models(client)
        version = judging_model(stored).version if model is None else model
        told, alerts = rehearse(client, read, Known.of(found(stored, version), stored).subject(), asked)
    if out is not None:
        alerts.write_csv(out)
        say(f"{alerts.height:,} alerts in {out}")
    if as_json:
        print_json(document(told, alerts, limit))
    else:
        print_told(told, alerts, limit)


def rehearse(client: Tables, rules: RuleSet, subject: Subject, asked: Asked) -> tuple[Told, pl.DataFrame]:
    """What the rules would have done, and all alerts with what came of each. CommandError, ClickHouseError."""
    model = subject.model
    end_us, steps_us = _span(client, asked)
    rehearsal = Rehearsal(rules)
    # What was recorded came in between: there is no step at which all stand in line.
    judged_us = tuple(steps_us) if asked.recorded else tuple(steps_us[:-1])
    span = Span(asked.since_us, steps_us[-1], end_us, round(model.horizon_days * DAY_US), judged_us)
    if asked.recorded:
        _step_by_records(client, rehearsal, steps_us)
    else:
        _step_by_step(client, rehearsal, model, steps_us)
    past = Past(
        comings(client, model.activity_kinds, asked.since_us, end_us),
        comings(client, [CANCELLING], asked.since_us, end_us),
        span,
    )
    fired, calls = rehearsal.alerts(), rehearsal.calls()
    results: list[Result] = []
    for rule in rules.rules:
        mine = pl.col("rule") == rule.name
        results.append(judge(rule.name, rule.budget.per_day, fired.filter(mine), calls.filter(mine), past))
    told = Told(tuple(results), rules, span, asked.every_us, asked.recorded, model, subject.learnt_until_us)
    return told, _with_outcomes(fired, past)


def _step_by_step(client: Tables, rehearsal: Rehearsal, model: RiskModel, steps_us: list[int]) -> None:
    frames = zip(signals(client, model, steps_us[:-1]), steps_us[1:], strict=True)
    with Progress("steps judged", len(steps_us) - 1) as progress:
        for step, (frame, until_us) in enumerate(frames):
            if not frame.height and not step:
                raise CommandError(
                    f"nothing happened before {moment(steps_us[0])}: choose a later --since", ExitCode.NO
                )
            rehearsal.step(frame, until_us)
            progress.update(step + 1)


def _step_by_records(client: Tables, rehearsal: Rehearsal, steps_us: list[int]) -> None:
    rehearsal.step(pl.DataFrame(schema=SIGNALS), steps_us[0])
    taken = 0
    for frame, until_us in zip(recorded_signals(client, steps_us), steps_us[1:], strict=True):
        taken += frame.height
        rehearsal.step(frame, until_us)
    if not taken:
        raise CommandError(
            f"no signal was recorded from {moment(steps_us[0])} to {moment(steps_us[-1])}: imported history has none; "
            "leave out --recorded to judge everybody again",
            ExitCode.NO,
        )


def _with_outcomes(fired: pl.DataFrame, past: Past) -> pl.DataFrame:
    """The alerts, with what came of the customer where somebody was called."""
    called = pl.col("called_us").is_not_null()
    outcomes = past.outcomes(fired.filter(called)).select(
        "alert_id", "outcome", "lead_us", "cancellation_lead_us", last_came_us="last_us"
    )
    day = 1.0 / DAY_US
    return fired.join(outcomes, on="alert_id", how="left", maintain_order="left").with_columns(
        lead_days=pl.col("lead_us") * day, cancellation_lead_days=pl.col("cancellation_lead_us") * day
    )


def _rules(path: Path) -> RuleSet:
    try:
        read = read_file(path)
    except RulesError as error:
        for finding in error.findings:
            say(str(finding))
        raise CommandError(
            f"{path} cannot be used: see `touchstone alerts check {path}`", ExitCode.WRONG_USE
        ) from error
    for warning in read.warnings:
        say(f"warning: {warning}")
    if not read.rules.rules:
        raise CommandError(f"{path} has no rule about customers: add one under `rules:`", ExitCode.NO)
    if read.rules.focus:
        say("focus is not rehearsed: it needs no outcome, only its own past")
    return read.rules


def _every_us(given: str) -> int:
    try:
        every_us: int = TypeAdapter(DurationUs).validate_python(given)
    except ValidationError as error:
        raise CommandError(f"--every {given} {error.errors()[0]['msg']}", ExitCode.WRONG_USE) from error
    if every_us < LEAST_EVERY_US:
        raise CommandError(f"--every {given} is too short: 1h is the least", ExitCode.WRONG_USE)
    return every_us


def _span(client: Tables, asked: Asked) -> tuple[int, list[int]]:
    """The end of what is known, and when everybody is judged, with the end of the last step. CommandError."""
    if asked.since_us >= asked.now_us:
        raise CommandError(
            f"--since {moment(asked.since_us)} is not past: rules are rehearsed on history", ExitCode.WRONG_USE
        )
    newest_us = latest_us(client, asked.now_us)
    if newest_us is None:
        raise CommandError("there is no history: bring some in with `touchstone import`", ExitCode.NO)
    end_us = newest_us + 1
    if asked.since_us >= end_us:
        raise CommandError(
            f"--since {moment(asked.since_us)} is later than the newest event, of {day_of(newest_us)}: choose an "
            "earlier one",
            ExitCode.NO,
        )
    if asked.until_us is not None and asked.until_us <= asked.since_us:
        raise CommandError(f"--until {moment(asked.until_us)} must be later than --since", ExitCode.WRONG_USE)
    until_us = end_us if asked.until_us is None else min(asked.until_us, end_us)
    count = -(-(until_us - asked.since_us) // asked.every_us)
    if count > MOST_STEPS:
        raise CommandError(
            f"that would be {count:,} steps, more than {MOST_STEPS:,}: choose a longer --every or a later --since",
            ExitCode.WRONG_USE,
        )
    if count < 2:
        raise CommandError(
            f"from {moment(asked.since_us)} to {moment(until_us)} there is one step, at which everybody is called for "
            "whom a rule holds already: choose a shorter --every or an earlier --since",
            ExitCode.WRONG_USE,
        )
    return end_us, [*(asked.since_us + step * asked.every_us for step in range(count)), until_us]
