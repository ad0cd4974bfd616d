"""What looks into the future is caught, and what does not passes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import polars as pl
import pytest

from services.learning import features, fitting
from services.learning.errors import BadHistory
from services.learning.leaks import FutureLeak, refuse_leaks
from services.learning.model import FEATURES

DRAWS = partial(np.random.default_rng, 0)
DAY_US = 86_400_000_000
AS_OF_DAY = 18_300


def _same(a: object, b: object) -> bool:
    """Equal, numbers but for rounding: linear algebra may differ in the last bit between runs."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, tuple | list) and isinstance(b, tuple | list):
        return len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b, strict=True))
    return a == pytest.approx(b, rel=1e-6, abs=1e-9) if isinstance(a, float) else a == b


def _honest(events: pl.DataFrame, as_of_us: int) -> pl.DataFrame:
    past = events.filter(pl.col("occurred_at") < as_of_us)
    return past.group_by("customer_id").agg(score=pl.col("amount").mean(), survey_load=pl.len().cast(pl.Float64))


def _leaking(events: pl.DataFrame, as_of_us: int) -> pl.DataFrame:
    return _honest(events, as_of_us).join(
        events.group_by("customer_id").agg(worst=pl.col("occurred_at").max().cast(pl.Float64) / DAY_US - AS_OF_DAY),
        on="customer_id",
    )


def test_honest_features_pass(shop: Callable[..., pl.DataFrame]) -> None:
    refuse_leaks(_honest, shop(), AS_OF_DAY * DAY_US)


def test_a_planted_leak_is_caught_by_name(shop: Callable[..., pl.DataFrame]) -> None:
    with pytest.raises(FutureLeak, match="feature worst looks into the future"):
        refuse_leaks(_leaking, shop(), AS_OF_DAY * DAY_US)


def test_fitting_refuses_experience_that_leaks(shop: Callable[..., pl.DataFrame]) -> None:
    with pytest.raises(FutureLeak, match="worst"):
        fitting.fit(shop(), (18_000 + 380) * DAY_US, draws=DRAWS, version="t", horizon_days=60, experience=_leaking)


def test_a_leak_of_presence_is_caught(shop: Callable[..., pl.DataFrame]) -> None:
    def present_only_if_back(events: pl.DataFrame, as_of_us: int) -> pl.DataFrame:
        back = events.filter(pl.col("occurred_at") >= as_of_us).get_column("customer_id").unique()
        return _honest(events, as_of_us).filter(~pl.col("customer_id").is_in(back.to_list()))

    with pytest.raises(FutureLeak):
        refuse_leaks(present_only_if_back, shop(), AS_OF_DAY * DAY_US)


def test_our_own_features_and_base_history_do_not_leak(shop: Callable[..., pl.DataFrame]) -> None:
    def own(events: pl.DataFrame, as_of_us: int) -> pl.DataFrame:
        history = fitting.History(events, 2**60, ("purchase",), None)
        known = features.known_at(history.days, as_of_us / DAY_US)
        past = known.histories()
        base = past.x - past.age_days / 100
        matrix = history.matrix(known, base, 30)
        return pl.DataFrame(
            {
                "customer_id": history.days.customers.gather(known.row),
                "x": past.x,
                "t_x": past.tx_days,
                "T": past.age_days,
                **dict(zip(FEATURES, matrix.T, strict=True)),
            }
        )

    events = shop().with_columns(
        kind=pl.when(pl.int_range(pl.len()) % 3 == 0).then(pl.lit("interaction")).otherwise(pl.col("kind"))
    )
    refuse_leaks(own, events, AS_OF_DAY * DAY_US)
    with pytest.raises(BadHistory, match="midnights"):
        own(events, AS_OF_DAY * DAY_US + DAY_US // 3)


def test_snapshots_end_before_the_as_of_date() -> None:
    for horizon in (7, 30, 90, 365):
        for age in (10, 100, 1000):
            days = fitting.snapshot_days(18_000, 18_000 + age, horizon)
            assert all(day + horizon <= 18_000 + age for day in days)
            assert all(day > 18_000 for day in days)
            assert days == sorted(days, reverse=True)


def test_events_from_the_as_of_date_on_change_nothing(shop: Callable[..., pl.DataFrame]) -> None:
    events = shop()
    as_of_us = (18_000 + 330) * DAY_US
    past = events.filter(pl.col("occurred_at") < as_of_us)
    assert past.height < events.height
    shuffled = events.sample(fraction=1.0, shuffle=True, seed=3)
    whole, *others = (
        fitting.fit(given, as_of_us, draws=DRAWS, version="t", horizon_days=45).model_dump()
        for given in (events, past, shuffled)
    )
    assert all(_same(whole, other) for other in others)
