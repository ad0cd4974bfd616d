"""Layers earn their place: planted evidence stays, noise goes, and the base is there when nothing can be learnt."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from scipy.special import expit

from services.learning import ridge
from services.learning.evidence import Layer, Snapshot, judge, learn, nothing, windows
from services.learning.measures import auc, bootstrap, ece, quality

DRAWS = partial(np.random.default_rng, 0)
LAYERS = (Layer("useful", (0,)), Layer("noise", (1, 2)))


def _snapshots(customers: int, days: tuple[int, ...], effect: float, seed: int = 1) -> list[Snapshot]:
    random = np.random.default_rng(seed)
    base = random.normal(0.5, 1.0, customers)
    found = []
    for day in days:
        features = random.normal(size=(customers, 3))
        left = (random.random(customers) < expit(base + effect * features[:, 0])).astype(np.float64)
        found.append(Snapshot(day, np.arange(customers), base, features, left))
    return found


def test_planted_evidence_stays_and_noise_goes() -> None:
    judged = judge(_snapshots(1500, (400, 370, 340, 310), effect=0.8), LAYERS, 30, draws=DRAWS)
    assert judged.by == "time"
    assert judged.kept == ("useful",)
    useful, noise = judged.verdicts
    assert useful.kept
    assert useful.gain.low > 0.0
    assert useful.measured.auc > useful.below.auc
    assert not noise.kept
    assert noise.gain.low <= 0.0


def test_without_effect_the_base_is_left_alone() -> None:
    judged = judge(_snapshots(1500, (400, 370, 340, 310), effect=0.0, seed=2), LAYERS, 30, draws=DRAWS)
    assert judged.kept == ()


def test_short_history_is_judged_on_other_customers_and_says_so() -> None:
    judged = judge(_snapshots(1500, (400, 390), effect=0.8), LAYERS, 30, draws=DRAWS)
    assert judged.by == "customers"
    assert judged.kept == ("useful",)


def test_too_few_rows_are_not_judged() -> None:
    judged = judge(_snapshots(20, (400,), effect=0.8), LAYERS, 30, draws=DRAWS)
    assert judged.by == "nothing"
    assert judged.kept == ()


def test_learnt_coefficients_are_the_planted_ones() -> None:
    snapshots = _snapshots(4000, (400, 370, 340), effect=0.8)
    weights = learn(snapshots, (0, 1, 2), 10.0, 30)
    slopes = np.array(weights.coefficients) / np.array(weights.scales)
    assert slopes == pytest.approx([0.8, 0.0, 0.0], abs=0.06)
    features = snapshots[0].features
    features[0, :] = 1e9
    assert np.isfinite(weights.log_odds(snapshots[0].base, features)).all()


def test_a_shift_of_one_period_is_half_believed() -> None:
    snapshots = _snapshots(4000, (400,), effect=0.0)
    shifted = [Snapshot(s.day, s.customer, s.base - 0.6, s.features, s.left) for s in snapshots]
    assert windows([400], 30) == 1.0
    assert windows([400, 370, 340], 30) == 3.0
    assert learn(shifted, (), 10.0, 30).intercept == pytest.approx(0.3, abs=0.08)


def test_a_feature_that_never_varies_gets_no_weight() -> None:
    snapshots = _snapshots(500, (400, 370), effect=0.5)
    for s in snapshots:
        s.features[:, 1] = 7.0
    assert learn(snapshots, (0, 1, 2), 10.0, 30).coefficients[1] == 0.0


def test_nothing_is_the_base() -> None:
    base = np.array([-3.0, 0.0, 2.0])
    assert nothing(3, 0.4).log_odds(base, np.ones((3, 3))) == pytest.approx(base)


def test_ridge_holds_back_to_the_offset() -> None:
    random = np.random.default_rng(7)
    x = random.normal(size=(500, 2))
    label = (random.random(500) < expit(x[:, 0])).astype(np.float64)
    free = ridge.fit(x, label, np.zeros(500), np.full(2, 1e-6))
    held = ridge.fit(x, label, np.zeros(500), np.full(2, 1e9))
    assert free[0] == pytest.approx(1.0, abs=0.3)
    assert held == pytest.approx([0.0, 0.0], abs=1e-5)


def test_a_separable_feature_stays_finite() -> None:
    x = np.linspace(-1, 1, 200)[:, None]
    found = ridge.fit(x, (x[:, 0] > 0).astype(np.float64), np.zeros(200), np.array([1.0]))
    assert np.isfinite(found).all()


def test_auc_and_ece_are_their_definitions() -> None:
    random = np.random.default_rng(8)
    label = random.integers(0, 2, 60).astype(np.float64)
    chance = random.integers(0, 8, 60) / 8
    pairs = [(a > b) + 0.5 * (a == b) for a in chance[label > 0] for b in chance[label == 0]]
    assert auc(label, chance) == pytest.approx(float(np.mean(pairs)))
    assert auc(np.ones(5), np.arange(5.0)) == 0.5
    assert ece(np.ones(40), np.full(40, 0.75)) == pytest.approx(0.25)
    assert quality(np.zeros(4), np.full(4, -50.0)).brier < 1e-6


def test_bootstrap_draws_customers_not_rows() -> None:
    gain = np.random.default_rng(9).normal(0.0, 1.0, 200)
    once = bootstrap(gain, np.arange(200), draws=DRAWS)
    repeated = bootstrap(np.repeat(gain, 5), np.repeat(np.arange(200), 5), draws=DRAWS)
    assert repeated.high - repeated.low == pytest.approx(once.high - once.low, rel=1e-9)
