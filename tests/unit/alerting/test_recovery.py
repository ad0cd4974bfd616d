"""Whether calling was worth it: differences that are known, and words that claim no more than was seen."""

from __future__ import annotations

from functools import partial

import numpy as np
import polars as pl
import pytest

from services.alerting.recovery import COLUMNS, LEAST_EACH, Kind, recovery

DRAWS = partial(np.random.default_rng, 0)
WEEK_US = 7 * 86_400_000_000


def rows(
    group: str, count: int, *, returned: float, seed: int, rule: str = "leaving", risk: float | None = None
) -> pl.DataFrame:
    random = np.random.default_rng(seed)
    came = (random.random(count) < returned).astype(float)
    return pl.DataFrame(
        {
            "rule": [rule] * count,
            "customer_id": [f"{group}-{n}" for n in range(count)],
            "group": [group] * count,
            "at": 100 * WEEK_US + random.integers(0, 2, count) * WEEK_US,
            "risk": random.random(count) if risk is None else np.full(count, risk),
            "value": random.gamma(2, 50, count),
            "segment": random.choice(["gold", ""], count),
            "score_change": random.normal(5 * returned, 3, count),
            "returned": came,
            "spend": came * random.gamma(2, 20, count),
        },
        schema=COLUMNS,
    )


def test_a_hold_out_gives_an_effect_with_its_interval() -> None:
    called, held = rows("called", 800, returned=0.5, seed=1), rows("held_out", 400, returned=0.3, seed=2)
    [found] = recovery(pl.concat((called, held)), DRAWS, samples=400)
    assert (found.kind, found.called, found.others, found.unmatched) == (Kind.EFFECT, 800, 400, 0)
    came = found.measures["returned"]
    assert came.difference == pytest.approx(called["returned"].mean() - held["returned"].mean())  # type: ignore[operator]
    assert 0 < came.low < 0.2 < came.high < 0.35
    # As wide as a normal approximation says, in round figures.
    spread = 1.96 * np.sqrt(0.25 / 800 + 0.21 / 400)
    assert (came.high - came.low) / 2 == pytest.approx(spread, rel=0.2)
    assert "effect" in found.said.lower()
    assert "no effect" not in found.said


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    covered = 0
    for seed in range(60):
        both = rows("called", 60, returned=0.5, seed=2 * seed), rows("held_out", 60, returned=0.5, seed=2 * seed + 1)
        [found] = recovery(pl.concat(both), DRAWS, samples=200)
        covered += found.measures["returned"].low <= 0 <= found.measures["returned"].high
    assert covered >= 51


def test_without_a_hold_out_it_is_an_association_among_those_alike() -> None:
    """High risks come back less and are called more: a plain comparison would say that calls drive customers away."""
    worse = (
        rows("called", 300, returned=0.3, seed=1, risk=0.9),
        rows("never_called", 300, returned=0.3, seed=2, risk=0.9),
    )
    better = (
        rows("called", 60, returned=0.9, seed=3, risk=0.2),
        rows("never_called", 900, returned=0.9, seed=4, risk=0.2),
    )
    named = [part.with_columns(pl.col("customer_id") + f"-{n}") for n, part in enumerate((*worse, *better))]
    [found] = recovery(pl.concat(named), DRAWS, samples=200)
    assert found.kind is Kind.ASSOCIATION
    came = found.measures["returned"]
    assert came.low < 0 < came.high
    assert abs(came.difference) < 0.1
    assert "no effect" in found.said
    assert "hold_out" in found.said


def test_whom_nobody_is_like_is_left_out_and_counted() -> None:
    called = rows("called", 100, returned=0.5, seed=1)
    strange = called.head(30).with_columns(pl.lit("platinum").alias("segment"), pl.col("customer_id") + "-p")
    [found] = recovery(
        pl.concat((called, strange, rows("never_called", 3_000, returned=0.5, seed=2))), DRAWS, samples=100
    )
    assert found.unmatched >= 30
    assert found.called + found.unmatched == 130


@pytest.mark.parametrize("other", ["held_out", "never_called"])
def test_too_few_say_nothing(other: str) -> None:
    few = rows("called", LEAST_EACH - 1, returned=0.5, seed=1), rows(other, 500, returned=0.5, seed=2)
    [found] = recovery(pl.concat(few), DRAWS)
    assert (found.kind, found.measures) == (Kind.NOTHING, {})
    assert f"{LEAST_EACH - 1} called" in found.said
    [alone] = recovery(few[0], DRAWS)
    assert alone.kind is Kind.NOTHING
    assert recovery(pl.DataFrame(schema=COLUMNS), DRAWS) == []


def test_nobody_alike_says_nothing() -> None:
    early = rows("never_called", 500, returned=0.5, seed=2).with_columns(pl.lit(0, pl.Int64).alias("at"))
    [found] = recovery(pl.concat((rows("called", 100, returned=0.5, seed=1), early)), DRAWS)
    assert (found.kind, found.called, found.unmatched) == (Kind.NOTHING, 0, 100)


def test_the_same_rows_in_any_order_give_the_same_answer() -> None:
    both = pl.concat((rows("called", 50, returned=0.5, seed=1), rows("held_out", 50, returned=0.3, seed=2)))
    other = both.with_columns(pl.lit("other").alias("rule"))
    first = recovery(pl.concat((both, other)), DRAWS, samples=50)
    assert [found.rule for found in first] == ["leaving", "other"]
    assert recovery(pl.concat((other, both)).sample(fraction=1, shuffle=True, seed=3), DRAWS, samples=50) == first


def test_rows_of_one_customer_are_drawn_together() -> None:
    """Ten alerts of one customer are one piece of evidence, and the interval shows it."""
    once = pl.concat((rows("called", 60, returned=0.5, seed=1), rows("held_out", 60, returned=0.5, seed=2)))
    ten = pl.concat([once.with_columns(pl.col("at") + n) for n in range(10)])
    [alone], [often] = recovery(once, DRAWS, samples=300), recovery(ten, DRAWS, samples=300)
    width = [found.measures["returned"].high - found.measures["returned"].low for found in (alone, often)]
    assert width[1] == pytest.approx(width[0], rel=0.25)
