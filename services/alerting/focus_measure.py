"""What was felt in a window, how well that is known, and whether it is out of the ordinary. Pure.

A window is a length of time; a part is a touchpoint or a channel. Each customer c of a part has three sums over their
readings in a window, with weight w and valence v: W = sum w, S = sum w v, Q = sum w v^2. Over customers they are added
up as `SUMS`, which is all that is needed here:

    felt           m = S / W                          mean valence, -1..1, weighted as in view felt_touchpoints
    haphazardness  d = sqrt(Q / W - m^2)              standard deviation of what was felt

Their sampling errors are those of ratio estimators with customers as clusters, by linearisation (Cochran, Sampling
Techniques, 3rd ed. 1977, section 6.5; clusters: Cameron and Miller, 2015), n customers:

    u = S - m W;  v = Q - 2 m S + (m^2 - d^2) W
    var(m) = n / (n - 1) sum u^2 / W^2;  var(d) = n / (n - 1) sum v^2 / (4 d^2 W^2)

A customer who was felt about a hundred times counts as one witness, not as a hundred.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.special import stdtr  # Student's t

Floats = npt.NDArray[np.float64]
Measure = Literal["felt", "haphazardness"]

SUMS: Final = ("w", "s", "q", "ww", "ss", "qq", "ws", "wq", "sq")
"""Sums over the customers of a part in a window: of W, S, Q and of their products."""
WINDOWS: Final[dict[str, pl.DataType | type[pl.DataType]]] = {
    "start_us": pl.Int64,
    "part": pl.String,
    "customers": pl.Int64,
    "readings": pl.Int64,
    **dict.fromkeys(SUMS, pl.Float64),
}
"""One row per window and part with anything felt. ``start_us``: UTC microseconds; ``readings``: events that said how
it felt."""

POINTS: Final = 50.0
"""Points of the experience score that one unit of valence is."""
TRIMMED: Final = 0.2
"""Share of the past windows that is trimmed at either end: an incident of five days in four weeks is no measure of the
usual."""
_LEAST_SPREAD: Final = 1e-9
_NORMAL: Final = NormalDist()


@dataclass(frozen=True, slots=True)
class Measured:
    """Of n windows: value and its sampling variance, each (n,)."""

    value: Floats
    variance: Floats


def measured(windows: pl.DataFrame, measure: Measure) -> Measured:
    """A measure of each row of `WINDOWS`. Rows of one customer have an infinite variance."""
    w, s, q, ww, ss, qq, ws, wq, sq = (windows.get_column(name).to_numpy() for name in SUMS)
    n = windows.get_column("customers").to_numpy().astype(np.float64)
    mean = s / w
    square = np.maximum(q / w - mean * mean, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        few = np.where(n > 1.0, n / (n - 1.0), np.inf)
        if measure == "felt":
            squares = ss - 2.0 * mean * ws + mean * mean * ww
            return Measured(mean, _finite(few * np.maximum(squares, 0.0) / (w * w)))
        rest = mean * mean - square
        squares = qq + 4.0 * mean * mean * ss + rest * rest * ww
        squares += 2.0 * (rest * wq - 2.0 * mean * sq - 2.0 * mean * rest * ws)
        variance = few * np.maximum(squares, 0.0) / (4.0 * np.maximum(square, _LEAST_SPREAD) * w * w)
    return Measured(np.sqrt(square), _finite(variance))


def _finite(variance: Floats) -> Floats:
    return np.where(np.isnan(variance), np.inf, variance)


@dataclass(frozen=True, slots=True)
class Comparison:
    """A window against its past. ``difference``: value less ``usual``; ``chance``: of a difference so large or larger
    in the direction that is bad, where nothing has changed."""

    value: float
    usual: float
    error: float
    freedom: float
    chance: float
    windows: int

    @property
    def difference(self) -> float:
        return self.value - self.usual


def compare(value: float, variance: float, customers: int, past: Measured, *, high_is_bad: bool) -> Comparison:
    """Hold a window with a value and a sampling variance against at least two windows of its past.

    The past gives the usual value, its 20 % trimmed mean, and by how much windows differ, its Winsorised standard
    deviation (Yuen, 1974), brought to that of a normal distribution. What windows differ by beyond sampling is theirs,
    sampling is this window's own, so that a quiet day is not taken for a change:

        error^2 = max(spread^2 - mean past variance, 0) + variance + spread^2 (c / (1 - 2 g/k)^2) / k

    with k windows of which g are trimmed at either end, and c the Winsorised variance of a standard normal. The ratio
    is held to Student's t as a prediction interval is (Higgins, Thompson, Spiegelhalter, 2009), its degrees of freedom
    after Satterthwaite (1946), of k - 2 g - 1 for the spread and customers - 1 for the sampling.
    """
    values = np.sort(past.value)
    k = len(values)
    g = int(TRIMMED * k)
    kept = values[g : k - g]
    usual = float(kept.mean())
    winsorised = np.clip(values, kept[0], kept[-1])
    share = _winsorised_variance(g / k)
    square = float(winsorised.var(ddof=1)) / share
    of_mean = square * share / (1.0 - 2.0 * g / k) ** 2 / k
    between = max(square - float(past.variance.mean()), 0.0)
    total = max(between + variance + of_mean, _LEAST_SPREAD**2)
    spread_part = (square if between > 0.0 else 0.0) + of_mean
    uncertain = spread_part**2 / max(k - 2 * g - 1, 1) + variance**2 / max(customers - 1, 1)
    freedom = float(np.clip(total**2 / max(uncertain, 1e-300), 1.0, 1e6))
    error = float(np.sqrt(total))
    worse = (value - usual) if high_is_bad else (usual - value)
    return Comparison(value, usual, error, freedom, float(stdtr(freedom, -worse / error)), k)


def _winsorised_variance(share: float) -> float:
    """Variance of a standard normal whose ends, a share each, are drawn in to the quantiles there."""
    if share <= 0.0:
        return 1.0
    z = -_NORMAL.inv_cdf(share)
    return (1.0 - 2.0 * share) - 2.0 * z * _NORMAL.pdf(z) + 2.0 * share * z * z
