"""Does the model still hold? Its risks of one horizon ago against who has come back since.

Rule. With p the risks, O those who did not come back, E = sum p and V = sum p (1 - p), the model has drifted if

    |O - E| > z sqrt(V + (tau V)^2),   z = 2.576 (one window in 100 by chance)

V is what chance does to customers one by one. tau is by how much, in log-odds, a period (a season, a campaign) usually
moves everybody at once: a shift of tau moves E by about tau V. Without tau the rule would alarm at every holiday of a
large deployment; with it, only at what such a deployment's periods do not do.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from services.learning.activity import DAY_US
from services.learning.errors import BadHistory, TooLittle
from services.learning.measures import SURE, Quality, quality
from services.learning.reliability import Bin, reliability

Floats = npt.NDArray[np.float64]

SURPRISE: Final = 2.576
"""Standard deviations: 1 in 100 either way. A monthly look gives a false alarm in eight years."""
USUAL_SPREAD: Final = 0.2
"""Between periods, in log-odds, where nothing is known of a deployment's own. Over windows side by side, forecasts were
off by .09 (cdnow), .21 (complete_journey) and .23 (grocery_elog), root mean square beyond chance."""
USUAL_WORTH: Final = 2.0
"""Periods that `USUAL_SPREAD` is worth beside a deployment's own: with few, their spread is hardly known."""
LEAST_VARIANCE: Final = 5.0
"""V, as of 20 customers at even chances; with less there is no verdict."""


class Period(BaseModel):
    """One date of a fit: sums over its ``customers`` of chances, of those who left, and of chance (1 - chance)."""

    model_config = ConfigDict(frozen=True)

    day: int
    customers: int = Field(ge=1)
    expected: float
    left: float
    variance: float

    @classmethod
    def of(cls, day: int, chance: Floats, left: Floats) -> Period:
        """From chances judged at a day, and 1 for those who left in the horizon after."""
        return cls(
            day=day,
            customers=len(chance),
            expected=float(chance.sum()),
            left=float(left.sum()),
            variance=float((chance * (1.0 - chance)).sum()),
        )


def period_spread(periods: Sequence[Period], horizon_days: int) -> float:
    """tau: standard deviation between periods of the shift, in log-odds, that brings expected to what happened.

    The shift of a period is (left - expected) / variance, known with a variance of 1 / variance. What is missing of the
    variance between shifts as windows overlap is put back, and what they are not known by is taken off; the rest weighs
    as many periods as fit side by side into the span, less one, beside `USUAL_SPREAD` worth `USUAL_WORTH`.
    """
    seen = [p for p in periods if p.variance > 0.0]
    if len(seen) < 2:
        return USUAL_SPREAD
    day = np.array([p.day for p in seen], dtype=np.float64)
    shift = np.array([(p.left - p.expected) / p.variance for p in seen])
    error = float(np.mean([1.0 / p.variance for p in seen]))
    apart = ~np.eye(len(seen), dtype=np.bool_)
    shared = np.clip(1.0 - np.abs(day[:, None] - day[None, :]) / horizon_days, 0.0, 1.0)[apart].mean()
    # Errors overlap as the windows do, so both lack the same share.
    between = float(np.var(shift, ddof=1)) / max(1.0 - float(shared), 0.05) - error
    own = float(np.ptp(day)) / horizon_days
    return float(np.sqrt((USUAL_WORTH * USUAL_SPREAD**2 + own * max(between, 0.0)) / (USUAL_WORTH + own)))


class Drift(BaseModel):
    """The latest matured window: ``n`` customers judged at ``judged_at_us``, and what came of them.

    ``ratio``: observed over expected leavers. ``allowed``: from how many to how many would be no surprise. ``spread``:
    the tau that was used. ``too_few``: no verdict.
    """

    model_config = ConfigDict(frozen=True)

    version: str
    judged_at_us: int
    horizon_days: int
    n: int
    expected: float
    observed: int
    ratio: float
    spread: float
    allowed: tuple[float, float]
    quality: Quality
    bins: tuple[Bin, ...]
    verdict: Literal["holds", "drifted", "too_few"]
    sentence: str

    @property
    def drifted(self) -> bool:
        return self.verdict == "drifted"


def drift(
    risks: pl.DataFrame,
    came: pl.Series,
    *,
    version: str,
    judged_at_us: int,
    horizon_days: int,
    as_of_us: int,
    spread: float | None = None,
) -> Drift:
    """Hold ``risks`` (customer_id and risk at ``judged_at_us``) against ``came``: customer_ids that came back in the
    ``horizon_days`` after; others in it do not matter. ``spread``: `period_spread` of the fit, None if it is not known.

    Raises `TooLittle` without customers or before the window has ended, `BadHistory` on risks that are none.
    """
    if judged_at_us + horizon_days * DAY_US > as_of_us:
        raise TooLittle(
            f"the {horizon_days} days after {_day(judged_at_us)} have not ended: judge at an earlier date, or wait"
        )
    for name in ("customer_id", "risk"):
        if name not in risks.columns:
            raise BadHistory(f"risks need a column {name}; there are {', '.join(risks.columns) or 'none'}")
    if not risks.height:
        raise TooLittle("nobody was judged at that date: choose a later one")
    if risks.get_column("customer_id").is_duplicated().any():
        raise BadHistory("risks must be one a customer: remove the others")
    chance = risks.get_column("risk").cast(pl.Float64).fill_null(float("nan")).to_numpy()
    if not ((chance > 0.0) & (chance < 1.0)).all():
        raise BadHistory("risks must be between 0 and 1: give the chance of not coming back")
    if spread is not None and not 0.0 <= spread < np.inf:
        raise BadHistory(f"the spread between periods must be 0 or more, not {spread}")
    chance = np.clip(chance, SURE, 1.0 - SURE)
    ids = risks.get_column("customer_id").cast(pl.String)
    left = (~ids.is_in(came.cast(pl.String).drop_nulls().unique().to_list())).cast(pl.Float64).to_numpy()
    expected, observed = float(chance.sum()), int(left.sum())
    variance = float((chance * (1.0 - chance)).sum())
    tau = USUAL_SPREAD if spread is None else spread
    reach = SURPRISE * float(np.sqrt(variance + (tau * variance) ** 2))
    allowed = (max(0.0, expected - reach), min(float(len(chance)), expected + reach))
    verdict: Literal["holds", "drifted", "too_few"] = "holds"
    if variance < LEAST_VARIANCE:
        verdict = "too_few"
    elif abs(observed - expected) > reach:
        verdict = "drifted"
    return Drift(
        version=version,
        judged_at_us=judged_at_us,
        horizon_days=horizon_days,
        n=len(chance),
        expected=expected,
        observed=observed,
        ratio=observed / expected,
        spread=tau,
        allowed=allowed,
        quality=quality(left, np.log(chance / (1.0 - chance))),
        bins=reliability(left, chance),
        verdict=verdict,
        sentence=_sentence(verdict, len(chance), expected, observed, allowed, judged_at_us, horizon_days),
    )


def _day(at_us: int) -> str:
    return (datetime.fromtimestamp(0, UTC) + timedelta(microseconds=at_us)).date().isoformat()


def _sentence(
    verdict: str,
    n: int,
    expected: float,
    observed: int,
    allowed: tuple[float, float],
    judged_at_us: int,
    horizon_days: int,
) -> str:
    seen = (
        f"Of {n:,} customers judged on {_day(judged_at_us)}, {observed:,} did not come back within {horizon_days} days"
        f"; {expected:,.0f} were expected"
    )
    if verdict == "too_few":
        return f"{seen}. That is too little for a verdict: wait for more customers, or for a longer horizon."
    usual = f"{np.ceil(allowed[0]):,.0f} to {np.floor(allowed[1]):,.0f} would be no surprise"
    if verdict == "holds":
        return f"{seen}, and {usual}: the model holds."
    side = "low" if observed > expected else "high"
    return (
        f"{seen}, and only {usual}: the model has drifted, its risks are too {side}. Fit again (touchstone fit); until "
        "then trust the order of customers, not the percentages."
    )
