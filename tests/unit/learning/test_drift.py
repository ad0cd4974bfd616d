"""Drift: planted drift is seen, chance and usual periods are not taken for it, and thin data give no verdict."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from scipy.special import expit, logit
from scipy.stats import binomtest

from services.learning.drift import USUAL_SPREAD, Drift, Period, drift, period_spread
from services.learning.errors import BadHistory, TooLittle
from services.learning.reliability import reliability, wilson

DAY_US = 86_400_000_000
JUDGED_US = 18_000 * DAY_US
AS_OF_US = 18_030 * DAY_US

Floats = npt.NDArray[np.float64]


def _drift(chance: Floats, left: npt.NDArray[np.bool_], spread: float | None = 0.1, **changes: int) -> Drift:
    risks = pl.DataFrame({"customer_id": [f"c{i}" for i in range(len(chance))], "risk": chance})
    came = pl.Series([f"c{i}" for i in np.flatnonzero(~left)] + ["somebody else", None], dtype=pl.String)
    when = {"judged_at_us": JUDGED_US, "horizon_days": 30, "as_of_us": AS_OF_US, **changes}
    return drift(risks, came, version="m-1", spread=spread, **when)


def _draw(seed: int, n: int, shift: float = 0.0) -> tuple[Floats, npt.NDArray[np.bool_]]:
    random = np.random.default_rng(seed)
    chance = random.beta(2.0, 3.0, n)
    return chance, random.random(n) < expit(logit(chance) + shift)


def test_planted_drift_is_seen_with_its_side_and_remedy() -> None:
    up, down = _drift(*_draw(1, 5000, 0.6)), _drift(*_draw(1, 5000, -0.6))
    assert up.drifted
    assert down.drifted
    assert up.ratio > 1.0 > down.ratio
    assert "its risks are too low. Fit again (touchstone fit)" in up.sentence
    assert "its risks are too high" in down.sentence
    assert f"{up.observed:,} did not come back" in up.sentence
    assert "2019-04-14" in up.sentence
    assert up.observed > up.allowed[1]


def test_no_drift_is_not_seen() -> None:
    found = [_drift(*_draw(seed, 2000), spread=0.0).drifted for seed in range(60)]
    assert sum(found) <= 4  # 1 in 100 expected; 5 or more of 60 would happen in 1 of 2000 such tests
    quiet = _drift(*_draw(1, 2000))
    assert quiet.verdict == "holds"
    assert quiet.sentence.endswith("would be no surprise: the model holds.")
    assert quiet.quality.auc > 0.7
    assert quiet.quality.ece < 0.05


def test_what_periods_usually_do_is_no_drift() -> None:
    """A shift of .15 is certain among 50,000 customers; where periods differ by so much, it says nothing new."""
    chance, left = _draw(2, 50_000, 0.15)
    assert _drift(chance, left, spread=0.0).drifted
    assert not _drift(chance, left, spread=0.15).drifted
    assert _drift(chance, left, spread=None).spread == USUAL_SPREAD


def test_few_customers_get_no_verdict() -> None:
    few = _drift(np.full(12, 0.5), np.ones(12, dtype=np.bool_))
    assert few.verdict == "too_few"
    assert not few.drifted
    assert "wait for more customers" in few.sentence
    assert len(few.bins) == 10
    one = _drift(np.array([0.3]), np.array([False]))
    assert one.verdict == "too_few"
    assert [b.n for b in one.bins] == [1]


@pytest.mark.parametrize("all_left", [True, False])
def test_one_class_is_judged(all_left: bool) -> None:
    found = _drift(np.full(400, 0.3), np.full(400, all_left))
    assert found.drifted
    assert found.quality.auc == 0.5
    assert np.isfinite(found.ratio)
    calm = _drift(np.full(400, 0.999 if all_left else 0.001), np.full(400, all_left))
    assert calm.verdict == "too_few"


def test_the_window_must_have_ended_and_the_risks_must_be_risks() -> None:
    chance, left = _draw(1, 50)
    with pytest.raises(TooLittle, match="have not ended"):
        _drift(chance, left, as_of_us=AS_OF_US - 1)
    with pytest.raises(TooLittle, match="nobody was judged"):
        _drift(chance[:0], left[:0])
    for wrong in (0.0, 1.0, np.nan, 1.2):
        with pytest.raises(BadHistory, match="between 0 and 1"):
            _drift(np.full(3, wrong), left[:3])
    with pytest.raises(BadHistory, match="spread"):
        _drift(chance, left, spread=-1.0)
    twice = pl.DataFrame({"customer_id": ["a", "a"], "risk": [0.1, 0.2]})
    with pytest.raises(BadHistory, match="one a customer"):
        drift(twice, pl.Series([], dtype=pl.String), version="m", judged_at_us=0, horizon_days=1, as_of_us=DAY_US)


def _periods(seed: int, tau: float, apart_days: int, number: int, n: int = 20_000) -> list[Period]:
    """Periods a third of a horizon long make up the shift of each window."""
    random = np.random.default_rng(seed)
    third = random.normal(0.0, tau * np.sqrt(3.0), number * apart_days // 10 + 3)
    periods = []
    for k in range(number):
        at = k * apart_days // 10
        chance, left = _draw(seed * 1000 + k, n, float(third[at : at + 3].mean()))
        periods.append(Period.of(18_000 + k * apart_days, chance, left.astype(np.float64)))
    return periods


@pytest.mark.parametrize("apart_days", [30, 10])
def test_the_spread_between_periods_is_learnt_also_from_windows_that_overlap(apart_days: int) -> None:
    loud = np.mean([period_spread(_periods(seed, 0.4, apart_days, 24, 2000), 30) ** 2 for seed in range(8)])
    calm = np.mean([period_spread(_periods(seed, 0.0, apart_days, 24, 2000), 30) ** 2 for seed in range(8)])
    assert 0.3 < np.sqrt(loud) < 0.5
    assert np.sqrt(calm) < 0.11


def test_with_one_period_the_usual_spread_is_taken() -> None:
    assert period_spread([], 30) == USUAL_SPREAD
    assert period_spread(_periods(1, 0.0, 30, 1, 100), 30) == USUAL_SPREAD
    sure = Period.of(1, np.zeros(5), np.zeros(5))
    assert period_spread([sure, sure], 30) == USUAL_SPREAD


def test_intervals_of_shares_are_those_of_scipy() -> None:
    for happened, n in ((0, 10), (3, 10), (10, 10), (1, 1), (50, 1000)):
        theirs = binomtest(happened, n).proportion_ci(0.90, "wilson")
        assert wilson(happened, n) == pytest.approx((theirs.low, theirs.high))


def test_bins_hold_everybody_in_order_of_chance() -> None:
    chance, left = _draw(3, 1003)
    bins = reliability(left.astype(np.float64), chance)
    assert sum(b.n for b in bins) == 1003
    assert [b.chance for b in bins] == sorted(b.chance for b in bins)
    assert sum(b.n * b.observed for b in bins) == pytest.approx(left.sum())
    assert all(b.low < b.observed < b.high for b in bins)
