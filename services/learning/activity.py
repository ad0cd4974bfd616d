"""Events to the days on which customers came, and what was known of those days at any earlier date.

A customer's comings on one UTC day are one. Days are whole days since 1970.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from schemas.kinds import FAMILIES, Family
from services.learning.errors import BadHistory, TooLittle

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

DAY_US: Final = 86_400_000_000
RETURNING: Final = ("purchase", "renewal")
"""Kinds that count as coming back unless the deployment names others."""
KEPT_DAYS: Final = 32
"""The newest days with activity that a customer's state keeps; nothing here uses more."""
MONEY: Final = {"purchase": 1, "renewal": 1, "subscription": 1, "refund": -1}
"""Kinds whose amounts are spend, as in the state of the stream; a refund's amount counts against it either way."""
CANCELLING: Final = ("cancellation",)
COMMITTING: Final = ("renewal", "subscription", "purchase")
OURS: Final = FAMILIES[Family.INTERNAL]
"""Kinds that Touchstone itself puts into the log: nothing that happened to a customer."""
MOST_AMOUNT: Final = 1e12
"""Amounts are held to this, so that sums of broken ones stay finite."""
LEAST_HORIZON_DAYS: Final = 7
_LATEST_DAY: Final = 0xFFFF
"""Days beyond 2149 come from a broken clock; the state's days are 16 bits."""


def returning_kinds(events: pl.DataFrame, wanted: Sequence[str] | None = None) -> tuple[str, ...]:
    """The kinds that count as coming back: ``wanted``, or `RETURNING` where there are such events, or all kinds.

    Raises `BadHistory` if wanted kinds never happened, `TooLittle` without events.
    """
    found = set(events.get_column("kind").drop_nulls().unique().to_list())
    if wanted:
        if not found & set(wanted):
            raise BadHistory(
                f"no event of kind {', '.join(wanted)} in this history; it has {', '.join(sorted(found)) or 'none'}"
            )
        return tuple(wanted)
    default = tuple(kind for kind in RETURNING if kind in found)
    if not found:
        raise TooLittle("there is no event before the as-of date: choose a later one")
    return default or tuple(sorted(found))


@dataclass(frozen=True, slots=True)
class Moments:
    """Events of some sort, sorted by customer and time: place in ``ActiveDays.customers``, UTC microseconds, weight."""

    row: Ints
    at_us: Ints
    weight: Floats

    def latest(self, before_us: float, customers: int) -> Floats:
        """The latest before a moment by place (customers,), as double; 0 where there is none."""
        found = np.zeros(customers)
        seen = self.at_us < before_us
        np.maximum.at(found, self.row[seen], self.at_us[seen].astype(np.float64))
        return found


@dataclass(frozen=True, slots=True)
class ActiveDays:
    """One row per customer and active day, sorted by customer and day, and what else happened to those customers.

    ``row``: place in ``customers``; ``day``: day since 1970; ``comings``: events of that day that are comings;
    ``last_us``: the latest of them. ``money``: every event with spend, in units of currency, all currencies added up
    as they come, refunds negative. ``contacts``: events that are no coming. ``before_us``: nothing from this moment
    on is in it.
    """

    before_us: int
    customers: pl.Series
    row: Ints
    day: Ints
    comings: Ints
    last_us: Ints
    money: Moments
    contacts: Moments
    cancellations: Moments
    commitments: Moments

    def __len__(self) -> int:
        return len(self.row)

    @property
    def first_day(self) -> int:
        return int(self.day.min())


def read_events(events: pl.DataFrame) -> pl.DataFrame:
    """Events as learning reads them: customer_id and kind as strings, occurred_at as UTC microseconds, amount as a
    finite number of units (0 if none); other columns as they are.

    Events without a customer or a kind, or with a time before 1970-01-02 or after 2149 (broken clocks), are left out.
    ``occurred_at`` may be integer microseconds or a datetime. Raises `BadHistory` if a column is missing or unreadable.
    """
    for name in ("customer_id", "occurred_at", "kind"):
        if name not in events.columns:
            raise BadHistory(f"events need a column {name}; there are {', '.join(events.columns) or 'none'}")
    at = pl.col("occurred_at")
    if isinstance(events.schema["occurred_at"], pl.Datetime):
        at = at.dt.epoch("us")
    elif not events.schema["occurred_at"].is_integer():
        raise BadHistory("occurred_at must be integer UTC microseconds or a datetime: convert it before fitting")
    amount = pl.lit(0.0)
    if "amount" in events.columns:
        given = pl.col("amount").cast(pl.Float64, strict=False)
        amount = pl.when(given.is_finite()).then(given.clip(-MOST_AMOUNT, MOST_AMOUNT)).otherwise(0.0)
    return events.with_columns(
        pl.col("customer_id").cast(pl.String),
        pl.col("kind").cast(pl.String),
        at.cast(pl.Int64).alias("occurred_at"),
        amount.alias("amount"),
    ).filter(
        pl.col("customer_id") != "",
        pl.col("kind") != "",
        ~pl.col("kind").is_in(list(OURS)),
        pl.col("occurred_at") >= DAY_US,
        pl.col("occurred_at") < _LATEST_DAY * DAY_US,
    )


def active_days(events: pl.DataFrame, kinds: Sequence[str], before_us: int) -> ActiveDays:
    """Active days from events (`read_events`) of some kinds that happened before ``before_us``.

    Raises `TooLittle` if there are none.
    """
    past = events.lazy().filter(pl.col("occurred_at") < before_us)
    comes = pl.col("kind").is_in(list(kinds))
    days = (
        past.filter(comes)
        .group_by("customer_id", (pl.col("occurred_at") // DAY_US).alias("day"))
        .agg(pl.len().alias("comings"), pl.col("occurred_at").max().alias("last"))
        .sort("customer_id", "day")
        .collect()
    )
    if not days.height:
        raise TooLittle(
            f"no {' or '.join(kinds)} before the as-of date: name other kinds as coming back, or choose a later date"
        )
    ids = days.get_column("customer_id")
    customers = ids.unique(maintain_order=True)
    places = pl.DataFrame({"customer_id": customers, "row": np.arange(len(customers))}).lazy()

    def moments(which: pl.Expr, weight: pl.Expr) -> Moments:
        found = (
            past.filter(which)
            .select("customer_id", pl.col("occurred_at").alias("at"), weight.alias("weight"))
            .join(places, on="customer_id", how="inner")
            # By weight too, so that no sum depends on the order of events to the last bit.
            .sort("row", "at", "weight")
            .collect()
        )
        return Moments(*(found.get_column(name).to_numpy() for name in ("row", "at", "weight")))

    money = pl.col("kind").is_in(list(MONEY)) & (pl.col("amount") != 0.0)
    spent = pl.when(pl.col("kind") == "refund").then(-pl.col("amount").abs()).otherwise(pl.col("amount"))
    one = pl.lit(1.0)
    return ActiveDays(
        before_us,
        customers,
        ids.rle_id().cast(pl.Int64).to_numpy(),
        days.get_column("day").to_numpy(),
        days.get_column("comings").cast(pl.Int64).to_numpy(),
        days.get_column("last").to_numpy(),
        money=moments(money, spent),
        contacts=moments(~comes, one),
        cancellations=moments(pl.col("kind").is_in(list(CANCELLING)), one),
        commitments=moments(pl.col("kind").is_in(list(COMMITTING)), one),
    )


def usual_horizon(days: ActiveDays) -> int:
    """Days within which four of five comings are followed by the next: the 80th percentile of gaps, at least 7.

    Raises `TooLittle` if nobody came twice.
    """
    same = days.row[1:] == days.row[:-1]
    gaps = np.diff(days.day)[same]
    if not gaps.size:
        raise TooLittle("nobody came on two days, so there is no usual gap: set the horizon, or wait for repeats")
    return max(LEAST_HORIZON_DAYS, int(np.ceil(np.percentile(gaps, 80))))
