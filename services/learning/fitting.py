"""Fitting as a deployment would have done at a moment: from events before it, and from nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from services.learning import bgnbd, features, value
from services.learning.activity import DAY_US, ActiveDays, active_days, read_events, returning_kinds, usual_horizon
from services.learning.bgnbd import VARIANTS, Variant
from services.learning.errors import BadHistory, TooLittle
from services.learning.evidence import Judged, Layer, Snapshot, judge, learn, nothing, teachable
from services.learning.features import CONTACT, EXPERIENCE, RHYTHM, Known
from services.learning.leaks import refuse_leaks
from services.learning.measures import Draws, Quality, losses, quality
from services.learning.model import FEATURES, BaseRates, LearntModel, Span

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

ExperienceAt = Callable[[pl.DataFrame, int], pl.DataFrame]
"""(events, as of, UTC microseconds) to one row per customer: customer_id and some of `features.EXPERIENCE`. Only events
before the moment may matter; `refuse_leaks` tries it."""

LOOKBACK_DAYS: Final = 365
"""Customers silent for longer are scored, but are not learnt from: most have been gone for good."""
SNAPSHOTS: Final = 6
SNAPSHOTS_A_HORIZON: Final = 3
"""As-of dates to learn from: the newest whose labels are in, and earlier ones a third of a horizon apart."""
LEAST_HISTORY_DAYS: Final = 14

_LAYERS: Final = (
    Layer("rhythm", tuple(FEATURES.index(name) for name in RHYTHM)),
    Layer("contact", tuple(FEATURES.index(name) for name in CONTACT)),
    Layer("experience", tuple(FEATURES.index(name) for name in EXPERIENCE)),
)


def snapshot_days(first_day: int, as_of_day: int, horizon_days: int) -> list[int]:
    """Dates to learn from, newest first. Each has its whole label window before the as-of date, and half a horizon (at
    least `LEAST_HISTORY_DAYS`) of history behind it; if none has so much, the newest with any at all."""
    step = max(1, horizon_days // SNAPSHOTS_A_HORIZON)
    newest = as_of_day - horizon_days
    wanted = [newest - i * step for i in range(SNAPSHOTS)]
    least = max(LEAST_HISTORY_DAYS, horizon_days // 2)
    enough = [day for day in wanted if day - first_day >= least]
    return enough or [day for day in wanted[:1] if day > first_day]


class History:
    """Events of a deployment before a moment, cut into what learning needs. Holds no event from the moment on."""

    def __init__(
        self, events: pl.DataFrame, as_of_us: int, kinds: Sequence[str] | None, experience: ExperienceAt | None
    ) -> None:
        self.events = read_events(events).filter(pl.col("occurred_at") < as_of_us)
        self.as_of_us = as_of_us
        self.experience = experience
        self.kinds = returning_kinds(self.events, kinds)
        self.days: ActiveDays = active_days(self.events, self.kinds, as_of_us)
        comes = pl.col("kind").is_in(list(self.kinds))
        self._first = self.events.group_by("customer_id").agg(
            pl.col("occurred_at").min().alias("seen"),
            pl.col("occurred_at").filter(comes).min().alias("came"),
        )

    def matrix(self, known: Known, base: Floats, horizon_days: int) -> Floats:
        """(n, len(FEATURES)) features of the known."""
        customers = self.days.customers.gather(known.row)
        if self.experience is None:
            felt = np.tile([features.EXPERIENCE_ABSENT[name] for name in EXPERIENCE], (len(known), 1))
        else:
            at_us = round(known.at_days * DAY_US)
            felt = features.experience(
                self.experience(self.events.filter(pl.col("occurred_at") < at_us), at_us), customers
            )
        return np.column_stack(
            [
                features.rhythm(known, base, horizon_days),
                features.contact(self.days, known),
                felt,
            ]
        )

    def left(self, known: Known, horizon_days: int) -> Floats:
        """1 for those who did not come in the horizon after the date of ``known``."""
        inside = (self.days.day >= known.at_days) & (self.days.day < known.at_days + horizon_days)
        came = np.zeros(len(self.days.customers), dtype=np.bool_)
        came[self.days.row[inside]] = True
        return (~came[known.row]).astype(np.float64)

    def never_came(self, day: int, horizon_days: int) -> tuple[int, int]:
        """Of those known by other events only at the start of a day: how many, and how many came within the horizon."""
        start, end = day * DAY_US, (day + horizon_days) * DAY_US
        waiting = self._first.filter(
            pl.col("seen") >= start - LOOKBACK_DAYS * DAY_US,
            pl.col("seen") < start,
            pl.col("came").is_null() | (pl.col("came") >= start),
        )
        return waiting.height, waiting.filter(pl.col("came") < end).height


def fit(
    events: pl.DataFrame,
    as_of_us: int,
    *,
    version: str,
    draws: Draws,
    horizon_days: int | None = None,
    kinds: Sequence[str] | None = None,
    lookback_days: int = LOOKBACK_DAYS,
    experience: ExperienceAt | None = None,
) -> LearntModel:
    """Learn a model from ``events`` (customer_id, kind, occurred_at as integer UTC microseconds or a datetime, amount
    if there is one); those from ``as_of_us`` on are not looked at. ``draws`` picks folds and bootstrap samples.

    Too little history gives a model of less: the base alone, and a note that says so. Raises `TooLittle` where there
    is not even that, `BadHistory` where events cannot be read, `FutureLeak` where ``experience`` looks ahead.
    """
    if horizon_days is not None and horizon_days < 1:
        raise BadHistory(f"the horizon must be at least 1 day, not {horizon_days}")
    history = History(events, as_of_us, kinds, experience)
    horizon = usual_horizon(history.days) if horizon_days is None else horizon_days
    notes: list[str] = []
    as_of_day = as_of_us // DAY_US
    if experience is not None:
        refuse_leaks(experience, history.events, (as_of_day - horizon) * DAY_US)

    dates = snapshot_days(history.days.first_day, as_of_day, horizon)
    by_variant: dict[Variant, list[Snapshot]] = {variant: [] for variant in VARIANTS}
    subsets: list[Known] = []
    never, later = 0, 0
    for day in dates:
        known = features.known_at(history.days, day)
        histories = known.histories()
        recent = known.last >= day - lookback_days
        if not recent.any():
            continue
        waiting, came = history.never_came(day, horizon)
        never, later = never + waiting, later + came
        subset = known.take(recent)
        subsets.append(subset)
        left = history.left(subset, horizon)
        for variant in VARIANTS:
            base = features.base_log_odds(bgnbd.fit(histories, variant), subset.histories(), horizon)
            by_variant[variant].append(Snapshot(day, subset.row, base, np.empty((len(subset), 0)), left))
    variant, base_quality = _base(by_variant)
    snapshots = [
        Snapshot(s.day, s.customer, s.base, history.matrix(subset, s.base, horizon), s.left)
        for s, subset in zip(by_variant[variant], subsets, strict=True)
    ]
    judged = Judged(kept=(), strength=0.0, by="nothing", verdicts=())
    now = features.known_at(history.days, as_of_us / DAY_US)
    rates = bgnbd.fit(now.histories(), variant)
    mean = float(features.base_log_odds(rates, now.histories(), horizon).mean())
    weights = nothing(len(FEATURES), mean)
    if not snapshots or not teachable(snapshots):
        notes.append(
            f"too little history for evidence: no {horizon} days after a date with enough customers of both outcomes; "
            "the base model judges alone. Fit again later, or choose a shorter horizon"
        )
    else:
        tried = [layer for layer in _LAYERS if _says_something(snapshots, layer)]
        judged = judge(snapshots, tried, horizon, draws)
        columns = [column for layer in tried if layer.name in judged.kept for column in layer.columns]
        if columns:
            weights = learn(snapshots, columns, judged.strength, horizon)
        else:
            notes.append("evidence did not beat the base out of sample: the base model judges alone")
        if judged.by == "customers":
            notes.append("history is too short to judge by time: layers were judged on other customers only")
    return LearntModel(
        version=version,
        horizon_days=horizon,
        kinds=history.kinds,
        lookback_days=lookback_days,
        base=BaseRates(variant=variant, r=rates.r, alpha=rates.alpha, a=rates.a, b=rates.b),
        weights=weights,
        no_activity_log_odds=float(np.log((never - later + 1.0) / (later + 1.0))),
        worth=_worth(now),
        judged=judged,
        base_quality=base_quality,
        span=Span(
            first_day=history.days.first_day,
            as_of_us=as_of_us,
            snapshot_days=tuple(s.day for s in snapshots),
            customers=len(history.days.customers),
            active_days=len(history.days),
            rows=sum(len(s) for s in snapshots),
        ),
        notes=tuple(notes),
    )


def _base(by_variant: dict[Variant, list[Snapshot]]) -> tuple[Variant, tuple[tuple[str, Quality], ...]]:
    """The variant with the smaller log-loss over snapshots, none of whose outcomes it saw; MBG/NBD without any."""
    measured = []
    for variant, snapshots in by_variant.items():
        if snapshots:
            left, base = np.concatenate([s.left for s in snapshots]), np.concatenate([s.base for s in snapshots])
            measured.append((float(losses(left, base).mean()), variant, quality(left, base)))
    if not measured:
        return "mbg", ()
    best = min(measured)[1]
    return best, tuple((variant, found) for _, variant, found in measured)


def _worth(known: Known) -> value.Worth | None:
    comings = known.activities.astype(np.float64)
    try:
        return value.fit(comings, known.spend_total / comings)
    except TooLittle:
        return None  # the customer's own mean stands for it


def _says_something(snapshots: Sequence[Snapshot], layer: Layer) -> bool:
    """Whether any feature of the layer differs between customers at all."""
    columns = list(layer.columns)
    return any(float(np.ptp(s.features[:, columns], axis=0).max()) > 0.0 for s in snapshots)
