"""``touchstone infer``: how journeys may have felt that nobody rated; kept apart from what was felt."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import polars as pl
import typer

from infra.clickhouse.inferred import replace_inferred
from schemas.tables import INFERRED_EXPERIENCE
from services.cli.console import CommandError, ExitCode, print_json, print_table, say
from services.cli.learning.asking import DRAWS, day_of, learning, moment_us, some_events, tables
from services.cli.learning.csv_file import STDOUT, writable, write_csv
from services.cli.learning.history import JOURNEYS, History, read_history
from services.cli.learning.told import QUALITY_HEAD, line, moment, quality_cells
from services.cli.settings import load_settings
from services.learning import inferred
from services.learning.inferred import InferredModel, Judged
from services.learning.inferred_words import reasons
from services.learning.occasions import BAD_AT_MOST, LEAST_OF_A_SORT, Occasions, occasions

NOT_BETTER: Final = (
    "the facts of a journey do not tell better than the base rate how it felt. Nothing was written; what an earlier "
    "run wrote stays. More ratings may change that, and so may more steps, or promises (attributes promised_days and "
    "days_vs_promise); --force writes all the same"
)


def infer(
    asof: Annotated[
        str | None,
        typer.Option("--asof", metavar="DATE", help="Infer as on that date, UTC; default: now.", show_default=False),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="CSV to write as well; - is standard output."),
    ] = None,
    save: Annotated[
        bool, typer.Option("--save/--no-save", help="Keep what was inferred in table inferred_experience.")
    ] = True,
    force: Annotated[
        bool, typer.Option("--force", help="Write also when the model is no better than the base rate.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was found as JSON.")] = False,
) -> None:
    """Infer how journeys may have felt that nobody rated: the chance of a bad rating, with reasons.

    Learnt from journeys that were rated, by what was known of them before they were asked: steps, waits, promises, what
    went wrong. Judged on later journeys than those learnt from; if it is no better than the base rate, nothing is
    written. An inference never counts as felt: no score, signal or risk is made of it. Each run replaces the last.

    touchstone infer --no-save

    touchstone infer --out inferred.csv

    Exit code 0: done; 1: there is too little to learn from, or the model is no better than the base rate; 2: wrong use;
    3: ClickHouse cannot be reached.
    """
    as_of_us = time.time_ns() // 1000 if asof is None else moment_us(asof)
    if out is not None:
        writable(out)
        if as_json and str(out) == STDOUT:
            raise CommandError("--json and --out - both want standard output: name a file", ExitCode.WRONG_USE)
    with tables(load_settings()) as client:
        history = read_history(client, JOURNEYS, before_us=as_of_us)
        found = infer_from(history, as_of_us)
        written = found.judged.better or force
        if save and written:
            replace_inferred(client, found.rows, time.time_ns() // 1000)
    if as_json:
        print_json(_document(found, written=written, saved=save and written))
    elif out is None or str(out) != STDOUT:
        _print(found, saved=save and written)
    for note in found.notes:
        say(note)
    if not written:
        raise CommandError(NOT_BETTER, ExitCode.NO)
    if out is not None:
        write_csv(_flat(found.rows), out)


@dataclass(frozen=True, slots=True)
class Found:
    """What a run found; ``rows``: the columns of table inferred_experience without inferred_at, times in UTC us."""

    model: InferredModel
    judged: Judged
    rows: pl.DataFrame
    occasions: Occasions
    as_of_us: int
    notes: tuple[str, ...]

    @property
    def rated(self) -> int:
        return self.occasions.table.get_column("answered_us").count()


def infer_from(history: History, as_of_us: int) -> Found:
    """Learn from the rated journeys of a history (columns `JOURNEYS`), judge, and infer the others.

    CommandError where there is too little.
    """
    as_of = moment(as_of_us)
    some_events(history, as_of)
    with learning(f"as of {as_of}"):
        found = occasions(history.events, as_of_us)
        rated = found.table.get_column("answered_us").is_not_null()
        known, facts = found.table.filter(rated), found.facts.filter(rated)
        bad = known.get_column("bad").cast(pl.Float64).to_numpy()
        asked_us, answered_us = known.get_column("asked_us").to_numpy(), known.get_column("answered_us").to_numpy()
        customer = known.get_column("customer_id").rank("dense").cast(pl.Int64).to_numpy()
        judged = inferred.judge(facts, bad, asked_us, answered_us, customer, draws=DRAWS)
        model = inferred.fit(facts, bad, asked_us, answered_us, as_of_us, version="unnamed")
    digest = hashlib.sha256(model.model_dump_json().encode()).hexdigest()[:8]
    model = model.model_copy(update={"version": f"inferred-{day_of(as_of_us).replace('-', '')}-{digest}"})
    rows = _inferred(model, found, ~rated)
    return Found(model, judged, rows, found, as_of_us, (*history.notes, *_left_out(found)))


def _inferred(model: InferredModel, found: Occasions, wanted: pl.Series) -> pl.DataFrame:
    table, facts = found.table.filter(wanted), found.facts.filter(wanted)
    average, added = inferred.contributions(model, facts)
    odds = inferred.log_odds(model, facts)
    rows = table.select(
        "customer_id",
        "journey_id",
        "journey",
        "last_touchpoint",
        pl.col("asked_us").alias("happened_at"),
        "asked",
        pl.Series("chance_bad", 1.0 / (1.0 + np.exp(-odds)), dtype=pl.Float64),
        pl.lit(1.0 / (1.0 + np.exp(-average)), dtype=pl.Float64).alias("average_chance"),
        reasons(facts, added, found.promise_step).alias("reasons"),
        pl.lit(model.version).alias("model_version"),
    )
    return rows.select(name for name in INFERRED_EXPERIENCE.names if name != "inferred_at")


def _left_out(found: Occasions) -> tuple[str, ...]:
    notes = []
    if found.still_open:
        notes.append(
            f"left out, not yet at the moment at which one would be asked, or without any step: {found.still_open:,} "
            "journeys"
        )
    if found.without_steps:
        notes.append(f"left out, no step was known when they were asked: {found.without_steps:,} journeys")
    if found.unlike:
        sorts = ", ".join(f"{name or 'no name'} ({count:,})" for name, count in found.unlike.items())
        notes.append(
            f"left out, of sorts with fewer than {LEAST_OF_A_SORT} rated journeys: {sorts}. Ask some of their customers"
        )
    return tuple(notes)


def _print(found: Found, *, saved: bool) -> None:
    judged, rows = found.judged, found.rows
    bad = found.occasions.table.get_column("bad").sum()
    line("model", found.model.version)
    scales = ", ".join(f"{metric} up to {most:g}" for metric, most in BAD_AT_MOST.items())
    line("learnt by", f"{found.rated:,} rated journeys, {bad:,} of them bad ({scales})")
    line("judged", f"on {judged.measured.n:,} journeys asked from {day_of(judged.since_us)} on, by the")
    line("", f"{judged.learnt_from:,} answered before; intervals are 5th to 95th percentile")
    print()
    print_table(
        ["", *QUALITY_HEAD],
        [["base rate", *quality_cells(judged.base)], ["inferred", *quality_cells(judged.measured)]],
    )
    gain = judged.gain
    verdict = "better than the base rate" if judged.better else "NOT better than the base rate"
    print(f"gain in log-loss {gain.mean:+.4f} [{gain.low:+.4f} to {gain.high:+.4f}]: {verdict}\n")
    asked = int(rows.get_column("asked").sum())
    share = rows.height / found.occasions.journeys
    line("inferred", f"{rows.height:,} of {found.occasions.journeys:,} journeys ({share:.0%}): nobody asked in")
    line("", f"{rows.height - asked:,}, nobody answered in {asked:,}; never counted as felt")
    if saved:
        line("kept in", "table inferred_experience; look at it in view inferred_journeys")
    else:
        line("kept", "nothing")


def _document(found: Found, *, written: bool, saved: bool) -> dict[str, Any]:
    table, rows = found.occasions.table, found.rows
    asked = int(rows.get_column("asked").sum())
    return {
        "version": found.model.version,
        "until": moment(found.as_of_us),
        "bad_at_most": BAD_AT_MOST,
        "journeys": found.occasions.journeys,
        "rated": found.rated,
        "bad": int(table.get_column("bad").sum()),
        "judged": {**found.judged.model_dump(), "since": moment(found.judged.since_us), "better": found.judged.better},
        "inferred": rows.height,
        "not_asked": rows.height - asked,
        "not_answered": asked,
        "left_out": {
            "still_open": found.occasions.still_open,
            "without_steps": found.occasions.without_steps,
            "of_unlike_sorts": found.occasions.unlike,
        },
        "written": written,
        "saved": saved,
        "notes": list(found.notes),
        "model": found.model.model_dump(),
    }


def _flat(rows: pl.DataFrame) -> pl.DataFrame:
    """As a CSV has it: times in ISO 8601, reasons in one text."""
    reason = pl.element().struct.field("reason")
    odds = pl.element().struct.field("log_odds")
    said = pl.col("reasons").list.eval(pl.format("{} {}", odds.round(2), reason)).list.join("; ")
    at = pl.from_epoch("happened_at", time_unit="us").dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    return rows.with_columns(at.alias("happened_at"), said.alias("reasons"))
