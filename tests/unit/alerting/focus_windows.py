"""Windows of felt experience, made of readings one by one."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import polars as pl

from services.alerting.focus import DAY_US, FIRST_MONDAY_US
from services.alerting.focus_measure import WINDOWS

Reading = tuple[int, str, str, float, float]
"""Number of the day since the first Monday, part, customer, weight, valence."""


def end_of(day: int) -> int:
    """UTC microseconds at which a day ends."""
    return FIRST_MONDAY_US + (day + 1) * DAY_US


def windows_of(readings: Iterable[Reading]) -> pl.DataFrame:
    """`WINDOWS` of one day each."""
    told = pl.DataFrame(readings, schema=["day", "part", "customer", "weight", "valence"], orient="row")
    w, s, q = pl.col("w"), pl.col("s"), pl.col("q")
    weight, valence = pl.col("weight"), pl.col("valence")
    return (
        told.group_by("day", "part", "customer")
        .agg(pl.len(), w=weight.sum(), s=(weight * valence).sum(), q=(weight * valence**2).sum())
        .group_by("day", "part")
        .agg(
            customers=pl.len().cast(pl.Int64),
            readings=pl.col("len").sum().cast(pl.Int64),
            **{x: pl.col(x).sum() for x in "wsq"},
            ww=(w * w).sum(),
            ss=(s * s).sum(),
            qq=(q * q).sum(),
            ws=(w * s).sum(),
            wq=(w * q).sum(),
            sq=(s * q).sum(),
        )
        .with_columns(start_us=FIRST_MONDAY_US + pl.col("day").cast(pl.Int64) * DAY_US)
        .select(*WINDOWS)
        .sort("part", "start_us")
    )


def life(
    seed: int,
    days: int,
    parts: tuple[str, ...] = ("checkout", "delivery"),
    *,
    customers: int = 100,
    mean: float = 0.3,
    noise: float = 0.4,
    between: float = 0.03,
) -> list[Reading]:
    """Days on which nothing changes: customers differ, and so do days, by ``between``."""
    random = np.random.default_rng(seed)
    return [
        (day, part, f"c{customer}", 1.0, float(valence))
        for part in parts
        for day in range(days)
        for customer, valence in enumerate(
            np.clip(mean + random.normal(0, between) + random.normal(0, noise, customers), -1, 1)
        )
    ]


def moved(readings: Iterable[Reading], part: str, days: range, by: float = 0.0, spread: float = 1.0) -> list[Reading]:
    """The same, a part felt otherwise on some days: shifted by ``by``, its spread around 0.3 times ``spread``."""
    return [
        (day, name, customer, weight, 0.3 + (valence - 0.3) * spread + by if name == part and day in days else valence)
        for day, name, customer, weight, valence in readings
    ]
