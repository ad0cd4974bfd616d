"""Features from the future, caught by trying: the same features with and without what happened later.

A feature as of a date must be the same number whether or not later events are in the history. So it is worked out
twice, and any customer for whom a column differs shows the leak.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import polars as pl

from services.learning.errors import LearningError

MOST_CUSTOMERS: Final = 2_000
"""Customers tried, evenly spaced: a leak that touches fewer than one in a thousand may pass."""
_CLOSE: Final = 1e-9


class FutureLeak(LearningError):  # noqa: N818 - says what happened, as its siblings
    """A feature as of a date changed with events after that date; the message names it."""


def refuse_leaks(build: Callable[[pl.DataFrame, int], pl.DataFrame], events: pl.DataFrame, as_of_us: int) -> None:
    """Raise `FutureLeak` if ``build(events, as_of_us)`` depends on events from ``as_of_us`` on.

    ``events``: customer_id, occurred_at (UTC microseconds) and whatever ``build`` reads, with events on both sides of
    the date. ``build`` returns one row per customer_id.
    """
    customers = events.get_column("customer_id").unique().sort()
    every = max(1, len(customers) // MOST_CUSTOMERS)
    tried = events.filter(pl.col("customer_id").is_in(customers.gather_every(every).to_list()))
    past = tried.filter(pl.col("occurred_at") < as_of_us)
    honest, found = build(past, as_of_us), build(tried, as_of_us)
    pairs = honest.join(found, on="customer_id", how="full", suffix="_with_future", coalesce=True)
    for name in honest.columns:
        if name == "customer_id":
            continue
        a, b = pl.col(name), pl.col(f"{name}_with_future")
        differs = a.ne_missing(b)
        if honest.schema[name].is_numeric():
            differs = differs & ~((a - b).abs() <= _CLOSE * (1.0 + a.abs())).fill_null(value=False)
        # Customers who are not known yet have no honest row; values for them alone could not be told from a leak.
        leaking = pairs.filter(pl.col("customer_id").is_in(past.get_column("customer_id").to_list())).filter(differs)
        if leaking.height:
            raise FutureLeak(
                f"feature {name} looks into the future: with later events it differs for {leaking.height} of "
                f"{honest.height} customers, first for {leaking.get_column('customer_id')[0]}; "
                "work it out from events before the as-of date only"
            )
