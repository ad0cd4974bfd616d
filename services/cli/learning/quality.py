"""How well models did on the latest window whose end has come: everybody's risk at its start, and who came in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from services.cli.learning.asking import DRAWS
from services.learning import fitting, judging
from services.learning.activity import DAY_US
from services.learning.errors import TooLittle
from services.learning.fitting import LOOKBACK_DAYS, ExperienceAt
from services.learning.measures import Quality, quality
from services.learning.model import LearntModel


@dataclass(frozen=True, slots=True)
class Window:
    """Days from ``start_us`` (a midnight) on, whose end had come; who is looked at, and who of them did not come."""

    start_us: int
    horizon_days: int
    outcomes: pl.DataFrame
    """customer_id and left, of those who came in the year before."""

    @property
    def end_us(self) -> int:
        return self.start_us + self.horizon_days * DAY_US


def latest_window(events: pl.DataFrame, as_of_us: int, horizon_days: int, kinds: Sequence[str]) -> Window | None:
    """The latest window of a horizon that ended by a moment; None if nobody had come in the year before it."""
    start_us = (as_of_us // DAY_US - horizon_days) * DAY_US
    comings = events.lazy().filter(pl.col("kind").cast(pl.String).is_in(list(kinds)))
    at = pl.col("occurred_at")
    seen = comings.filter(at >= start_us - LOOKBACK_DAYS * DAY_US, at < start_us).select("customer_id").unique()
    back = comings.filter(at >= start_us, at < start_us + horizon_days * DAY_US).select("customer_id").unique()
    outcomes = (
        seen.join(back.with_columns(came=pl.lit(value=True)), on="customer_id", how="left")
        .select("customer_id", left=pl.col("came").is_null().cast(pl.Float64))
        .sort("customer_id")
        .collect()
    )
    return Window(start_us, horizon_days, outcomes) if outcomes.height else None


def judged_at(
    model: LearntModel, events: pl.DataFrame, window: Window, experience: ExperienceAt | None = None
) -> Quality:
    """How a model did on a window, by what had happened before it."""
    risks = judging.risks(model, events, window.start_us, experience)
    found = window.outcomes.join(risks, on="customer_id", how="left", maintain_order="left")
    chance = found.get_column("risk").to_numpy()
    return quality(found.get_column("left").to_numpy(), np.log(chance / (1.0 - chance)))


def refitted(
    events: pl.DataFrame,
    window: Window,
    kinds: Sequence[str],
    experience: ExperienceAt | None = None,
) -> LearntModel | None:
    """What a fit would have found at the start of a window, so that its quality in the window flatters nobody; None
    where there was too little history by then."""
    try:
        return fitting.fit(
            events,
            window.start_us,
            version="as-of-window",
            draws=DRAWS,
            horizon_days=window.horizon_days,
            kinds=kinds,
            experience=experience,
        )
    except TooLittle:
        return None


def own_quality(model: LearntModel) -> Quality | None:
    """Quality out of sample as the fit itself found it: of the last layer that stayed, or of the base alone."""
    kept = [verdict for verdict in model.judged.verdicts if verdict.kept]
    if kept:
        return kept[-1].measured
    if model.judged.verdicts:
        return model.judged.verdicts[0].below
    return dict(model.base_quality).get(model.base.variant)
