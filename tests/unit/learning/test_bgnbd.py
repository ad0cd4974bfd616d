"""The base model: against its definition, against simulation, and at the edges of the numbers."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from scipy.optimize import check_grad
from scipy.special import expit

from services.learning import bgnbd
from services.learning.bgnbd import Histories, Rates, Variant
from services.learning.errors import TooLittle

VARIANTS: tuple[Variant, ...] = get_args(Variant)
RATES = {variant: Rates(variant, r=0.8, alpha=20.0, a=0.9, b=2.5) for variant in VARIANTS}


def _simulate(rates: Rates, customers: int, days: float, seed: int) -> tuple[Histories, np.ndarray, np.ndarray]:
    """Histories up to ``days``, and the days of the first coming after it (inf: none)."""
    random = np.random.default_rng(seed)
    x, tx, after = np.zeros(customers), np.zeros(customers), np.full(customers, np.inf)
    for i in range(customers):
        rate, leaving = random.gamma(rates.r, 1 / rates.alpha), random.beta(rates.a, rates.b)
        at, alive = 0.0, rates.variant == "bg" or random.random() >= leaving
        while alive:
            at += random.exponential(1 / rate)
            if at > days:
                after[i] = at
                break
            x[i], tx[i] = x[i] + 1, at
            alive = random.random() >= leaving
    return Histories(x, tx, np.full(customers, days)), after, x


@pytest.mark.parametrize("variant", VARIANTS)
def test_likelihood_is_the_published_one(variant: Variant) -> None:
    rates = RATES[variant]
    random = np.random.default_rng(3)
    rate = random.gamma(rates.r, 1 / rates.alpha, 400_000)
    leaving = random.beta(rates.a, rates.b, 400_000)
    k = 1.0 if variant == "mbg" else 0.0
    for x, tx, age in ((0, 0.0, 30.0), (2, 25.0, 60.0), (5, 80.0, 81.0)):
        # Given rate and chance of leaving: comings are Poisson, each was followed by staying, the last perhaps not.
        stayed = (1 - leaving) ** (x + k) * rate**x * np.exp(-rate * age)
        left = leaving * (1 - leaving) ** (x - 1 + k) * rate**x * np.exp(-rate * tx) if x > 0 or k else 0.0
        expected = float(np.mean(stayed + left))
        found = bgnbd.log_likelihood(rates, Histories(np.array([float(x)]), np.array([tx]), np.array([age])))
        assert np.exp(found[0]) == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradient_is_that_of_the_objective(variant: Variant) -> None:
    random = np.random.default_rng(4)
    x = random.integers(0, 40, 50).astype(np.float64)
    age = random.uniform(10, 300, 50)
    tx = np.where(x > 0, age * random.uniform(0, 1, 50), 0.0)
    xs, at = np.unique(x, return_inverse=True)
    start = np.log([0.7, 30.0, 0.7, 2.0])
    args = (start, variant, xs, at, np.column_stack([tx, age]), np.ones(50))
    for point in (start, start + 0.5, start - [1, 1, 0.3, 0.8]):
        error = check_grad(lambda p: bgnbd._objective(p, *args)[0], lambda p: bgnbd._objective(p, *args)[1], point)
        assert error < 1e-4


@pytest.mark.parametrize("variant", VARIANTS)
def test_fit_finds_a_likelihood_no_worse_than_the_truth(variant: Variant) -> None:
    histories, _, _ = _simulate(RATES[variant], 3000, 200.0, seed=5)
    found = bgnbd.fit(histories, variant)
    mine = bgnbd.log_likelihood(found, histories).sum()
    assert mine >= bgnbd.log_likelihood(RATES[variant], histories).sum() - 0.5
    assert found.r / found.alpha == pytest.approx(0.8 / 20.0, rel=0.25)


@pytest.mark.parametrize("variant", VARIANTS)
def test_chance_of_none_is_what_happens(variant: Variant) -> None:
    histories, after, x = _simulate(RATES[variant], 12_000, 150.0, seed=6)
    chance = expit(bgnbd.log_odds_none(RATES[variant], histories, 60.0))
    none = after > 150.0 + 60.0
    for group in (x == 0, (x >= 1) & (x <= 3), x > 3):
        assert none[group].mean() == pytest.approx(chance[group].mean(), abs=0.025)


@pytest.mark.parametrize("variant", VARIANTS)
def test_extremes_stay_finite(variant: Variant) -> None:
    x = np.array([0.0, 1.0, 31.0, 100_000.0, 100_000.0, 0.0])
    tx = np.array([0.0, 0.0, 31.0, 1000.0, 1.0, 0.0])
    age = np.array([0.5, 1.0, 5000.0, 1000.0, 30_000.0, 60_000.0])
    histories = Histories(x, tx, age)
    rates = bgnbd.fit(histories, variant)
    assert np.isfinite(bgnbd.log_likelihood(rates, histories)).all()
    assert np.isfinite(bgnbd.log_odds_none(rates, histories, 30.0)).all()
    assert np.isfinite(bgnbd.log_odds_none(RATES[variant], histories, 30.0)).all()


def test_one_customer_is_enough_and_nobody_is_not() -> None:
    one = Histories(np.array([0.0]), np.array([0.0]), np.array([1.0]))
    assert 0.0 < expit(bgnbd.log_odds_none(bgnbd.fit(one, "mbg"), one, 30.0))[0] < 1.0
    with pytest.raises(TooLittle, match="more history"):
        bgnbd.fit(Histories(np.empty(0), np.empty(0), np.empty(0)), "mbg")


def test_longer_silence_and_shorter_horizon_make_none_likelier() -> None:
    silent = Histories(np.full(4, 5.0), np.full(4, 50.0), np.array([50.0, 60.0, 90.0, 200.0]))
    odds = bgnbd.log_odds_none(RATES["mbg"], silent, 30.0)
    assert (np.diff(odds) > 0).all()
    assert (bgnbd.log_odds_none(RATES["mbg"], silent, 10.0) > odds).all()
