"""Judging: the risk of some customers at a moment, the band that follows, and a signal where a band changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from schemas.signal import Band
from schemas.state_layout import BANDS, FLOAT_INDEX, INT_INDEX
from services.scoring.decay import DAY_US
from services.scoring.expressions import Arrays, Term
from services.scoring.risk.bands import next_band
from services.scoring.risk.formula import TERMS, Risk, risk
from services.scoring.risk.model import RiskModel
from services.scoring.risk.words import reasons
from services.scoring.score import Score, score
from services.scoring.state import Ints, Rows, States, Vocabulary

_ARRAYS: Final = Arrays()
_RISK, _BAND, _SINCE = FLOAT_INDEX["risk"], INT_INDEX["band"], INT_INDEX["band_since"]
_JUDGED, _MODEL = INT_INDEX["judged_at"], INT_INDEX["model_version"]


@dataclass(frozen=True, slots=True)
class Signal:
    """A customer crossed from one band to another; everything a receiver needs to know why."""

    row: int
    """Customer's row in the states that were judged."""
    judged_at_us: int
    from_band: Band
    to_band: Band
    risk: float
    score: float
    trend: float
    confidence: float
    value_at_risk: float
    reasons: list[tuple[str, float]]
    model_version: str
    log_offset: int


def columns(states: States) -> Mapping[str, Term]:
    """The states' columns by name, integers as doubles (exact up to 2^53)."""
    numbers = states.ints.astype(np.float64)
    by_name: dict[str, Term] = {name: states.floats[:, index] for name, index in FLOAT_INDEX.items()}
    by_name |= {name: numbers[:, index] for name, index in INT_INDEX.items()}
    return by_name


def assess(states: States, at_us: Ints, model: RiskModel) -> tuple[Score, Risk]:
    """Score and risk of each state at its own moment ``at_us``."""
    now = at_us.astype(np.float64)
    by_name = columns(states)
    measured = score(_ARRAYS, by_name, now)
    return measured, risk(_ARRAYS, by_name, measured, model.parameters(), now)


def judge(
    states: States, rows: Rows, at_us: Ints, offsets: Ints, model: RiskModel, names: Vocabulary, models: Vocabulary
) -> list[Signal]:
    """Judge some customers in place and return the crossings, in the order of ``rows``.

    ``at_us``: received_at of the events at which they are judged; ``offsets``: those events' offsets.
    """
    subset = states.take(rows)
    measured, judged = assess(subset, at_us, model)
    before = subset.ints[:, _BAND]
    after = next_band(_ARRAYS, before, subset.ints[:, _SINCE], judged.risk, at_us, model.parameters())
    states.floats[rows, _RISK] = judged.risk
    states.ints[rows, _JUDGED] = at_us
    states.ints[rows, _MODEL] = models.code(model.version)
    crossed = np.flatnonzero(after != before)
    if not crossed.size:
        return []
    states.ints[rows[crossed], _BAND] = after[crossed]
    states.ints[rows[crossed], _SINCE] = at_us[crossed]
    told = explain(subset, crossed, at_us, measured, judged, model, names)

    def of(term: Term) -> list[Any]:
        return list(np.asarray(term)[crossed].tolist())

    crossings = zip(
        of(rows),
        of(at_us),
        of(before),
        of(after),
        of(judged.risk),
        of(measured.overall),
        of(measured.trend),
        of(judged.confidence),
        of(judged.value_at_risk),
        told,
        of(offsets),
        strict=True,
    )
    return [
        Signal(row, at, BANDS[old], BANDS[new], chance, level, trend, sure, value, why, model.version, offset)
        for row, at, old, new, chance, level, trend, sure, value, why, offset in crossings
    ]


def explain(
    states: States, which: Rows, at_us: Ints, measured: Score, judged: Risk, model: RiskModel, names: Vocabulary
) -> list[list[tuple[str, float]]]:
    """Reasons of some of the states in words, largest contribution first.

    ``at_us``, ``measured`` and ``judged`` are of all states; ``which`` says whose reasons are wanted.
    """
    ints = states.ints[which]
    facts: dict[str, Term] = {name: np.asarray(values)[which] for name, values in judged.facts.items()}
    facts |= {
        "active_days": ints[:, INT_INDEX["active_days"]],
        "open_complaints": ints[:, INT_INDEX["open_complaints"]],
        "worst_days": np.maximum(at_us[which] - ints[:, INT_INDEX["worst_at"]], 0) / DAY_US,
        "score": measured.overall[which],
        "typical_score": np.full(len(which), model.typical_score),
        "trend": measured.trend[which],
        "volatility": measured.volatility[which],
    }
    columns = {name: values.tolist() for name, values in facts.items()}
    columns["worst_touchpoint"] = names.of(ints[:, INT_INDEX["worst_touchpoint"]].tolist())
    moves = np.stack([judged.contributions[name][which] for name in TERMS], axis=1)
    return reasons(moves.tolist(), columns)
