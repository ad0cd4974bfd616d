"""Fitting end to end: it works on honest histories, and answers or refuses clearly on hostile ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import polars as pl
import pytest

from services.learning import fitting, judging
from services.learning.activity import active_days, read_events, returning_kinds, usual_horizon
from services.learning.errors import BadHistory, LearningError, ModelMismatch, TooLittle
from services.learning.measures import auc
from services.learning.model import LearntModel

DRAWS = partial(np.random.default_rng, 0)
DAY_US = 86_400_000_000
START = 18_000


def _events(rows: Sequence[tuple[str, float, str, float | None]]) -> pl.DataFrame:
    """(customer, day after the start, kind, amount)."""
    return pl.DataFrame(
        {
            "customer_id": [r[0] for r in rows],
            "occurred_at": [round((START + r[1]) * DAY_US) for r in rows],
            "kind": [r[2] for r in rows],
            "amount": [r[3] for r in rows],
        },
        schema={"customer_id": pl.String, "occurred_at": pl.Int64, "kind": pl.String, "amount": pl.Float64},
    )


def _at(day: float) -> int:
    return round((START + day) * DAY_US)


def _works(events: pl.DataFrame, day: float = 100.0, **settings: object) -> tuple[LearntModel, pl.DataFrame]:
    model = fitting.fit(events, _at(day), draws=DRAWS, version="t", **{"horizon_days": 20, **settings})  # type: ignore[arg-type]
    risk = judging.risks(model, events, _at(day))
    chance = risk.get_column("risk").to_numpy()
    assert ((chance > 0.0) & (chance < 1.0)).all()
    return model, risk


def _same(a: object, b: object) -> bool:
    """Equal, numbers but for rounding: linear algebra may differ in the last bit between runs."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, tuple | list) and isinstance(b, tuple | list):
        return len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b, strict=True))
    return a == pytest.approx(b, rel=1e-6, abs=1e-9) if isinstance(a, float) else a == b


def test_a_fit_ranks_and_is_calibrated_on_what_comes_next(shop: Callable[..., pl.DataFrame]) -> None:
    events = shop(customers=1500)
    model, risk = _works(events, 340.0, horizon_days=45)
    assert model.judged.by == "time"
    came = events.filter(pl.col("occurred_at") >= _at(340), pl.col("occurred_at") < _at(385))
    back = came.get_column("customer_id").unique().to_list()
    left = (~risk.get_column("customer_id").is_in(back)).cast(pl.Float64).to_numpy()
    chance = risk.get_column("risk").to_numpy()
    assert auc(left, chance) > 0.8
    assert abs(left.mean() - chance.mean()) < 0.04


def test_a_model_survives_its_json(shop: Callable[..., pl.DataFrame]) -> None:
    events = shop(customers=300)
    model, risk = _works(events, 340.0)
    again = LearntModel.model_validate_json(model.model_dump_json())
    assert again == model
    assert judging.risks(again, events, _at(340)).equals(risk)


def test_a_damaged_model_is_refused(shop: Callable[..., pl.DataFrame]) -> None:
    model, _ = _works(shop(customers=100), 340.0)
    for change in (
        {"formulas": 0},
        {"features": ("silence",)},
        {"no_activity_log_odds": float("nan")},
        {"weights": model.weights.model_copy(update={"means": (0.0,)}).model_dump()},
    ):
        with pytest.raises((ModelMismatch, ValueError), match="fit again"):
            LearntModel.model_validate({**model.model_dump(), **change})


def test_planted_experience_is_found_and_noise_is_not(shop: Callable[..., pl.DataFrame]) -> None:
    random = np.random.default_rng(5)
    events = shop(customers=1500).sort("customer_id", "occurred_at")
    # Whoever leaves for good was let down at the last visit, mostly; some others were, too.
    last = pl.col("occurred_at") == pl.col("occurred_at").max().over("customer_id")
    events = events.with_columns(chance=pl.Series(random.random(events.height))).with_columns(
        felt=pl.when(last & (pl.col("chance") < 0.7) | (pl.col("chance") < 0.05)).then(20.0).otherwise(70.0)
    )

    def felt(given: pl.DataFrame, as_of_us: int) -> pl.DataFrame:
        past = given.filter(pl.col("occurred_at") < as_of_us).sort("occurred_at")
        return past.group_by("customer_id").agg(score=pl.col("felt").last())

    def noise(given: pl.DataFrame, as_of_us: int) -> pl.DataFrame:
        return given.select("customer_id").unique().with_columns(score=pl.col("customer_id").hash(3) % 100)

    found = fitting.fit(events, _at(390), draws=DRAWS, version="t", horizon_days=45, experience=felt)
    assert found.judged.kept[-1] == "experience"
    assert found.judged.verdicts[-1].gain.low > 0.0
    silent = fitting.fit(events, _at(390), draws=DRAWS, version="t", horizon_days=45, experience=noise)
    assert [v.layer for v in silent.judged.verdicts] == ["rhythm", "experience"]
    assert "experience" not in silent.judged.kept


def test_one_customer() -> None:
    model, risk = _works(_events([("a", 3, "purchase", 5.0)]))
    assert risk.height == 1
    assert any("too little history" in note for note in model.notes)
    _works(_events([("a", day, "purchase", 5.0) for day in range(0, 90, 7)]))


def test_everybody_on_the_same_day() -> None:
    _works(_events([(f"c{i}", 50.0, "purchase", 1.0) for i in range(200)]))
    _works(_events([(f"c{i}", 50.0, "purchase", 1.0) for i in range(200)]), 50.4)


@pytest.mark.parametrize("stays", [True, False])
def test_one_class_only(stays: bool) -> None:
    days = range(0, 100, 5) if stays else range(1)
    model, _ = _works(_events([(f"c{i}", day + i % 3, "purchase", 1.0) for i in range(150) for day in days]))
    assert model.judged.kept == ()
    assert model.notes


def test_no_purchases_at_all_falls_back_to_any_activity() -> None:
    events = _events([(f"c{i}", day, "interaction", None) for i in range(30) for day in (1, 20 + i)])
    model, _ = _works(events)
    assert model.kinds == ("interaction",)


def test_customers_who_never_came_get_the_rate_of_their_kind() -> None:
    rows: list[tuple[str, float, str, float | None]] = [(f"b{i}", 10, "purchase", 1.0) for i in range(100)]
    rows += [(f"n{i}", 20, "interaction", None) for i in range(100)]
    rows += [(f"n{i}", 75, "purchase", 1.0) for i in range(25)]
    model, risk = _works(_events(rows))
    never = risk.filter(pl.col("customer_id") == "n99").get_column("risk")[0]
    assert never == pytest.approx(1 / (1 + np.exp(-model.no_activity_log_odds)))
    assert risk.height == 200


def test_broken_events_change_nothing() -> None:
    honest = [(f"c{i}", float(day), "purchase", 10.0) for i in range(60) for day in range(i % 9, 95, 7 + i % 11)]
    broken = _events(
        [*honest, ("c1", -30_000, "purchase", 1.0), ("", 5, "purchase", 1.0), ("c2", 90_000, "purchase", 1.0)]
    )
    assert _same(_works(_events(honest))[0].model_dump(), _works(broken)[0].model_dump())


def test_strange_amounts_stay_finite() -> None:
    amounts = (-50.0, float("nan"), float("inf"), 1e308, None, 0.0)
    rows = [
        (f"c{i}", float(day), "purchase", amounts[(i + day) % 6]) for i in range(60) for day in range(0, 95, 5 + i % 20)
    ]
    _works(_events(rows))


def test_a_customer_of_100_000_events() -> None:
    rows = [("heavy", day, "purchase", 1.0) for day in np.linspace(0, 99, 100_000)]
    rows += [(f"c{i}", float(day), "purchase", 1.0) for i in range(120) for day in range(i % 30, 99, 9 + i % 30)]
    _, risk = _works(_events(rows))
    assert risk.filter(pl.col("customer_id") == "heavy").get_column("risk")[0] < 0.5


def test_integer_ids_datetimes_and_missing_amounts_are_read() -> None:
    events = _events([(str(i), float(day), "purchase", None) for i in range(40) for day in (1, 30 + i)])
    plain, _ = _works(events)
    other = events.drop("amount").with_columns(
        pl.col("customer_id").cast(pl.Int64), pl.from_epoch("occurred_at", time_unit="us").dt.replace_time_zone("UTC")
    )
    assert _same(_works(other)[0].model_dump(), plain.model_dump())


def test_refusals_name_the_remedy() -> None:
    events = _events([("a", 1, "purchase", 1.0)])
    with pytest.raises(TooLittle, match="choose a later"):
        fitting.fit(events, _at(0), draws=DRAWS, version="t", horizon_days=10)
    with pytest.raises(BadHistory, match="it has purchase"):
        fitting.fit(events, _at(10), draws=DRAWS, version="t", horizon_days=10, kinds=("renewal",))
    with pytest.raises(BadHistory, match="at least 1 day"):
        fitting.fit(events, _at(10), draws=DRAWS, version="t", horizon_days=0)
    with pytest.raises(TooLittle, match="set the horizon"):
        fitting.fit(events, _at(10), draws=DRAWS, version="t")
    with pytest.raises(BadHistory, match="need a column kind"):
        fitting.fit(events.drop("kind"), _at(10), draws=DRAWS, version="t")
    with pytest.raises(BadHistory, match="convert it"):
        fitting.fit(events.with_columns(pl.lit("today").alias("occurred_at")), _at(10), draws=DRAWS, version="t")
    assert issubclass(TooLittle, LearningError)


def test_days_horizon_and_kinds() -> None:
    events = read_events(
        _events(
            [
                ("a", 1.1, "purchase", 5.0),
                ("a", 1.9, "purchase", -2.0),
                ("a", 11, "renewal", 1.0),
                ("b", 3, "refund", -1.0),
            ]
        )
    )
    kinds = returning_kinds(events)
    assert kinds == ("purchase", "renewal")
    days = active_days(events, kinds, _at(50))
    assert days.day.tolist() == [START + 1, START + 11]
    assert days.comings.tolist() == [2, 1]
    assert days.money.weight.tolist() == [5.0, -2.0, 1.0], "the refund is of somebody who never came"
    assert usual_horizon(days) == 10
    daily = active_days(read_events(_events([("a", d, "purchase", 1.0) for d in range(20)])), kinds, _at(50))
    assert usual_horizon(daily) == 7
