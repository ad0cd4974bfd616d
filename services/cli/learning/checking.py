"""Does a model still hold: its risks at the start of the latest window that has ended, against who came back in it."""

from __future__ import annotations

from typing import Final

import polars as pl

from infra.clickhouse.checks import CheckRow
from services.cli.console import CommandError, ExitCode, paint, print_table
from services.cli.learning.asking import day_of, learning
from services.cli.learning.history import History
from services.cli.learning.quality import Window, latest_window
from services.cli.learning.told import line, moment, print_qualities
from services.learning import judging
from services.learning.activity import DAY_US
from services.learning.drift import Drift, Period, drift, period_spread
from services.learning.fitting import ExperienceAt
from services.learning.model import LearntModel

EARLIER_WINDOWS: Final = 4
"""Windows before the latest one that show by how much periods differ here."""


def check_drift(model: LearntModel, history: History, as_of_us: int, experience: ExperienceAt | None = None) -> Drift:
    """Hold a model against the latest window. CommandError where there is too little history for one."""
    window = latest_window(history.events, as_of_us, model.horizon_days, model.kinds)
    if window is None:
        raise CommandError(
            f"nobody had come before the {model.horizon_days} days that ended on {moment(as_of_us)}: there is no "
            "window to check on yet; wait, or choose a later --asof",
            ExitCode.NO,
        )
    with learning(f"as of {moment(as_of_us)}"):
        risks = _risks(model, history, window, experience)
        came = window.outcomes.filter(pl.col("left") == 0.0).get_column("customer_id")
        return drift(
            risks,
            came,
            version=model.version,
            judged_at_us=window.start_us,
            horizon_days=model.horizon_days,
            as_of_us=as_of_us,
            spread=_spread(model, history, window, experience),
        )


def _risks(model: LearntModel, history: History, window: Window, experience: ExperienceAt | None) -> pl.DataFrame:
    """customer_id and risk at the start of a window, of those who are looked at."""
    risks = judging.risks(model, history.events, window.start_us, experience)
    return risks.join(window.outcomes, on="customer_id", how="inner", maintain_order="left")


def _spread(model: LearntModel, history: History, latest: Window, experience: ExperienceAt | None) -> float | None:
    """By how much periods differ here, from windows side by side before the latest one; None if there are not two."""
    first_us = int(history.events["occurred_at"].min())  # type: ignore[arg-type]
    periods = []
    end_us = latest.start_us
    for _ in range(EARLIER_WINDOWS):
        window = latest_window(history.events, end_us, model.horizon_days, model.kinds)
        # A window needs one of history before it.
        if window is None or window.start_us - first_us < model.horizon_days * DAY_US:
            break
        found = _risks(model, history, window, experience)
        chance, left = found.get_column("risk").to_numpy(), found.get_column("left").to_numpy()
        periods.append(Period.of(window.start_us // DAY_US, chance, left))
        end_us = window.start_us
    return period_spread(periods, model.horizon_days) if len(periods) > 1 else None


def check_row(found: Drift, checked_at_us: int, *, flattered: bool) -> CheckRow:
    """A finding as table `model_checks` keeps it. Times are UTC microseconds."""
    quality = found.quality
    return CheckRow(
        version=found.version,
        judged_at_us=found.judged_at_us,
        checked_at_us=checked_at_us,
        horizon_days=found.horizon_days,
        verdict=found.verdict,
        flattered=flattered,
        n=found.n,
        expected=found.expected,
        observed=found.observed,
        allowed_low=found.allowed[0],
        allowed_high=found.allowed[1],
        spread=found.spread,
        auc=quality.auc,
        brier=quality.brier,
        ece=quality.ece,
        log_loss=quality.log_loss,
    )


def print_drift(found: Drift) -> None:
    """For a person, on stdout."""
    colour = {"holds": "green", "drifted": "red"}.get(found.verdict, "yellow")
    line("model", found.version)
    line("verdict", paint(found.verdict.replace("_", " "), colour))
    print(found.sentence)
    end = day_of(found.judged_at_us + found.horizon_days * DAY_US)
    print(f"\nfrom {day_of(found.judged_at_us)} to {end}, customers in tenths by risk")
    print_table(
        ["customers", "mean risk", "left", "5th", "95th"],
        [[f"{b.n:,}", f"{b.chance:.3f}", f"{b.observed:.3f}", f"{b.low:.3f}", f"{b.high:.3f}"] for b in found.bins],
    )
    print()
    print_qualities([(found.version, found.quality)])
