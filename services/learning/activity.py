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

from services.learning.errors import BadHistory, TooLittle

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

DAY_US: Final = 86_400_000_000
RETURNING: Final = ("purchase", "renewal")
"""Kinds that count as coming back unless the deployment names others."""
KEPT_DAYS: Final = 32
"""The newest days with activity that a customer's state keeps; nothing here uses more."""
LEAST_HORIZON_DAYS: Final = 7
_LATEST_DAY: Final = 0xFFFF
"""Days beyond 2149 come from a broken clock; the state's days are 16 bits."""


def returning_kinds(events: pl.DataFrame, wanted: Sequence[str] | None = None) -> tuple[str, ...]:
    """The kinds that count as coming back: ``wanted``, or `RETURNING` where there are such events, or all kinds.

    Raises `BadHistory` if wanted kinds never happened.
    """
    found = set(events.get_column("kind").cast(pl.String).unique().to_list())
    if wanted:
        if not found & set(wanted):
            raise BadHistory(
                f"no event of kind {', '.join(wanted)} in this history; it has {', '.join(sorted(found)) or 'none'}"
            )
        return tuple(wanted)
    default = tuple(kind for kind in RETURNING if kind in found)
    return default or tuple(sorted(found))


@dataclass(frozen=True, slots=True)
class ActiveDays:
    """One row per customer and active day, sorted by customer and day.

    ``row``: place in ``customers``; ``day``: day since 1970; ``amount``: money of that day, in units of currency, all
    currencies added up as they come, refunds negative.
    """

    customers: pl.Series
    row: Ints
    day: Ints
    amount: Floats

    def __len__(self) -> int:
        return len(self.row)

    @property
    def first_day(self) -> int:
        return int(self.day.min())

    def before(self, day: int) -> ActiveDays:
        """What was known at the start of a day; customers not seen by then are left out."""
        mask = self.day < day
        rows = self.row[mask]
        known = np.unique(rows)
        return ActiveDays(self.customers.gather(known), np.searchsorted(known, rows), self.day[mask], self.amount[mask])


def active_days(events: pl.DataFrame, kinds: Sequence[str], before_us: int) -> ActiveDays:
    """Active days from events (customer_id, kind, occurred_at as integer UTC microseconds or Datetime, amount if there
    is one) that happened before ``before_us``.

    Times before 1970 or after 2149, empty ids, and amounts that are no number are left out: they carry no information.
    Raises `BadHistory` if a column is missing, `TooLittle` if nothing is left.
    """
    for name in ("customer_id", "occurred_at", "kind"):
        if name not in events.columns:
            raise BadHistory(f"events need a column {name}; there are {', '.join(events.columns)}")
    at = pl.col("occurred_at")
    if isinstance(events.schema["occurred_at"], pl.Datetime):
        at = at.dt.epoch("us")
    elif not events.schema["occurred_at"].is_integer():
        raise BadHistory("occurred_at must be UTC microseconds or a datetime; convert it before fitting")
    amount = pl.col("amount").cast(pl.Float64) if "amount" in events.columns else pl.lit(None, pl.Float64)
    days = (
        events.lazy()
        .filter(pl.col("kind").cast(pl.String).is_in(list(kinds)), pl.col("customer_id").cast(pl.String) != "")
        .select(
            pl.col("customer_id").cast(pl.String),
            at.cast(pl.Int64).alias("at"),
            pl.when(amount.is_finite()).then(amount).otherwise(0.0).alias("amount"),
        )
        .filter(pl.col("at") < before_us, pl.col("at") >= 0, pl.col("at") < _LATEST_DAY * DAY_US)
        .group_by("customer_id", (pl.col("at") // DAY_US).alias("day"))
        .agg(pl.col("amount").sum())
        .sort("customer_id", "day")
        .collect()
    )
    if not days.height:
        raise TooLittle(
            f"no {' or '.join(kinds)} before the as-of date: name other kinds as coming back, or choose a later date"
        )
    ids = days.get_column("customer_id")
    row = (ids.rle_id() if days.height else ids).cast(pl.Int64).to_numpy()
    return ActiveDays(
        ids.unique(maintain_order=True), row, days.get_column("day").to_numpy(), days.get_column("amount").to_numpy()
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
