"""Experience inferred where nobody asked: P(a bad review) from the operational facts of a journey.

A ridge logistic over the facts and their bends (hinges at quantiles), so that the tenth day of waiting may weigh more
than the first. How many bends and how strong a penalty is decided on later journeys than those learnt from. The result
is an inference and never counts as something felt.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from services.learning import ridge
from services.learning.errors import BadHistory, ModelMismatch, TooLittle
from services.learning.evidence import LEAST_OUTCOMES, LEAST_ROWS, STRENGTHS, WINSOR, enough
from services.learning.judging import LIMIT
from services.learning.measures import Draws, Interval, Quality, bootstrap, losses, quality

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

BENDS: Final = (0, 1, 3)
BLOCKS: Final = 4
"""Journeys in order of time are cut into so many blocks; each but the first is judged by models of earlier ones."""
JUDGED_SHARE: Final = 0.25
"""So many of the journeys, the latest, are held out to judge by."""
LEAST_JUDGED: Final = 5
"""Of either answer among those."""
_INTERCEPT_PENALTY: Final = 1e-3


class Fact(BaseModel):
    """How one fact is read: what stands for a missing value, the range it is held to, and its bends."""

    model_config = ConfigDict(frozen=True)

    name: str
    absent: float
    low: float
    high: float
    bends: tuple[float, ...]


class InferredModel(BaseModel):
    """Log-odds = intercept + sum of coefficients x standardised terms; terms are facts, missing marks and bends."""

    model_config = ConfigDict(frozen=True)

    version: str = Field(min_length=1)
    facts: tuple[Fact, ...]
    means: tuple[float, ...]
    scales: tuple[float, ...]
    coefficients: tuple[float, ...]
    intercept: float
    strength: float
    learnt_from: int
    out_of_sample: Quality | None


def _read(facts: pl.DataFrame, name: str) -> Floats:
    if name not in facts.columns:
        raise ModelMismatch(f"the model needs fact {name}; there are {', '.join(facts.columns)}")
    values = facts.get_column(name).cast(pl.Float64).to_numpy().astype(np.float64)
    return np.where(np.isfinite(values), values, np.nan)


def _reading(facts: pl.DataFrame, names: list[str], bends: int) -> tuple[Fact, ...]:
    readings = []
    for name in names:
        values = _read(facts, name)
        present = values[~np.isnan(values)]
        if not len(present):
            continue
        low, high = np.percentile(present, WINSOR)
        at = np.unique(np.percentile(present, np.linspace(0, 100, bends + 2)[1:-1])) if bends else np.empty(0)
        inside = tuple(float(bend) for bend in at if low < bend < high) if len(np.unique(present)) > 5 else ()
        readings.append(
            Fact(name=name, absent=float(np.median(present)), low=float(low), high=float(high), bends=inside)
        )
    return tuple(readings)


def _terms(facts: pl.DataFrame, readings: tuple[Fact, ...]) -> Floats:
    columns = []
    for fact in readings:
        values = _read(facts, fact.name)
        absent = np.isnan(values)
        held = np.clip(np.where(absent, fact.absent, values), fact.low, fact.high)
        columns += [held, absent.astype(np.float64), *(np.maximum(held - bend, 0.0) for bend in fact.bends)]
    return np.column_stack(columns)


def _learn(
    facts: pl.DataFrame, bad: Floats, names: list[str], bends: int, strength: float, version: str
) -> InferredModel:
    readings = _reading(facts, names, bends)
    terms = _terms(facts, readings)
    means, scales = terms.mean(axis=0), terms.std(axis=0)
    varies = scales > 1e-6
    scales = np.where(varies, scales, 1.0)
    x = np.column_stack([np.ones(len(bad)), ((terms - means) / scales)[:, varies]])
    share = float(np.log((bad.sum() + 0.5) / (len(bad) - bad.sum() + 0.5)))
    penalty = np.concatenate([[_INTERCEPT_PENALTY], np.full(int(varies.sum()), strength)])
    found = ridge.fit(x, bad, np.full(len(bad), share), penalty)
    coefficients = np.zeros(terms.shape[1])
    coefficients[varies] = found[1:]
    return InferredModel(
        version=version,
        facts=readings,
        means=tuple(means.tolist()),
        scales=tuple(scales.tolist()),
        coefficients=tuple(coefficients.tolist()),
        intercept=share + float(found[0]),
        strength=strength,
        learnt_from=len(bad),
        out_of_sample=None,
    )


def fit(
    facts: pl.DataFrame,
    bad: Floats,
    asked_us: npt.NDArray[np.int64],
    answered_us: npt.NDArray[np.int64],
    as_of_us: int,
    *,
    version: str,
) -> InferredModel:
    """Learn from journeys that were asked and had answered before ``as_of_us``; others are not looked at.

    ``facts``: numeric columns (journey_id is skipped), one row a journey; ``bad``: 1 for a bad answer. Raises
    `TooLittle` if there are too few answers of either sort, `BadHistory` if lengths differ.
    """
    if not len(facts) == len(bad) == len(asked_us) == len(answered_us):
        raise BadHistory("facts, answers and their times must have one row a journey")
    names = [name for name in facts.columns if name != "journey_id"]
    rows = np.flatnonzero((asked_us < as_of_us) & (answered_us < as_of_us))
    rows = rows[np.argsort(asked_us[rows], kind="stable")]
    if not enough(bad[rows]):
        raise TooLittle(
            f"{len(rows)} answered journeys before the as-of date, {int(bad[rows].sum())} of them bad: at least "
            f"{LEAST_ROWS} and {LEAST_OUTCOMES} of either sort are needed; ask more customers or wait"
        )
    splits = []
    for block in np.array_split(rows, BLOCKS)[1:]:
        past = rows[(asked_us[rows] < asked_us[block[0]]) & (answered_us[rows] < asked_us[block[0]])]
        if enough(bad[past]):
            splits.append((past, block))
    best: tuple[float, int, float] = (np.inf, 0, STRENGTHS[-1])
    out_of_sample = None
    if splits:
        label = np.concatenate([bad[block] for _, block in splits])
        for bends in BENDS:
            for strength in STRENGTHS:
                odds = np.concatenate(
                    [
                        log_odds(_learn(facts[past], bad[past], names, bends, strength, version), facts[block])
                        for past, block in splits
                    ]
                )
                loss = float(losses(label, odds).mean())
                if loss < best[0]:
                    best, out_of_sample = (loss, bends, strength), quality(label, odds)
    model = _learn(facts[rows], bad[rows], names, best[1], best[2], version)
    return model.model_copy(update={"out_of_sample": out_of_sample})


def log_odds(model: InferredModel, facts: pl.DataFrame) -> Floats:
    """Log-odds of a bad answer for each journey, within the limits of `judging.LIMIT`.

    Raises `ModelMismatch` if a fact that the model needs is not among the columns.
    """
    terms = (_terms(facts, model.facts) - np.array(model.means)) / np.array(model.scales)
    return np.asarray(np.clip(model.intercept + terms @ np.array(model.coefficients), -LIMIT, LIMIT))


def contributions(model: InferredModel, facts: pl.DataFrame) -> tuple[float, dict[str, Floats]]:
    """Log-odds of the average journey learnt from, and what each fact adds for each journey (n,).

    ``average + sum of contributions = log_odds``, exactly but for rounding: what lies beyond the limit is taken from
    all in proportion. Raises as `log_odds` does.
    """
    terms = (_terms(facts, model.facts) - np.array(model.means)) / np.array(model.scales) * np.array(model.coefficients)
    free = terms.sum(axis=1)
    average = float(np.clip(model.intercept, -LIMIT, LIMIT))
    held = log_odds(model, facts) - average
    share = np.divide(held, free, out=np.ones(len(free)), where=np.abs(free) > 0.0)
    found, at = {}, 0
    for fact in model.facts:
        width = 2 + len(fact.bends)
        found[fact.name] = np.asarray(terms[:, at : at + width].sum(axis=1) * share)
        at += width
    return average, found


class Judged(BaseModel):
    """How a model of earlier journeys did on later ones, beside the share of bad answers known by then.

    ``gain``: log-loss of the share less that of the model, per journey.
    """

    model_config = ConfigDict(frozen=True)

    since_us: int
    learnt_from: int
    measured: Quality
    base: Quality
    gain: Interval

    @property
    def better(self) -> bool:
        """The model beats the base rate, by more than chance explains."""
        return self.gain.low > 0.0


def judge(
    facts: pl.DataFrame,
    bad: Floats,
    asked_us: npt.NDArray[np.int64],
    answered_us: npt.NDArray[np.int64],
    customer: npt.NDArray[np.int64],
    *,
    draws: Draws,
) -> Judged:
    """Learn from the first three quarters by time of asking, all choices included, and judge on the last quarter.

    ``customer``: a number for each customer; the interval of the gain is a bootstrap over them. Raises `TooLittle`
    where the earlier part teaches nothing, or the later one has too few answers of either sort to judge by.
    """
    since_us = int(np.sort(asked_us)[int(len(asked_us) * (1.0 - JUDGED_SHARE))]) if len(asked_us) else 0
    past, later = (asked_us < since_us) & (answered_us < since_us), asked_us >= since_us
    if not enough(bad[past]) or min(bad[later].sum(), (1.0 - bad[later]).sum()) < LEAST_JUDGED:
        raise TooLittle(
            f"{len(bad):,} journeys have a rating and a step before it, {int(bad.sum()):,} of them bad; when the "
            f"last quarter was asked, {int(past.sum()):,} were answered, {int(bad[past].sum()):,} of them bad. "
            f"Learning takes at least {LEAST_ROWS} by then, {LEAST_OUTCOMES} of them bad and {LEAST_OUTCOMES} not, and "
            f"judging {LEAST_JUDGED} of either in that quarter: ask more customers, over a longer time, or wait"
        )
    model = fit(facts, bad, asked_us, answered_us, since_us, version="judged")
    label, odds = bad[later], log_odds(model, facts.filter(pl.Series(later)))
    left = float(bad[past].sum())
    share = np.full(len(label), np.log((left + 0.5) / (past.sum() - left + 0.5)))
    return Judged(
        since_us=since_us,
        learnt_from=int(past.sum()),
        measured=quality(label, odds),
        base=quality(label, share),
        gain=bootstrap(losses(label, share) - losses(label, odds), customer[later], draws),
    )
