"""One customer's story: each event in the order it happened, and how far it moved the experience score. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from schemas.tables import DIMENSIONS, HALF_LIVES
from services.scoring.decay import HALF_LIFE_US
from services.scoring.expressions import Arrays
from services.scoring.score import score
from services.scoring.state import Floats

_UNUSED: Final = ("worst_severity", "worst_at")


@dataclass(frozen=True, slots=True)
class FeltEvent:
    """What the story needs of an event. Valence and weight by dimension, in the order of `DIMENSIONS`."""

    occurred_us: int
    valence: tuple[float, float, float]
    weight: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Moment:
    """The score (0..100) just before an event and with it."""

    score_before: float
    score_after: float

    @property
    def moved(self) -> float:
        """Points by which the event moved the score."""
        return self.score_after - self.score_before


def tell(events: Sequence[FeltEvent]) -> list[Moment]:
    """The moments of events that are sorted by the time they happened, oldest first."""
    shape = (len(events), len(DIMENSIONS), len(HALF_LIVES), 3)
    before, after = np.zeros(shape), np.zeros(shape)
    sums = np.zeros(shape[1:])
    last_us = 0
    half_lives = np.array([HALF_LIFE_US[name] for name in HALF_LIVES])
    for i, event in enumerate(events):
        sums = sums * np.exp2((last_us - event.occurred_us) / half_lives)[None, :, None] if i else sums
        before[i] = sums
        weight, valence = np.array(event.weight), np.array(event.valence)
        terms = np.stack((weight, weight * valence, weight * valence**2), axis=1)
        sums = sums + terms[:, None, :]
        after[i] = sums
        last_us = event.occurred_us
    at = np.array([event.occurred_us for event in events], dtype=np.float64)
    scores = [_score(block, at) for block in (before, after)]
    return [Moment(float(a), float(b)) for a, b in zip(*scores, strict=True)]


def _score(block: Floats, at: Floats) -> Floats:
    state: dict[str, Floats] = {
        f"{dimension}_{half_life}_{letter}": block[:, d, h, x]
        for d, dimension in enumerate(DIMENSIONS)
        for h, half_life in enumerate(HALF_LIVES)
        for x, letter in enumerate("wsq")
    }
    state |= dict.fromkeys(_UNUSED, np.zeros(len(at)))
    state["last_event_at"] = at
    return np.asarray(score(Arrays(), state, at).overall)
