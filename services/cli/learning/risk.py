"""``touchstone risk``: the risk of every customer as of a date, learnt from what had happened by then."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import polars as pl
import typer

from services.cli.console import CommandError, ExitCode, say
from services.cli.learning.asking import (
    DRAWS,
    Horizon,
    MoreKinds,
    kinds_of,
    learning,
    moment_us,
    silence_note,
    some_events,
    tables,
)
from services.cli.learning.csv_file import STDOUT, writable, write_csv
from services.cli.learning.experience import experience_of
from services.cli.learning.history import FELT, LEARNT_FROM, Tables, read_history
from services.cli.settings import load_settings
from services.learning import fitting, judging
from services.learning.model import LearntModel

EVERYTHING: Final = "all"
"""Stands in the column dataset where none was named."""


def risk(
    asof: Annotated[
        list[str], typer.Option("--asof", metavar="DATE", help="A date, or a moment (UTC); may be repeated.")
    ],
    horizon: Horizon = None,
    activity: Annotated[
        list[str] | None,
        typer.Option(
            "--activity",
            metavar="KIND...",
            help="Kinds of event that count as coming back; default purchase and renewal, or any where there are none.",
            show_default=False,
        ),
    ] = None,
    more_kinds: MoreKinds = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            "--dataset",
            metavar="NAME",
            help="Name in the column dataset; if a source is named so, its events alone are used.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="CSV to write; - is standard output.")
    ] = Path(STDOUT),
) -> None:
    """Say how likely each customer is to leave, as of a date: dataset,asof,customer_id,risk.

    For everybody known by then, from events before it and nothing else: a model is fitted as the deployment would have
    done on that date. Risk is the chance of not coming back within the horizon, above 0 and below 1.

    touchstone risk --asof 2026-03-01 --horizon 90 --activity purchase renewal --out risk.csv

    touchstone risk --asof 1997-10-01 --asof 1998-01-01 --dataset cdnow --horizon 90 --out predictions.csv

    Exit code 0: done; 1: there is too little history by then; 2: wrong use; 3: ClickHouse cannot be reached.
    """
    moments = [(given, moment_us(given)) for given in asof]
    kinds = kinds_of(activity, more_kinds)
    writable(out)
    settings = load_settings()
    with tables(settings) as client:
        found = [predicted(client, given, at_us, horizon, kinds, dataset) for given, at_us in moments]
    write_csv(pl.concat(found), out)


def predicted(
    client: Tables, given: str, as_of_us: int, horizon: int | None, kinds: Sequence[str] | None, dataset: str | None
) -> pl.DataFrame:
    """dataset, asof (as given), customer_id and risk of everybody known before a moment, sorted by customer.

    CommandError where there is too little history or a kind never happened; raises as ClickHouse does.
    """
    history = read_history(client, (*LEARNT_FROM, *FELT), before_us=as_of_us, dataset=dataset)
    some_events(history, given)
    experience = experience_of(history)
    with learning(f"as of {given}"):
        model = fitting.fit(
            history.events,
            as_of_us,
            version=f"as-of-{given}",
            draws=DRAWS,
            horizon_days=horizon,
            kinds=kinds,
            experience=experience,
        )
        judged = judging.risks(model, history.events, as_of_us, experience)
    for note in (*history.notes, *model.notes, silence_note(history, as_of_us, model.horizon_days)):
        if note:
            say(f"{given}: {note}")
    say(f"{given}: {judged.height:,} customers by {history.events.height:,} events; {_said(model)}")
    return checked(
        judged.select(
            pl.lit(dataset or EVERYTHING).alias("dataset"),
            pl.lit(given).alias("asof"),
            "customer_id",
            "risk",
        )
    )


def _said(model: LearntModel) -> str:
    layers = ", ".join(model.judged.kept) or "no evidence"
    return (
        f"horizon {model.horizon_days} days, coming back is {' or '.join(model.kinds)}; "
        f"{model.base.variant.upper()}/NBD with {layers}"
    )


def checked(judged: pl.DataFrame) -> pl.DataFrame:
    """The same, if every risk is a chance strictly between 0 and 1. CommandError otherwise: never a wrong number."""
    chance = judged.get_column("risk")
    sound = chance.is_finite() & (chance > 0.0) & (chance < 1.0)
    if not sound.fill_null(value=False).all():
        row = judged.filter(~sound.fill_null(value=False)).row(0, named=True)
        raise CommandError(
            f"customer {row['customer_id']} as of {row['asof']} got a risk of {row['risk']}: nothing was written. "
            "This is a fault of Touchstone; please report it with that customer's events",
            ExitCode.NO,
        )
    return judged
