"""Laws of judging: contributions add up, risks are chances, features are finite whatever the history."""

from __future__ import annotations

from functools import partial

import numpy as np
import numpy.typing as npt
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from services.learning import features, fitting, judging
from services.learning.bgnbd import Rates, log_odds_none
from services.learning.evidence import Judged, Weights
from services.learning.model import FEATURES, BaseRates, LearntModel, Span

DRAWS = partial(np.random.default_rng, 0)
DAY_US = 86_400_000_000
FLOATS = st.floats(-1e6, 1e6)
N = len(FEATURES)


def _model(average: float, slope: float, coefficients: npt.NDArray[np.float64], scale: float) -> LearntModel:
    return LearntModel(
        version="t",
        horizon_days=30,
        kinds=("purchase",),
        lookback_days=365,
        base=BaseRates(variant="mbg", r=0.8, alpha=20.0, a=0.5, b=2.0),
        weights=Weights(
            intercept=0.1,
            base_mean=average,
            slope=slope,
            means=(0.3,) * N,
            scales=(scale,) * N,
            lows=(-5.0,) * N,
            highs=(9.0,) * N,
            coefficients=tuple(coefficients.tolist()),
        ),
        no_activity_log_odds=0.0,
        judged=Judged(kept=(), strength=1.0, by="nothing", verdicts=()),
        base_quality=(),
        span=Span(first_day=0, as_of_us=0, snapshot_days=(), customers=1, active_days=1, rows=0),
    )


@given(
    st.floats(-5, 5),
    st.floats(-0.9, 3),
    arrays(np.float64, N, elements=st.floats(-4, 4)),
    st.floats(0.01, 10),
    arrays(np.float64, 5, elements=st.floats(-12, 12)),
    arrays(np.float64, (5, N), elements=FLOATS),
)
def test_contributions_add_up_to_the_risk(
    average: float,
    slope: float,
    coefficients: npt.NDArray[np.float64],
    scale: float,
    base: npt.NDArray[np.float64],
    matrix: npt.NDArray[np.float64],
) -> None:
    judged = judging.judge(_model(average, slope, coefficients, scale), base, matrix)
    total = judged.average + sum(judged.contributions.values())
    size = 1.0 + sum(np.abs(part) for part in judged.contributions.values())
    assert (np.abs(total - judged.log_odds) <= 1e-9 * size).all()
    assert ((judged.risk > 0.0) & (judged.risk < 1.0)).all()


def test_every_feature_is_said_by_exactly_one_term() -> None:
    assert sorted(name for names in judging.TERMS.values() for name in names) == sorted(FEATURES)


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c"]),
        st.floats(0, 60_000),
        st.sampled_from(["purchase", "interaction", "refund"]),
        st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True)),
    ),
    max_size=60,
)


@settings(max_examples=60)
@given(EVENTS, st.floats(1.5, 60_001), st.integers(1, 400))
def test_any_history_gives_chances(
    rows: list[tuple[str, float, str, float | None]], at_days: float, horizon_days: int
) -> None:
    events = pl.DataFrame(
        {
            "customer_id": ["d", *(row[0] for row in rows)],
            "occurred_at": [DAY_US, *(int(row[1] * DAY_US) for row in rows)],
            "kind": ["purchase", *(row[2] for row in rows)],
            "amount": pl.Series([None, *(row[3] for row in rows)], dtype=pl.Float64),
        }
    )
    as_of_us = int(at_days * DAY_US)
    history = fitting.History(events, as_of_us, None, None)
    known = features.known_at(history.days, as_of_us / DAY_US)
    base = np.clip(log_odds_none(Rates("bg", 0.5, 30.0, 0.5, 2.0), known.histories(), horizon_days), -12, 12)
    assert np.isfinite(base).all()
    assert np.isfinite(history.matrix(known, base, horizon_days)).all()
    model = fitting.fit(events, as_of_us, draws=DRAWS, version="t", horizon_days=horizon_days)
    chance = judging.risks(model, events, as_of_us).get_column("risk").to_numpy()
    assert ((chance > 0.0) & (chance < 1.0)).all()
