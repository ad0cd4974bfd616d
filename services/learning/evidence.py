"""What evidence adds to the base, judged out of sample within the past: strength, layers, coefficients.

Snapshots are taken at several earlier dates, each labelled by what happened in the horizon after it. To judge a layer
at a date, it is fitted on *other customers* at dates whose label windows had ended by then; where history is too short
for two such dates, on other customers alone, and the verdict says so. A layer stays only where it beats the one below:
the 5th percentile of its gain in log-loss, bootstrapped over customers, is above 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from services.learning import ridge
from services.learning.measures import Draws, Interval, Quality, bootstrap, losses, quality

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

STRENGTHS: Final = (10.0, 30.0, 100.0, 300.0, 1000.0)
"""Penalties on standardised coefficients, in customers: a prior worth so much evidence that a feature does nothing."""
FOLDS: Final = 4
MOST_JUDGED: Final = 12_000
"""Customers of a large deployment on whom layers are judged; all are used for the final fit."""
LEAST_ROWS: Final = 100
LEAST_OUTCOMES: Final = 15
"""Fewer rows, or fewer of either outcome, teach no coefficients."""
WINSOR: Final = (0.1, 99.9)
"""Percentiles that features are held to: nothing is extrapolated beyond what was learnt from."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Customers at ``day``: who (``customer``), base log-odds, features (n, F), and 1 where nobody came back."""

    day: int
    customer: Ints
    base: Floats
    features: Floats
    left: Floats

    def __len__(self) -> int:
        return len(self.customer)

    def take(self, rows: npt.NDArray[np.bool_]) -> Snapshot:
        return Snapshot(self.day, self.customer[rows], self.base[rows], self.features[rows], self.left[rows])


@dataclass(frozen=True, slots=True)
class Layer:
    """A group of features by their columns."""

    name: str
    columns: tuple[int, ...]


class Weights(BaseModel):
    """Log-odds = base + intercept + slope (base - base_mean) + sum of coefficients x standardised features.

    Feature j is held to lows..highs, then (value - mean) / scale. Features that were not taken have coefficient 0.
    """

    model_config = ConfigDict(frozen=True)

    intercept: float = 0.0
    base_mean: float = 0.0
    slope: float = 0.0
    means: tuple[float, ...]
    scales: tuple[float, ...]
    lows: tuple[float, ...]
    highs: tuple[float, ...]
    coefficients: tuple[float, ...]

    def standardised(self, features: Floats) -> Floats:
        held = np.clip(features, self.lows, self.highs)
        return np.asarray((held - np.array(self.means)) / np.array(self.scales))

    def parts(self, base: Floats, features: Floats) -> tuple[float, Floats, Floats]:
        """Log-odds of the average customer, what the base adds (n,), what each feature adds (n, F)."""
        average = self.base_mean + self.intercept
        return (
            average,
            (1.0 + self.slope) * (base - self.base_mean),
            self.standardised(features) * np.array(self.coefficients),
        )

    def log_odds(self, base: Floats, features: Floats) -> Floats:
        average, from_base, from_features = self.parts(base, features)
        return np.asarray(average + from_base + from_features.sum(axis=1))


class Verdict(BaseModel):
    """What judging said about one layer. ``gain``: log-loss of the layer below less its own; positive is better."""

    model_config = ConfigDict(frozen=True)

    layer: str
    kept: bool
    strength: float
    gain: Interval
    below: Quality
    measured: Quality


class Judged(BaseModel):
    """Which layers stayed, the strength of the last of them, and every verdict."""

    model_config = ConfigDict(frozen=True)

    kept: tuple[str, ...]
    strength: float
    by: Literal["time", "customers", "nothing"]
    verdicts: tuple[Verdict, ...]


def windows(days: Sequence[int], horizon_days: int) -> float:
    """How many horizons the label windows of these dates cover: independent looks at what a period may bring."""
    return (max(days) - min(days)) / horizon_days + 1.0


def learn(snapshots: Sequence[Snapshot], columns: Sequence[int], strength: float, horizon_days: int) -> Weights:
    """Fit on all snapshots together. The intercept is held back to the base's by J : 1, J the number of windows.

    What a period does to everybody (a season, a campaign) is one observation however many customers felt it: J
    windows show their mean shift with an error of its own size over J, so J / (J + 1) of it is believed. A strength
    beyond that holds back the intercept, too: strong doubt leaves the base as it is.
    """
    base = np.concatenate([s.base for s in snapshots])
    left = np.concatenate([s.left for s in snapshots])
    features = np.concatenate([s.features for s in snapshots])
    taken = list(columns)
    total = features.shape[1]
    lows, highs = np.percentile(features, WINSOR, axis=0)
    held = np.clip(features, lows, highs)
    means, scales = held.mean(axis=0), held.std(axis=0)
    # A feature that hardly varies, such as one that nobody has, says nothing and must not be divided by nearly 0.
    varies = scales > 1e-6
    scales = np.where(varies, scales, 1.0)
    taken = [j for j in taken if varies[j]]
    base_mean, base_scale = float(base.mean()), max(float(base.std()), 1e-3)
    x = np.column_stack(
        [np.ones(len(base)), (base - base_mean) / base_scale, (held[:, taken] - means[taken]) / scales[taken]]
    )
    chance = 1.0 / (1.0 + np.exp(-base))
    believed = float((chance * (1.0 - chance)).sum()) / windows([s.day for s in snapshots], horizon_days)
    penalty = np.concatenate([[max(believed, 1.0, strength)], np.full(1 + len(taken), strength)])
    found = ridge.fit(x, left, base, penalty)
    coefficients = np.zeros(total)
    coefficients[taken] = found[2:]
    return Weights(
        intercept=float(found[0]),
        base_mean=base_mean,
        slope=float(found[1]) / base_scale,
        means=tuple(means.tolist()),
        scales=tuple(scales.tolist()),
        lows=tuple(lows.tolist()),
        highs=tuple(highs.tolist()),
        coefficients=tuple(coefficients.tolist()),
    )


def nothing(features: int, base_mean: float) -> Weights:
    """The base alone; ``base_mean``: log-odds of the average customer."""
    zeros, ones = (0.0,) * features, (1.0,) * features
    return Weights(base_mean=base_mean, means=zeros, scales=ones, lows=zeros, highs=zeros, coefficients=zeros)


def teachable(snapshots: Sequence[Snapshot]) -> bool:
    """Whether there are enough rows, and enough of either outcome, to learn coefficients from."""
    return bool(snapshots) and enough(np.concatenate([s.left for s in snapshots]))


def enough(label: Floats) -> bool:
    """Whether coefficients can be learnt from these outcomes, 1 or 0."""
    ones = float(label.sum())
    return len(label) >= LEAST_ROWS and min(ones, len(label) - ones) >= LEAST_OUTCOMES


@dataclass(frozen=True, slots=True)
class _Split:
    train: tuple[Snapshot, ...]
    test: Snapshot


def _splits(
    snapshots: Sequence[Snapshot], horizon_days: int, draws: Draws
) -> tuple[list[_Split], Literal["time", "customers", "nothing"]]:
    """For every date and fold: what may be learnt from, and who is judged."""
    everybody = np.unique(np.concatenate([s.customer for s in snapshots]))
    random = draws()
    if len(everybody) > MOST_JUDGED:
        everybody = np.sort(random.choice(everybody, MOST_JUDGED, replace=False))
    fold = random.integers(0, FOLDS, len(everybody))

    def of(s: Snapshot, chosen: Ints) -> Snapshot:
        return s.take(np.isin(s.customer, chosen))

    parts = [(everybody[fold == k], everybody[fold != k]) for k in range(FOLDS)]
    cut = {(s.day, k): (of(s, inside), of(s, outside)) for s in snapshots for k, (inside, outside) in enumerate(parts)}
    for by in ("time", "customers"):
        splits = []
        for target in snapshots:
            past = [s for s in snapshots if by == "customers" or s.day + horizon_days <= target.day]
            for k in range(FOLDS):
                train, test = tuple(cut[s.day, k][1] for s in past), cut[target.day, k][0]
                if past and len(test) and teachable(train):
                    splits.append(_Split(train, test))
        if splits:
            return splits, by
    return [], "nothing"


def judge(snapshots: Sequence[Snapshot], layers: Sequence[Layer], horizon_days: int, draws: Draws) -> Judged:
    """Try layer upon layer, each at the strength that suits it best."""
    splits, by = _splits(snapshots, horizon_days, draws)
    if not splits:
        return Judged(kept=(), strength=0.0, by="nothing", verdicts=())
    left = np.concatenate([s.test.left for s in splits])
    customer = np.concatenate([s.test.customer for s in splits])
    below = np.concatenate([s.test.base for s in splits])
    kept: list[str] = []
    columns: tuple[int, ...] = ()
    chosen = STRENGTHS[-1]
    verdicts = []
    for layer in layers:
        tried = {}
        for strength in STRENGTHS:
            tried[strength] = np.concatenate(
                [
                    learn(s.train, columns + layer.columns, strength, horizon_days).log_odds(
                        s.test.base, s.test.features
                    )
                    for s in splits
                ]
            )
        strength = min(tried, key=lambda value: float(losses(left, tried[value]).mean()))
        mine = tried[strength]
        gain = bootstrap(losses(left, below) - losses(left, mine), customer, draws)
        keep = gain.low > 0.0
        verdicts.append(
            Verdict(
                layer=layer.name,
                kept=keep,
                strength=strength,
                gain=gain,
                below=quality(left, below),
                measured=quality(left, mine),
            )
        )
        if keep:
            kept.append(layer.name)
            columns, below, chosen = columns + layer.columns, mine, strength
    return Judged(kept=tuple(kept), strength=chosen, by=by, verdicts=tuple(verdicts))
