"""What is known of customers at an as-of date, as numbers: base history, own rhythm, spend, contact.

All of it is worked out from a `Known`: what a customer's state in the stream holds at that moment. The newest 32
active days (gaps, windows and the base history come from those), decayed and total spend, contacts, and the facts of
experience. `services.scoring.risk.features` is the same list over states; a test holds the two together.

Windows and reference gaps are multiples of the horizon, so that a grocer and a car dealer need no different features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from services.learning.activity import DAY_US, KEPT_DAYS, ActiveDays, Moments
from services.learning.bgnbd import Histories, Rates, log_odds_none
from services.learning.errors import BadHistory

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

SPEND_HALF_LIVES: Final = (7.0, 90.0)
"""Days; those of the sums that the state holds (fast, slow)."""
BASE_LIMIT: Final = 12.0
"""Base log-odds beyond this say no more: 6 in a million."""
OWN_GAP_STRENGTH: Final = 2.0
"""Own gaps that count as much as the base model in `own_gaps`."""


def base_log_odds(rates: Rates, histories: Histories, horizon_days: float) -> Floats:
    """Log-odds of no coming by the base model, within `BASE_LIMIT`."""
    return np.clip(log_odds_none(rates, histories, horizon_days), -BASE_LIMIT, BASE_LIMIT)


RHYTHM: Final = (
    "silence",
    "age",
    "repeats",
    "once_only",
    "silence_over_longest",
    "silence_over_last",
    "gap_variability",
    "last_gap_over_mean",
    "comings_third",
    "comings_one",
    "comings_four",
    "own_gaps",
    "spend_a_coming",
    "spend_slow",
    "spend_trend",
    "cancelled",
)
CONTACT: Final = ("contacts", "contact_silence")


@dataclass(frozen=True, slots=True)
class Known:
    """n customers as of ``at_days`` (days since 1970, may be fractional): everything from before that moment.

    ``days``: float64 (n, 32), the newest active days ascending, NaN in front. ``number`` of them. ``last_us``: the
    latest coming. ``activities``: comings, several a day counted each. Money in units of currency: ``spend_slow``
    decayed to the moment, the other two to the latest coming. ``cancelled``: 1 at a cancellation that no commitment
    followed, fading with the slow half-life.
    """

    at_days: float
    row: Ints
    days: Floats
    number: Ints
    activities: Ints
    last_us: Ints
    spend_total: Floats
    spend_slow: Floats
    spend_fast_then: Floats
    spend_slow_then: Floats
    cancelled: Floats

    def __len__(self) -> int:
        return len(self.row)

    @property
    def last(self) -> Floats:
        return np.asarray(self.days[:, -1])

    @property
    def first_kept(self) -> Floats:
        return np.asarray(self.days[np.arange(len(self)), KEPT_DAYS - self.number])

    def histories(self) -> Histories:
        """Watching begins at the oldest kept day, as in the stream."""
        return Histories(
            (self.number - 1).astype(np.float64), self.last - self.first_kept, self.at_days - self.first_kept
        )

    def take(self, rows: npt.NDArray[np.intp] | npt.NDArray[np.bool_]) -> Known:
        """Some of the customers."""
        parts = (getattr(self, name) for name in self.__slots__ if name != "at_days")
        return Known(self.at_days, *(part[rows] for part in parts))


def known_at(days: ActiveDays, at_days: float) -> Known:
    """What was known of each customer seen before ``at_days``; ``row`` is the place in ``days.customers``.

    Raises `BadHistory` in the middle of a day unless the history ends there: days do not tell what was later.
    """
    if at_days % 1.0 and days.before_us > at_days * DAY_US + 1.0:
        raise BadHistory("as-of moments inside a history must be midnights UTC: later events of that day would be seen")
    before = days.day < at_days
    row, day = days.row[before], days.day[before]
    customers, start, visits = np.unique(row, return_index=True, return_counts=True)
    of = np.repeat(np.arange(len(customers)), visits)
    from_newest = (start + visits)[of] - 1 - np.arange(len(row))
    kept = from_newest < KEPT_DAYS
    newest = np.full((len(customers), KEPT_DAYS), np.nan)
    newest[of[kept], KEPT_DAYS - 1 - from_newest[kept]] = day[kept]
    at_us = at_days * DAY_US
    everybody = len(days.customers)
    last_us = days.last_us[before][start + visits - 1]

    def of_each(moments: Moments, since_us: Floats, half_life: float | None) -> Floats:
        """Sum of weights as of ``since_us`` (everybody,), of the customers known."""
        seen = moments.at_us < at_us
        rows, value = moments.row[seen], moments.weight[seen]
        if half_life is not None:
            value = value * np.exp2(np.minimum((moments.at_us[seen] - since_us[rows]) / DAY_US / half_life, 900.0))
        return np.bincount(rows, value, everybody)[customers].astype(np.float64)

    then = np.zeros(everybody)
    then[customers] = last_us
    now = np.full(everybody, at_us)
    ended, committed = days.cancellations.latest(at_us, everybody), days.commitments.latest(at_us, everybody)
    left = (ended > committed)[customers]
    return Known(
        at_days=at_days,
        row=customers,
        days=newest,
        number=np.minimum(visits, KEPT_DAYS),
        activities=np.bincount(of, days.comings[before], len(customers)).astype(np.int64),
        last_us=last_us,
        spend_total=of_each(days.money, now, None),
        spend_slow=of_each(days.money, now, SPEND_HALF_LIVES[1]),
        spend_fast_then=of_each(days.money, then, SPEND_HALF_LIVES[0]),
        spend_slow_then=of_each(days.money, then, SPEND_HALF_LIVES[1]),
        cancelled=np.where(left, np.exp2((ended[customers] - at_us) / DAY_US / SPEND_HALF_LIVES[1]), 0.0),
    )


def _signed_log(x: Floats) -> Floats:
    return np.asarray(np.sign(x) * np.log1p(np.abs(x)))


def rhythm(known: Known, base: Floats, horizon_days: float) -> Floats:
    """(n, len(RHYTHM)) features; ``base``: log-odds of the base model. Finite whatever the history.

    ``own_gaps``: of the customer's own gaps longer than the present silence, how many outlasted the horizon too, with
    the base chance as a prior worth `OWN_GAP_STRENGTH` gaps; as log-odds less the base's.
    """
    base = np.clip(base, -BASE_LIMIT, BASE_LIMIT)
    silence = np.maximum(known.at_days - known.last, 0.0)
    age = np.maximum(known.at_days - known.first_kept, 0.0)
    repeats = (known.number - 1).astype(np.float64)
    again = repeats > 0
    gaps = np.diff(known.days, axis=1)
    filled = np.nan_to_num(gaps, nan=0.0)
    mean = filled.sum(axis=1) / np.maximum(repeats, 1.0)
    spread = np.sqrt(np.maximum((filled**2).sum(axis=1) / np.maximum(repeats, 1.0) - mean**2, 0.0))
    longest, last = filled.max(axis=1), filled[:, -1]

    def own(values: Floats) -> Floats:
        return np.where(again, values, 0.0)

    def within(horizons: float) -> Floats:
        with np.errstate(invalid="ignore"):
            return np.asarray(np.log1p((known.days >= known.at_days - horizons * horizon_days).sum(axis=1)))

    with np.errstate(invalid="ignore"):
        outlasting = (gaps > silence[:, None]).sum(axis=1)
        too_long = (gaps > (silence + horizon_days)[:, None]).sum(axis=1)
    chance = 1.0 / (1.0 + np.exp(-base))
    prior = OWN_GAP_STRENGTH
    own_odds = (too_long + prior * chance) / (outlasting - too_long + prior * (1.0 - chance))
    # As of the latest coming, so that silence is no change of spending. A decayed sum needs a week at least, so that a
    # first purchase is not a habit.
    run = np.maximum(known.last_us / DAY_US - known.first_kept, 7.0)
    fast, slow = (
        np.maximum(spend, 0.0) / (half_life / np.log(2.0) * -np.expm1(-run / half_life * np.log(2.0)))
        for spend, half_life in zip((known.spend_fast_then, known.spend_slow_then), SPEND_HALF_LIVES, strict=True)
    )
    both = (fast > 0) & (slow > 0)
    trend = np.where(both, np.log(np.where(both, fast, 1.0) / np.where(both, slow, 1.0)), 0.0)
    return np.column_stack(
        [
            np.log1p(silence),
            np.log1p(age),
            np.log1p(repeats),
            (~again).astype(np.float64),
            own(np.log1p(silence / np.maximum(longest, 1.0))),
            own(np.log1p(silence / np.maximum(last, 1.0))),
            own(np.log1p(spread / np.maximum(mean, 1.0))),
            own(np.log((last + 1.0) / (mean + 1.0))),
            within(1 / 3),
            within(1.0),
            within(4.0),
            np.log(own_odds) - base,
            _signed_log(known.spend_total / known.activities),
            _signed_log(known.spend_slow),
            np.clip(trend, -3.0, 3.0),
            known.cancelled,
        ]
    )


def contact(days: ActiveDays, known: Known) -> Floats:
    """(n, len(CONTACT)) features: decayed number of contacts, and silence of contact against that of comings."""
    contacts, everybody = days.contacts, len(days.customers)
    if not len(contacts.row):  # nobody is ever contacted: the length of a silence that never ends says nothing
        return np.zeros((len(known), len(CONTACT)))
    at_us = known.at_days * DAY_US
    before = contacts.at_us < at_us
    row, ago = contacts.row[before], (at_us - contacts.at_us[before]) / DAY_US
    load = np.bincount(row, np.exp2(-ago / SPEND_HALF_LIVES[1]), everybody)[known.row]
    newest = (at_us - contacts.latest(at_us, everybody)[known.row]) / DAY_US
    since = np.minimum(newest, known.at_days - known.first_kept)
    return np.column_stack([np.log1p(load), np.log1p(np.maximum(since, 0.0))])


EXPERIENCE_RANGES: Final[Mapping[str, tuple[float, float]]] = {
    "score": (0.0, 100.0),
    "trend": (-100.0, 100.0),
    "volatility": (0.0, 2.0),
    "worst": (0.0, 10.0),
    "open_complaints": (0.0, 4.0),
    "complaint_days": (0.0, 3650.0),
    "feedback_unanswered": (0.0, 1.0),
    "survey_load": (0.0, 50.0),
}
"""Facts of experience as scoring works them out at a moment, and the range they are held to. Scores 0..100;
``feedback_unanswered`` fades from 1; ages in days."""
EXPERIENCE: Final = tuple(EXPERIENCE_RANGES)
EXPERIENCE_ABSENT: Final[Mapping[str, float]] = {name: 60.0 if name == "score" else 0.0 for name in EXPERIENCE}
"""What stands for a customer of whom nothing was felt: the prior."""


def experience(facts: pl.DataFrame, customers: pl.Series) -> Floats:
    """(n, len(EXPERIENCE)) features for ``customers``, from a frame with customer_id and some of `EXPERIENCE`."""
    joined = pl.DataFrame({"customer_id": customers}).join(
        facts.with_columns(pl.col("customer_id").cast(pl.String)).unique("customer_id", keep="any"),
        on="customer_id",
        how="left",
        maintain_order="left",
    )
    columns = []
    for name, (low, high) in EXPERIENCE_RANGES.items():
        absent = EXPERIENCE_ABSENT[name]
        if name in joined.columns:
            values = joined.get_column(name).cast(pl.Float64).fill_nan(None).fill_null(absent).to_numpy()
        else:
            values = np.full(len(customers), absent)
        values = np.clip(values, low, high)
        columns.append(np.log1p(values) if name == "complaint_days" else values)
    return np.column_stack(columns)
