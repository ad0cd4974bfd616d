"""Levels of risk bands for a learnt model: of who was active lately, the riskiest tenth is high, a quarter not low.

A calibrated risk means something else in every trade: one in six customers of a grocer does not come in a month, four
in five of a record shop not in a quarter. Fixed levels would call nobody or everybody endangered. Pure.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import polars as pl

from services.learning.activity import DAY_US
from services.learning.model import LearntModel
from services.scoring.risk.model import DEFAULT, Bands

SHARES: Final = {"high_enter": 0.10, "high_leave": 0.16, "elevated_enter": 0.25, "elevated_leave": 0.33}
"""Customers with a risk above each level on the day of the fit. Leaving a band takes a lower level than entering it."""
LEAST_CUSTOMERS: Final = 50
LEAST_SPREAD: Final = 0.01
"""Levels nearer to each other than this divide nobody."""


def levels(model: LearntModel, events: pl.DataFrame, risks: pl.DataFrame, as_of_us: int) -> Bands:
    """Levels by `SHARES` of the risks (customer_id, risk) of those who came within the model's look-back.

    The documented ones where they are too few or too much alike."""
    since_us = as_of_us - model.lookback_days * DAY_US
    came = events.filter(
        pl.col("kind").cast(pl.String).is_in(list(model.kinds)),
        pl.col("occurred_at") >= since_us,
        pl.col("occurred_at") < as_of_us,
    ).select(pl.col("customer_id").cast(pl.String).unique())
    active = risks.join(came, on="customer_id", how="semi").get_column("risk").to_numpy()
    if len(active) < LEAST_CUSTOMERS:
        return DEFAULT.bands
    found = {name: float(np.clip(np.quantile(active, 1.0 - share), 0.01, 0.99)) for name, share in SHARES.items()}
    if found["high_enter"] - found["elevated_leave"] < LEAST_SPREAD:
        return DEFAULT.bands
    return Bands(**found, dwell_hours=DEFAULT.bands.dwell_hours)
