"""Judging by a learnt model: risk per customer, and the contributions that make it up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from services.learning import features
from services.learning.activity import CANCELLING, COMMITTING, DAY_US, read_events
from services.learning.errors import TooLittle
from services.learning.fitting import ExperienceAt, History
from services.learning.measures import SURE
from services.learning.model import FEATURES, LearntModel

Floats = npt.NDArray[np.float64]

LIMIT: Final = float(np.log((1.0 - SURE) / SURE))
"""Log-odds of a risk of 0.999999: no judgement goes beyond, either way."""
TERMS: Final[Mapping[str, tuple[str, ...]]] = {
    "rhythm": (
        "silence",
        "silence_over_longest",
        "silence_over_last",
        "own_gaps",
        "once_only",
        "gap_variability",
        "last_gap_over_mean",
    ),
    "frequency": ("age", "repeats", "comings_third", "comings_one", "comings_four"),
    "spend": ("spend_a_coming", "spend_slow", "spend_trend"),
    "contact": features.CONTACT,
    "score": ("score",),
    "trend": ("trend",),
    "volatility": ("volatility",),
    "worst": ("worst",),
    "complaints": ("open_complaints", "complaint_days"),
    "feedback": ("feedback_unanswered",),
    "surveys": ("survey_load",),
    "cancelled": ("cancelled",),
}
"""Features that are said in one sentence, since they describe one thing. The base belongs to the rhythm."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """Of n customers: log-odds (n,), and what makes them differ from the average customer by term, each (n,).

    ``average + sum of contributions = log_odds``, exactly but for rounding.
    """

    average: float
    log_odds: Floats
    contributions: Mapping[str, Floats]

    @property
    def risk(self) -> Floats:
        return np.asarray(1.0 / (1.0 + np.exp(-self.log_odds)))


def judge(model: LearntModel, base: Floats, matrix: Floats) -> Judgement:
    """Judge customers by base log-odds (n,) and features (n, len(FEATURES)). Risks are within 1e-6 .. 1 - 1e-6."""
    average, from_base, from_features = model.weights.parts(base, matrix)
    contributions = {
        term: from_features[:, [FEATURES.index(name) for name in names]].sum(axis=1) for term, names in TERMS.items()
    }
    contributions["rhythm"] = contributions["rhythm"] + from_base
    free = average + sum(contributions.values())
    held = np.clip(free, -LIMIT, LIMIT)
    # What is beyond the limit is taken from the rhythm, so that the contributions still add up.
    contributions["rhythm"] = contributions["rhythm"] + (held - free)
    return Judgement(average, held, contributions)


def risks(
    model: LearntModel, events: pl.DataFrame, as_of_us: int, experience: ExperienceAt | None = None
) -> pl.DataFrame:
    """customer_id and risk of everybody known before ``as_of_us``, by events before it, sorted by customer_id.

    Raises `TooLittle` if nobody is known by then.
    """
    before = read_events(events).filter(pl.col("occurred_at") < as_of_us)
    everybody = before.select("customer_id").unique().sort("customer_id")
    if not everybody.height:
        raise TooLittle("no customer is known before the as-of date: choose a later one")
    came = before.filter(pl.col("kind").is_in(list(model.kinds))).select("customer_id").unique()
    parts = []
    if came.height:
        history = History(before, as_of_us, model.kinds, experience)
        known = features.known_at(history.days, as_of_us / DAY_US)
        base = features.base_log_odds(model.base.rates(), known.histories(), model.horizon_days)
        judged = judge(model, base, history.matrix(known, base, model.horizon_days))
        parts.append(pl.DataFrame({"customer_id": history.days.customers.gather(known.row), "risk": judged.risk}))
    never = before.join(came, on="customer_id", how="anti")
    if never.height:
        facts = None if experience is None else experience(before, as_of_us)
        parts.append(_never_came(model, never, as_of_us, facts))
    return everybody.join(pl.concat(parts), on="customer_id", how="left", maintain_order="left")


def _never_came(model: LearntModel, events: pl.DataFrame, as_of_us: int, facts: pl.DataFrame | None) -> pl.DataFrame:
    """Those of whom there are other events only: what describes comings says nothing of them, what was felt does."""

    def latest(kinds: Sequence[str]) -> pl.Expr:
        return pl.col("occurred_at").filter(pl.col("kind").is_in(list(kinds))).max().fill_null(0)

    last = events.group_by("customer_id").agg(latest(CANCELLING).alias("ended"), latest(COMMITTING).alias("committed"))
    ended, committed = (last.get_column(name).to_numpy() for name in ("ended", "committed"))
    faded = np.exp2((ended - as_of_us) / DAY_US / features.SPEND_HALF_LIVES[1])
    matrix = np.tile(np.array(model.weights.means), (last.height, 1))
    matrix[:, FEATURES.index("cancelled")] = np.where(ended > committed, faded, 0.0)
    if facts is None:
        facts = pl.DataFrame({"customer_id": []}, schema={"customer_id": pl.String})
    felt = features.experience(facts, last.get_column("customer_id"))
    matrix[:, [FEATURES.index(name) for name in features.EXPERIENCE]] = felt
    _, _, added = model.weights.parts(np.zeros(last.height), matrix)
    said = [FEATURES.index(name) for name in (*features.EXPERIENCE, "cancelled")]
    log_odds = np.clip(model.no_activity_log_odds + added[:, said].sum(axis=1), -LIMIT, LIMIT)
    return last.select("customer_id", pl.Series("risk", 1.0 / (1.0 + np.exp(-log_odds))))
