"""Deployments whose truth is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

DAY_US = 86_400_000_000
START_DAY = 18_000


@pytest.fixture(scope="session")
def shop() -> Callable[..., pl.DataFrame]:
    """Events of customers who come at their own rates and leave for good with their own chances."""

    def make(customers: int = 800, days: int = 400, seed: int = 1) -> pl.DataFrame:
        random = np.random.default_rng(seed)
        who, when = [], []
        for customer in range(customers):
            rate, leaving = random.gamma(1.0, 1 / 25), random.beta(0.7, 4.0)
            at = float(random.uniform(0, days * 0.8))
            while at < days:
                who.append(f"c{customer:05}")
                when.append(at)
                if random.random() < leaving:
                    break
                at += float(random.exponential(1 / rate))
        return pl.DataFrame(
            {
                "customer_id": who,
                "kind": ["purchase"] * len(who),
                "occurred_at": ((np.array(when) + START_DAY) * DAY_US).astype(np.int64),
                "amount": random.gamma(2.0, 20.0, len(who)),
            }
        )

    return make
