"""Judging: the risk of some customers at a moment, the band that follows, and a signal where a band changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

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
    from_band: str
    to_band: str
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
    return [
        Signal(
            row=int(rows[i]),
            judged_at_us=int(at_us[i]),
            from_band=BANDS[before[i]],
            to_band=BANDS[after[i]],
            risk=float(judged.risk[i]),
            score=float(measured.overall[i]),
            trend=float(measured.trend[i]),
            confidence=float(judged.confidence[i]),
            value_at_risk=float(judged.value_at_risk[i]),
            reasons=explain(subset, int(i), int(at_us[i]), measured, judged, model, names),
            model_version=model.version,
            log_offset=int(offsets[i]),
        )
        for i in crossed
    ]


def explain(
    states: States, i: int, at_us: int, measured: Score, judged: Risk, model: RiskModel, names: Vocabulary
) -> list[tuple[str, float]]:
    """Reasons of the i-th state in words, largest contribution first."""
    facts: dict[str, float] = {name: float(values[i]) for name, values in judged.facts.items()}
    ints = states.ints[i]
    facts |= {
        "active_days": float(ints[INT_INDEX["active_days"]]),
        "open_complaints": float(ints[INT_INDEX["open_complaints"]]),
        "worst_days": max(at_us - int(ints[INT_INDEX["worst_at"]]), 0) / DAY_US,
        "score": float(measured.overall[i]),
        "typical_score": model.typical_score,
        "trend": float(measured.trend[i]),
        "volatility": float(measured.volatility[i]),
    }
    told: dict[str, object] = {**facts, "worst_touchpoint": names.names[int(ints[INT_INDEX["worst_touchpoint"]])]}
    contributions = {name: float(judged.contributions[name][i]) for name in TERMS}
    return reasons(contributions, told)  # type: ignore[arg-type]
