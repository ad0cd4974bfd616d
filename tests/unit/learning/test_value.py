"""Value: comings and worth against simulation, and at the edges."""

from __future__ import annotations

import numpy as np
import pytest

from services.learning import value
from services.learning.bgnbd import Histories, Rates
from services.learning.errors import TooLittle
from services.learning.value import Worth

RATES = Rates("mbg", r=0.8, alpha=20.0, a=0.9, b=2.5)


def test_worth_is_learnt_and_drawn_to_the_mean() -> None:
    random = np.random.default_rng(1)
    truth = Worth(p=4.0, q=3.0, gamma=30.0)
    nu = random.gamma(truth.q, 1 / truth.gamma, 3000)
    x = random.integers(1, 20, 3000).astype(np.float64)
    mean = random.gamma(truth.p * x, 1.0 / (nu * x))
    found = value.fit(x, mean)
    assert found.p * found.gamma / (found.q - 1) == pytest.approx(60.0, rel=0.1)
    once, often, none = value.worth(found, np.array([1.0, 50.0, 3.0]), np.array([200.0, 200.0, -5.0]))
    assert none < once < often < 200.0
    assert none == pytest.approx(60.0, rel=0.1)


def test_expected_comings_are_those_of_a_simulation() -> None:
    random = np.random.default_rng(2)
    # New customers: they just came first, so nothing but the population is known of them.
    horizon, n = 60.0, 20_000
    total = 0
    for _ in range(n):
        rate, leaving = random.gamma(RATES.r, 1 / RATES.alpha), random.beta(RATES.a, RATES.b)
        at = 0.0
        while random.random() >= leaving:
            at += random.exponential(1 / rate)
            if at > horizon:
                break
            total += 1
    new = Histories(np.zeros(1), np.zeros(1), np.zeros(1))
    # The closed form takes the chance of leaving as its mean: too high where customers differ as much as these.
    assert 1.0 <= value.expected_comings(RATES, new, horizon)[0] / (total / n) < 1.3


@pytest.mark.parametrize("variant", ["bg", "mbg"])
def test_extremes_stay_finite(variant: str) -> None:
    rates = Rates(variant, r=1e-3, alpha=1e5, a=1e-5, b=1e5)  # type: ignore[arg-type]
    histories = Histories(np.array([0.0, 1e5, 3.0]), np.array([0.0, 1e3, 1.0]), np.array([1e4, 1e3, 6e4]))
    comings = value.expected_comings(rates, histories, 365.0)
    assert (np.isfinite(comings) & (comings >= 0)).all()
    equal = value.fit(np.ones(50), np.full(50, 9.0))
    assert value.worth(equal, np.ones(1), np.full(1, 9.0))[0] == pytest.approx(9.0, rel=0.3)
    lost = value.at_risk(np.array([0.5, 0.5, 0.5]), rates, histories, np.full(3, 9.0), 30.0)
    assert (np.isfinite(lost) & (lost >= 0)).all()


def test_too_few_amounts_are_refused() -> None:
    with pytest.raises(TooLittle, match="at least 20"):
        value.fit(np.ones(100), np.zeros(100))
