"""The learnt risk on event logs, judged from outside: predictions of every set and date of a protocol, and a table.

    python -m benchmarks.risk --data DIR [--evaluate evaluate_risk.py] [--out predictions.csv] [--only NAME ...]
    python -m benchmarks.risk --large      time and memory of a fit of 100,000 customers and 1,000,000 events

DIR holds NAME.events.parquet (customer_id, occurred_at, kind, touchpoint, amount ...). For every as-of date a model is
fitted as a deployment would have done then. With --evaluate, that script says whom to score at which dates and horizons
(also of sets that are not named here), and judges the predictions beside its baselines.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table

from services.learning import fitting, inferred, judging
from services.learning.activity import DAY_US, returning_kinds
from services.learning.evidence import nothing
from services.learning.journeys import journey_facts
from services.learning.measures import Quality, quality
from services.learning.model import FEATURES, LearntModel


class Case(NamedTuple):
    """What counts as coming back (None: any event; empty: the default), within how many days, at which dates."""

    kinds: tuple[str, ...] | None
    horizon_days: int
    dates: tuple[str, ...]


DRAWS: Final = partial(np.random.default_rng, 0)
PROTOCOL: Final = {
    "cdnow": Case(("purchase",), 90, ("1997-07-15", "1997-10-01", "1998-01-01", "1998-04-01")),
    "complete_journey": Case(("purchase",), 30, ("2017-06-01", "2017-08-01", "2017-10-01", "2017-12-01")),
    "grocery_elog": Case(("purchase",), 90, ("2006-10-01", "2007-01-01", "2007-04-01", "2007-07-01", "2007-10-01")),
    "simple_shop": Case(None, 30, ("2020-02-01", "2020-02-15", "2020-03-01")),
}
BARS: Final = {
    "cdnow": (0.771, 0.128, 0.030),
    "complete_journey": (0.884, 0.096, 0.030),
    "grocery_elog": (0.889, 0.123, 0.045),
    "olist, bad review": (0.750, 0.097, 0.030),
}
"""AUC at least, Brier and ECE at most."""
LOOKBACK_DAYS: Final = 365
REVIEW_SPLIT: Final = "2017-11-01"
BAD_REVIEW: Final = 2


def load(path: Path) -> pl.DataFrame:
    """A set with occurred_at as UTC microseconds."""
    return pl.read_parquet(path).with_columns(
        pl.col("occurred_at").str.to_datetime(time_unit="us", time_zone="UTC").dt.epoch("us")
    )


def _us(day: str) -> int:
    return int(datetime.combine(date.fromisoformat(day), datetime.min.time(), UTC).timestamp()) * 1_000_000


def asked_for(script: Path, data: Path) -> dict[str, Case]:
    """What an evaluation asks for, from the populations that it exports: dates and horizons by set."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "populations.csv"
        subprocess.run([sys.executable, script, "--data", data, "--export-populations", file], check=True)
        asked = (
            pl.read_csv(file, columns=["dataset", "asof", "horizon_days"], schema_overrides={"asof": pl.String})
            .unique()
            .sort("asof")
            .group_by("dataset", maintain_order=True)
            .agg("asof", pl.col("horizon_days").first())
            .sort("dataset")
        )
    return {
        name: Case(PROTOCOL[name].kinds if name in PROTOCOL else (), horizon, tuple(dates))
        for name, dates, horizon in asked.iter_rows()
    }


def measure(
    events: pl.DataFrame, kinds: tuple[str, ...], risk: pl.DataFrame, as_of_us: int, horizon_days: int
) -> Quality:
    """Quality over customers who came in the year before, by what they did in the horizon after."""
    came = events.filter(pl.col("kind").is_in(list(kinds))).select("customer_id", at=pl.col("occurred_at"))

    def ids(start_us: int, end_us: int) -> pl.Series:
        inside = came.filter(pl.col("at") >= start_us, pl.col("at") < end_us)
        return inside.get_column("customer_id").unique()

    recent = ids(as_of_us - LOOKBACK_DAYS * DAY_US, as_of_us)
    back = ids(as_of_us, as_of_us + horizon_days * DAY_US)
    judged = risk.filter(pl.col("customer_id").is_in(recent.to_list())).sort("customer_id")
    left = (~judged.get_column("customer_id").is_in(back.to_list())).cast(pl.Float64).to_numpy()
    chance = judged.get_column("risk").to_numpy()
    return quality(left, np.log(chance / (1.0 - chance)))


def said(model: LearntModel) -> str:
    """What a fit chose, in a line."""
    gains = ", ".join(
        f"{v.layer} {v.gain.mean:+.4f} [{v.gain.low:+.4f} {v.gain.high:+.4f}]{'' if v.kept else ' left out'}"
        for v in model.judged.verdicts
    )
    return f"{model.base.variant.upper()}/NBD; judged by {model.judged.by}; gain in log-loss: {gains or 'none tried'}"


def bad_reviews(events: pl.DataFrame) -> Quality:
    """Reviews of 1 or 2 of 5, inferred from what was known when they were asked for; learnt before the split."""
    events = events.rename({"ref_id": "journey_id"}).filter(pl.col("journey_id").is_not_null())
    first = pl.col("occurred_at").first()
    asked = events.filter(pl.col("touchpoint") == "review_request").group_by("journey_id").agg(asked_us=first)
    answers = (
        events.filter(pl.col("kind") == "survey_response")
        .group_by("journey_id", maintain_order=True)
        .agg(answered_us=pl.col("occurred_at").last(), stars=pl.col("score").last())
    )
    bought = events.filter(pl.col("kind") == "purchase").select("journey_id").unique()
    # Requests carry a date only: what happened on that day counts as known.
    moments = (
        asked.join(answers, on="journey_id")
        .join(bought, on="journey_id")
        .filter(pl.col("stars").is_not_null())
        .sort("asked_us", "journey_id")
        .with_columns(known_us=pl.col("asked_us") + DAY_US)
    )
    # Operations only: neither the request nor the answer, and no journey's later steps.
    steps = events.filter(pl.col("touchpoint") != "review_request", pl.col("kind") != "survey_response")
    facts = journey_facts(steps, moments.select("journey_id", "asked_us", "known_us"))
    bad = (moments.get_column("stars") <= BAD_REVIEW).cast(pl.Float64).to_numpy()
    asked_us, answered_us = moments.get_column("asked_us").to_numpy(), moments.get_column("answered_us").to_numpy()
    split = _us(REVIEW_SPLIT)
    model = inferred.fit(facts, bad, asked_us, answered_us, split, version="benchmark")
    after = asked_us >= split
    return quality(bad[after], inferred.log_odds(model, facts.filter(pl.Series(after))))


def large(customers: int = 100_000, events: int = 1_000_000, days: int = 500, seed: int = 1) -> pl.DataFrame:
    """Events of a large deployment: rates gamma distributed, customers arriving and leaving, a third no purchases."""
    random = np.random.default_rng(seed)
    first = random.uniform(0.0, days * 0.9, customers)
    span = np.minimum(random.exponential(300.0, customers), days - first)
    weight = random.gamma(0.7, 1.0, customers) * span
    number = 1 + random.multinomial(events - customers, weight / weight.sum())
    who = np.repeat(np.arange(customers), number)
    at = first[who] + span[who] * random.random(events) * (np.arange(events) != np.searchsorted(who, who))
    return pl.DataFrame(
        {
            "customer_id": pl.Series(who).cast(pl.String),
            "occurred_at": (at * DAY_US).astype(np.int64),
            "kind": np.where(random.random(events) < 0.7, "purchase", "interaction"),
            "amount": random.gamma(2.0, 20.0, events),
        }
    )


def measure_large(console: Console) -> None:
    """Fit and judge `large`, and print CPU seconds and peak memory of the process."""
    events, as_of_us = large(), 500 * DAY_US
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    start = time.process_time()
    model = fitting.fit(events, as_of_us, draws=DRAWS, version="large", horizon_days=60)
    fitted = time.process_time()
    judged = judging.risks(model, events, as_of_us)
    done = time.process_time()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    console.print(
        f"{events.height:,} events, {judged.height:,} customers: fit {fitted - start:.1f} CPU s, everybody judged in "
        f"{done - fitted:.1f} CPU s; peak {peak} MiB ({before} MiB before the fit); {said(model)}"
    )


def _row(table: Table, name: str, found: list[Quality], note: str = "") -> dict[str, float]:
    mean = {measure: float(np.mean([getattr(q, measure) for q in found])) for measure in ("auc", "brier", "ece")}
    bar = BARS.get(name)
    met = (
        ""
        if bar is None
        else "yes"
        if mean["auc"] >= bar[0] and mean["brier"] <= bar[1] and mean["ece"] <= bar[2]
        else "NO"
    )
    cells = [f"{value:.4f}" for value in mean.values()]
    table.add_row(name, *cells, *(f"{value:.3f}" for value in bar or ()), *([""] * (0 if bar else 3)), met, note)
    return mean


def main() -> None:
    parser = argparse.ArgumentParser(description="Learnt risk on event logs, beside the bars.")
    parser.add_argument("--large", action="store_true", help="time and memory of a large fit instead")
    parser.add_argument("--data", type=Path, help="folder with NAME.events.parquet")
    parser.add_argument("--evaluate", type=Path, help="script that judges predictions beside its baselines")
    parser.add_argument("--out", type=Path, help="where to write dataset,asof,customer_id,risk")
    parser.add_argument("--only", nargs="*", help="names of sets")
    given = parser.parse_args()
    console = Console(width=150, soft_wrap=True)
    if given.large:
        measure_large(console)
        return
    if given.data is None:
        parser.error("--data is needed: the folder with NAME.events.parquet")
    table = Table("set", "AUC", "Brier", "ECE", "AUC >=", "Brier <=", "ECE <=", "met", "fit, CPU s")
    predictions, results = [], {}
    for name, case in (asked_for(given.evaluate, given.data) if given.evaluate else PROTOCOL).items():
        path = given.data / f"{name}.events.parquet"
        if not path.exists() or (given.only and name not in given.only):
            continue
        events = load(path)
        if case.kinds is None:
            kinds = tuple(sorted(events.get_column("kind").unique().to_list()))
        else:
            kinds = case.kinds or returning_kinds(events)
        found, alone, spent = [], [], []
        for day in case.dates:
            as_of_us = _us(day)
            start = time.process_time()
            model = fitting.fit(
                events, as_of_us, draws=DRAWS, version=f"{name}-{day}", horizon_days=case.horizon_days, kinds=kinds
            )
            spent.append(time.process_time() - start)
            risk = judging.risks(model, events, as_of_us)
            found.append(measure(events, kinds, risk, as_of_us, case.horizon_days))
            q = found[-1]
            bare = model.model_copy(update={"weights": nothing(len(FEATURES), 0.0)})
            risk_alone = judging.risks(bare, events, as_of_us)
            alone.append(measure(events, kinds, risk_alone, as_of_us, case.horizon_days))
            console.print(f"{name} {day}: AUC {q.auc:.4f} Brier {q.brier:.4f} ECE {q.ece:.4f}; {said(model)}")
            predictions.append(
                risk.select(pl.lit(name).alias("dataset"), pl.lit(day).alias("asof"), "customer_id", "risk")
            )
        results[name] = _row(table, name, found, f"{max(spent):.1f}")
        _row(table, f"{name}, base alone", alone)
    if (path := given.data / "olist.events.parquet").exists() and (not given.only or "olist" in given.only):
        results["olist, bad review"] = _row(table, "olist, bad review", [bad_reviews(load(path))])
    console.print(table)
    console.print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MiB; means over as-of dates")
    console.print_json(json.dumps(results))
    if not predictions:
        return
    with tempfile.TemporaryDirectory() as folder:
        out = given.out or Path(folder) / "predictions.csv"
        pl.concat(predictions).write_csv(out)
        if given.evaluate:
            command: list[Any] = [sys.executable, given.evaluate, "--data", given.data, "--predictions", out]
            subprocess.run([*command, "--only", *(name for name in results if "," not in name)], check=True)


if __name__ == "__main__":
    main()
