"""How an event is read: (dimension, valence, weight), by the reviewed table `readings.toml`.

Pure. A reading is rounded to single precision so that the stored Float32 is exactly what was folded.
"""

from __future__ import annotations

import functools
import tomllib
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from schemas.decode import EMOTION_TYPE, KIND_TYPE, METRIC_TYPE, OUTCOME_TYPE
from schemas.emotions import EMOTIONS
from schemas.kinds import FAMILIES, KINDS, OUTCOMES, Family
from schemas.metrics import METRICS
from schemas.tables import DIMENSIONS

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.uint8]

NONE: Final = 255
"""Code of a missing outcome, metric or emotion."""


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
    """Build the arrays, refusing unknown names and values out of range."""
    by_kind = {name: _aspects(f"kind.{name}", entry) for name, entry in document["kind"].items()}
    by_outcome = {name: _aspects(f"outcome.{name}", entry) for name, entry in document["outcome"].items()}
    _known("kind", by_kind, FAMILIES[Family.EXPERIENCE])
    _known("outcome", by_outcome, OUTCOMES)
    _known("metric", document["metric"], METRICS)
    _known("emotion.valence", document["emotion"]["valence"], EMOTIONS)
    missing = set(EMOTIONS) - set(document["emotion"]["valence"])
    if missing:
        raise ReadingsError(f"emotion.valence lacks {', '.join(sorted(missing))}")

    shape = (len(KINDS), len(OUTCOMES) + 1, len(DIMENSIONS))
    weight, weighted = np.zeros(shape), np.zeros(shape)
    special = document.get("kind_outcome", {})
    for k, kind in enumerate(KINDS):
        if not _EXPERIENCE[k]:
            continue
        factor = special.get(kind, {}).get("weight_factor", 1.0)
        default = special.get(kind, {}).get("default_outcome")
        for o, outcome in enumerate((*OUTCOMES, default)):
            said = [by_kind.get(kind, {})]
            if kind in _WITH_OUTCOME and outcome is not None:
                said.append({d: (v, w * factor) for d, (v, w) in by_outcome.get(outcome, {}).items()})
            for aspect in said:
                for dimension, (valence, share) in aspect.items():
                    weight[k, o, dimension] += share
                    weighted[k, o, dimension] += valence * share

    points, metric_weight = [], np.zeros((len(METRICS), len(DIMENSIONS)))
    for m, name in enumerate(METRICS):
        entry = document["metric"][name]
        xs, ys = np.array(entry["points"], dtype=np.float64).T
        if (np.diff(xs) <= 0).any() or (np.abs(ys) > 1).any():
            raise ReadingsError(f"metric.{name}.points must ascend in rating with valence in -1..1")
        points.append((xs, ys))
        for dimension, share in entry["weight"].items():
            _known(f"metric.{name}.weight", (dimension,), DIMENSIONS)
            metric_weight[m, DIMENSIONS.index(dimension)] = share
    emotion = document["emotion"]
    return ReadingTable(
        version=document["version"],
        base_weight=weight,
        base_weighted=weighted,
        metric_points=tuple(points),
        metric_weight=metric_weight,
        emotion_valence=np.array([emotion["valence"][name] for name in EMOTIONS]),
        emotion_weight=emotion["weight"],
        default_intensity=emotion["default_intensity"],
        default_confidence=emotion["default_confidence"],
    )


def _known(where: str, names: Any, vocabulary: Any) -> None:
    unknown = set(names) - set(vocabulary)
    if unknown:
        raise ReadingsError(f"{where} does not know {', '.join(sorted(unknown))}; known: {', '.join(vocabulary)}")


def _aspects(where: str, entry: dict[str, dict[str, float]]) -> dict[int, tuple[float, float]]:
    _known(where, entry, DIMENSIONS)
    aspects = {}
    for dimension, reading in entry.items():
        if not -1 <= reading["valence"] <= 1 or reading["weight"] < 0:
            raise ReadingsError(f"{where}.{dimension}: valence must be in -1..1 and weight not negative")
        aspects[DIMENSIONS.index(dimension)] = (reading["valence"], reading["weight"])
    return aspects


@functools.cache
def shipped() -> ReadingTable:
    """The table in `readings.toml`."""
    return parse(tomllib.loads((resources.files("services.scoring") / "readings.toml").read_text("utf-8")))
