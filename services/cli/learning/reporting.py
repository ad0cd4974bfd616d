"""What goes into the report of a fit, put together from the events it was learnt from."""

from __future__ import annotations

from typing import Final

import numpy as np
import polars as pl

from services.cli.learning.asking import day_of
from services.cli.learning.fit import Fitted
from services.cli.learning.history import History
from services.cli.learning.quality import Window
from services.cli.learning.translate import to_learnt, to_risk_model
from services.learning import bgnbd, features, judging
from services.learning.activity import DAY_US
from services.learning.errors import TooLittle
from services.learning.evidence import nothing
from services.learning.fitting import ExperienceAt
from services.learning.fitting import History as Cut
from services.learning.model import FEATURES, LearntModel
from services.learning.moments import Moments, moments_of_truth
from services.learning.report import Example, HeldOut, ReportContent
from services.scoring.facts import sentences_at

EXAMPLES: Final = (0.99, 0.5, 0.01)
"""Customers shown, by the share of customers whose risk is below theirs."""


def report_content(
    fitted: Fitted, history: History, as_of_us: int, made_at_us: int, experience: ExperienceAt | None = None
) -> ReportContent:
    """Everything that can be shown of a fit. ``history`` needs touchpoint, journey and valence besides."""
    model = fitted.model
    return ReportContent(
        model=model,
        made_at_us=made_at_us,
        held_out=None if fitted.window is None else _held_out(fitted, history, fitted.window, experience),
        moments=_moments(model, history, as_of_us),
        examples=_examples(model, history, as_of_us, experience),
        currency=history.currency,
    )


def _held_out(fitted: Fitted, history: History, window: Window, experience: ExperienceAt | None) -> HeldOut | None:
    """The same fit as of the start of the latest window, judged by who left in it."""
    earlier = fitted.earlier
    if earlier is None:
        return None
    bare = earlier.model_copy(update={"weights": nothing(len(FEATURES), earlier.weights.base_mean)})
    theirs = to_learnt(fitted.judging, earlier.horizon_days, earlier.kinds)
    judges = [
        ("base alone", bare),
        (f"{fitted.judging.version}, which judges now", theirs),
        ("base and evidence", earlier),
    ]
    return HeldOut(
        described=(
            f"Customers who had come in the year before {day_of(window.start_us)}, judged on that day by a fit on what "
            f"was known by then; what came of them by {day_of(window.end_us)} was not."
        ),
        label=window.outcomes.get_column("left").to_numpy(),
        chances=tuple((name, _chances(judge, history, window, experience)) for name, judge in judges),
    )


def _chances(model: LearntModel, history: History, window: Window, experience: ExperienceAt | None) -> features.Floats:
    risks = judging.risks(model, history.events, window.start_us, experience)
    return (
        window.outcomes.join(risks, on="customer_id", how="left", maintain_order="left").get_column("risk").to_numpy()
    )


def _moments(model: LearntModel, history: History, as_of_us: int) -> Moments | None:
    """Moments of truth at the dates of the fit; None where there are too few events for any."""
    if not model.span.snapshot_days or history.events.get_column("valence").is_null().all():
        return None
    cut = Cut(history.events, as_of_us, model.kinds, None)
    base = pl.concat([_base(cut, day, model) for day in model.span.snapshot_days])
    try:
        return moments_of_truth(
            history.events, base, as_of_us=as_of_us, horizon_days=model.horizon_days, kinds=model.kinds
        )
    except TooLittle:
        return None


def _base(cut: Cut, day: int, model: LearntModel) -> pl.DataFrame:
    """customer_id, day and base chance of those who came in the year before, by a base fitted on what was before."""
    known = features.known_at(cut.days, day)
    rates = bgnbd.fit(known.histories(), model.base.variant)
    recent = known.take(known.last >= day - model.lookback_days)
    odds = features.base_log_odds(rates, recent.histories(), model.horizon_days)
    return pl.DataFrame(
        {
            "customer_id": cut.days.customers.gather(recent.row),
            "day": np.full(len(recent), day, dtype=np.int64),
            "chance": 1.0 / (1.0 + np.exp(-odds)),
        }
    )


def _examples(
    model: LearntModel, history: History, as_of_us: int, experience: ExperienceAt | None
) -> tuple[Example, ...]:
    """One customer of high, one of middle and one of low risk, with what the stream would say of each."""
    cut = Cut(history.events, as_of_us, model.kinds, experience)
    known = features.known_at(cut.days, as_of_us / DAY_US)
    base = features.base_log_odds(model.base.rates(), known.histories(), model.horizon_days)
    judged = judging.judge(model, base, cut.matrix(known, base, model.horizon_days))
    ranked = np.argsort(judged.log_odds, kind="stable")
    places = dict.fromkeys(int(ranked[round(share * (len(ranked) - 1))]) for share in EXAMPLES)
    customers = {at: str(cut.days.customers[int(known.row[at])]) for at in places}
    theirs = history.events.filter(pl.col("customer_id").is_in(list(customers.values())))
    said = {row["customer_id"]: row for row in sentences_at(theirs, as_of_us, to_risk_model(model)).to_dicts()}
    return tuple(
        Example(
            customer_id=customer,
            average=judged.average,
            contributions=tuple((said[customer][term], float(size[at])) for term, size in judged.contributions.items()),
        )
        for at, customer in customers.items()
    )
