"""How an event is read: (dimension, valence, weight), by the reviewed table `readings.toml`.

Pure. A reading is rounded to single precision so that the stored Float32 is exactly what was folded.
"""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from schemas.decode import EMOTION_TYPE, KIND_TYPE, METRIC_TYPE, OUTCOME_TYPE
from schemas.emotions import EMOTIONS
from schemas.kinds import FAMILIES, KINDS, OUTCOMES, Family
from schemas.metrics import METRICS, Scale
from schemas.tables import DIMENSIONS

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.uint8]

NONE: Final = 255
"""Code of a missing outcome, metric or emotion."""
MOST_WEIGHT: Final = 100.0
"""No number of the table may weigh more: a slip of the keyboard, not a judgement."""


class ReadingsError(ValueError):
    """The table of readings is not usable; the message names the entry."""


@dataclass(frozen=True, slots=True)
class Readings:
    """Per event (rows) and dimension (columns, order of `DIMENSIONS`): valence in [-1, 1] and weight >= 0."""

    valence: Floats
    weight: Floats

    @property
    def felt(self) -> npt.NDArray[np.bool_]:
        """Events that say anything on any dimension."""
        return np.asarray(self.weight.any(axis=1))


@dataclass(frozen=True, slots=True)
class ReadingTable:
    """`readings.toml` as arrays. ``base_*``: (kinds, outcomes + 1, dimensions); last outcome is "none"."""

    version: str
    base_weight: Floats
    base_weighted: Floats
    metric_points: tuple[tuple[Floats, Floats], ...]
    metric_weight: Floats
    emotion_valence: Floats
    emotion_weight: float
    default_intensity: float
    default_confidence: float

    def read(
        self,
        kind: Codes,
        outcome: Codes,
        metric: Codes,
        rating: Floats,
        emotion: Codes,
        intensity: Floats,
        confidence: Floats,
    ) -> Readings:
        """Read n events given as codes (`NONE` where absent) and numbers (NaN where absent)."""
        slot = np.minimum(outcome, len(OUTCOMES))
        weight = self.base_weight[kind, slot]
        weighted = self.base_weighted[kind, slot]
        experience = _EXPERIENCE[kind]
        for code, (ratings, valences) in enumerate(self.metric_points):
            rows = np.flatnonzero((metric == code) & experience)
            if rows.size:
                shares = self.metric_weight[code]
                weight[rows] += shares
                weighted[rows] += np.interp(rating[rows], ratings, valences)[:, None] * shares
        rows = np.flatnonzero((emotion != NONE) & experience)
        if rows.size:
            strength = np.where(np.isnan(intensity[rows]), self.default_intensity, intensity[rows])
            sureness = np.where(np.isnan(confidence[rows]), self.default_confidence, confidence[rows])
            share = self.emotion_weight * sureness
            weight[rows, _EMOTION_DIMENSION] += share
            weighted[rows, _EMOTION_DIMENSION] += share * self.emotion_valence[emotion[rows]] * strength
        with np.errstate(invalid="ignore", divide="ignore"):
            valence = np.where(weight > 0, weighted / weight, 0.0)
        return Readings(_single(valence), _single(weight))


_EMOTION_DIMENSION: Final = DIMENSIONS.index("emotion")
_EXPERIENCE: Final = np.array([kind in FAMILIES[Family.EXPERIENCE] for kind in KINDS])
"""Behaviour never enters a score: a review's stars are something said, not a signal."""

_WITH_OUTCOME: Final = ("interaction", "complaint_resolved", "follow_up")


def _single(values: Floats) -> Floats:
    return values.astype(np.float32).astype(np.float64)


def _codes(frame: pl.DataFrame, name: str, dtype: pl.Enum) -> Codes:
    codes: Codes = frame.get_column(name).cast(dtype).to_physical().fill_null(NONE).cast(pl.UInt8).to_numpy()
    return codes


def _numbers(frame: pl.DataFrame, name: str) -> Floats:
    numbers: Floats = frame.get_column(name).fill_null(float("nan")).to_numpy()
    return numbers


def read_frame(table: ReadingTable, frame: pl.DataFrame) -> Readings:
    """Read every row of a decoded batch (`schemas.decode.COLUMNS`)."""
    return table.read(
        kind=_codes(frame, "kind", KIND_TYPE),
        outcome=_codes(frame, "outcome", OUTCOME_TYPE),
        metric=_codes(frame, "metric", METRIC_TYPE),
        rating=_numbers(frame, "rating"),
        emotion=_codes(frame, "emotion", EMOTION_TYPE),
        intensity=_numbers(frame, "intensity"),
        confidence=_numbers(frame, "confidence"),
    )


def parse(document: dict[str, Any]) -> ReadingTable:
    """Build the arrays; `ReadingsError` for what is missing, unknown or out of range."""
    _keys("table", document, ("version", "kind", "outcome", "metric", "emotion"), ("kind_outcome",))
    version = document["version"]
    if not isinstance(version, str) or not version:
        raise ReadingsError("version must be a name, such as readings-1")
    by_kind = {name: _aspects(f"kind.{name}", entry) for name, entry in document["kind"].items()}
    by_outcome = {name: _aspects(f"outcome.{name}", entry) for name, entry in document["outcome"].items()}
    special = document.get("kind_outcome", {})
    _keys("kind", by_kind, (), FAMILIES[Family.EXPERIENCE])
    _keys("outcome", by_outcome, OUTCOMES)
    _keys("kind_outcome", special, (), _WITH_OUTCOME)

    shape = (len(KINDS), len(OUTCOMES) + 1, len(DIMENSIONS))
    weight, weighted = np.zeros(shape), np.zeros(shape)
    for k, kind in enumerate(KINDS):
        if not _EXPERIENCE[k]:
            continue
        factor, default = _recovery(f"kind_outcome.{kind}", special.get(kind, {}))
        for o, outcome in enumerate((*OUTCOMES, default)):
            said = [by_kind.get(kind, {})]
            if kind in _WITH_OUTCOME and outcome is not None:
                said.append({d: (v, w * factor) for d, (v, w) in by_outcome[outcome].items()})
            for aspect in said:
                for dimension, (valence, share) in aspect.items():
                    weight[k, o, dimension] += share
                    weighted[k, o, dimension] += valence * share

    _keys("metric", document["metric"], METRICS)
    metrics = [_scale(f"metric.{name}", document["metric"][name], scale) for name, scale in METRICS.items()]
    emotion = document["emotion"]
    _keys("emotion", emotion, ("weight", "default_intensity", "default_confidence", "valence"))
    _keys("emotion.valence", emotion["valence"], EMOTIONS)
    return ReadingTable(
        version=version,
        base_weight=weight,
        base_weighted=weighted,
        metric_points=tuple(points for points, _ in metrics),
        metric_weight=np.array([shares for _, shares in metrics]),
        emotion_valence=np.array([_number("emotion.valence", emotion["valence"], name, -1, 1) for name in EMOTIONS]),
        emotion_weight=_number("emotion", emotion, "weight", 0, MOST_WEIGHT),
        default_intensity=_number("emotion", emotion, "default_intensity", 0, 1),
        default_confidence=_number("emotion", emotion, "default_confidence", 0, 1),
    )


def _keys(where: str, entry: Any, needed: Iterable[str], allowed: Iterable[str] = ()) -> None:
    """Refuse a table that lacks a needed name or has one that is neither needed nor allowed."""
    if not isinstance(entry, dict):
        raise ReadingsError(f"{where} must be a table")
    needed = list(needed)
    known = [*needed, *allowed]
    if unknown := set(entry) - set(known):
        raise ReadingsError(f"{where} does not know {', '.join(sorted(unknown))}; known: {', '.join(known)}")
    if missing := set(needed) - set(entry):
        raise ReadingsError(f"{where} lacks {', '.join(sorted(missing))}")


def _number(where: str, entry: dict[str, Any], name: str, low: float, high: float) -> float:
    value = entry[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ReadingsError(f"{where}.{name} must be a number in {low:g}..{high:g}, not {value!r}")
    return float(value)


def _aspects(where: str, entry: Any) -> dict[int, tuple[float, float]]:
    """Valence and weight by the dimension's place."""
    _keys(where, entry, (), DIMENSIONS)
    aspects = {}
    for dimension, reading in entry.items():
        here = f"{where}.{dimension}"
        _keys(here, reading, ("valence", "weight"))
        valence, weight = _number(here, reading, "valence", -1, 1), _number(here, reading, "weight", 0, MOST_WEIGHT)
        aspects[DIMENSIONS.index(dimension)] = (valence, weight)
    return aspects


def _recovery(where: str, entry: Any) -> tuple[float, str | None]:
    """How much more an outcome weighs for a kind, and the outcome it has when none is told."""
    _keys(where, entry, (), ("weight_factor", "default_outcome"))
    default = entry.get("default_outcome")
    if default is not None and default not in OUTCOMES:
        raise ReadingsError(f"{where}.default_outcome must be one of {', '.join(OUTCOMES)}, not {default!r}")
    return _number(where, {"weight_factor": 1.0, **entry}, "weight_factor", 0, MOST_WEIGHT), default


def _scale(where: str, entry: Any, scale: Scale) -> tuple[tuple[Floats, Floats], Floats]:
    """A metric's ratings and valences, and its weight per dimension."""
    _keys(where, entry, ("points", "weight"))
    try:
        points = np.array(entry["points"], dtype=np.float64)
    except (TypeError, ValueError):
        points = np.empty(0)
    if points.ndim != 2 or points.shape[1] != 2:
        raise ReadingsError(f"{where}.points must be pairs of rating and valence")
    ratings, valences = points.T
    if not (np.diff(ratings) > 0).all() or not (np.abs(valences) <= 1).all():
        raise ReadingsError(f"{where}.points must ascend in rating with valence in -1..1")
    if (ratings[0], ratings[-1]) != (scale.low, scale.high):
        raise ReadingsError(f"{where}.points must reach from {scale.low:g} to {scale.high:g}, the metric's scale")
    _keys(f"{where}.weight", entry["weight"], (), DIMENSIONS)
    given = dict.fromkeys(DIMENSIONS, 0.0) | entry["weight"]
    shares = [_number(f"{where}.weight", given, dimension, 0, MOST_WEIGHT) for dimension in DIMENSIONS]
    return (ratings, valences), np.array(shares)


@functools.cache
def shipped() -> ReadingTable:
    """The table in `readings.toml`."""
    return parse(tomllib.loads((resources.files("services.scoring") / "readings.toml").read_text("utf-8")))
