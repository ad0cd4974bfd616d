"""Experience score as of any moment: the decayed sums, shrunk towards a prior, on a scale of 0 to 100.

score(t) = 50 + 50 (k m + S) / (k + W): the mean of n readings with a prior of strength k (in units of weight) at
valence m, the usual conjugate shrinkage. With little evidence it stands at the prior, and confidence = W / (k + W)
says so. Times and ages are microseconds in double precision (exact up to 2^53).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from schemas.tables import DIMENSIONS
from services.scoring.decay import HALF_LIFE_US
from services.scoring.expressions import Algebra, Term

PRIOR_STRENGTH: Final = 2.0
"""Weight of evidence that counts as much as the prior: about two clear experiences."""
PRIOR_VALENCE: Final = 0.2
"""Where a customer of whom nothing was felt stands: mildly content, score 60."""


@dataclass(frozen=True, slots=True)
class Score:
    """All of it as of one moment. Scores 0..100, ``trend`` in score points, confidence and volatility 0..1."""

    overall: Term
    dimensions: Mapping[str, Term]
    fast: Term
    trend: Term
    confidence: Term
    volatility: Term
    worst: Term
    """Severity of the worst recent moment, decayed."""


def elapsed(o: Algebra, name: str, now_us: Term, at_us: Term) -> Term:
    """Microseconds since a moment, never negative: an event from a clock ahead of ours has just happened."""
    return o.let(name, o.maximum(now_us - at_us, 0.0))


def score(o: Algebra, state: Mapping[str, Term], now_us: Term) -> Score:
    """The score of a state (columns of `customer_state` by name, times as microseconds) as of ``now_us``."""
    age = elapsed(o, "age_us", now_us, state["last_event_at"])
    fade = {name: o.let(f"fade_{name}", o.exp2(age * (-1.0 / h))) for name, h in HALF_LIFE_US.items()}

    def total(half_life: str, letter: str) -> Term:
        parts = [state[f"{dimension}_{half_life}_{letter}"] for dimension in DIMENSIONS]
        return (parts[0] + parts[1] + parts[2]) * fade[half_life]

    weight = {h: o.let(f"weight_{h}", total(h, "w")) for h in HALF_LIFE_US}
    valence = {h: o.let(f"valence_{h}", total(h, "s")) for h in HALF_LIFE_US}
    overall = o.let("score", _shrunk(weight["slow"], valence["slow"]))
    fast = o.let("score_fast", _shrunk(weight["fast"], valence["fast"]))
    # The fast mean leans on the slow one where it has little evidence of its own, so silence is not a trend.
    trend = o.let("trend", weight["fast"] / (weight["fast"] + PRIOR_STRENGTH) * (fast - overall))
    some = o.maximum(weight["slow"], 1e-12)
    spread = total("slow", "q") / some - (valence["slow"] / some) * (valence["slow"] / some)
    confidence = o.let("confidence", weight["slow"] / (weight["slow"] + PRIOR_STRENGTH))
    worst_age = elapsed(o, "worst_age_us", now_us, state["worst_at"])
    return Score(
        overall=overall,
        dimensions={
            dimension: o.let(
                f"score_{dimension}",
                _shrunk(
                    state[f"{dimension}_slow_w"] * fade["slow"],
                    state[f"{dimension}_slow_s"] * fade["slow"],
                ),
            )
            for dimension in DIMENSIONS
        },
        fast=fast,
        trend=trend,
        confidence=confidence,
        volatility=o.let("volatility", confidence * o.sqrt(o.maximum(spread, 0.0))),
        worst=o.let("worst", state["worst_severity"] * o.exp2(worst_age * (-1.0 / HALF_LIFE_US["slow"]))),
    )


def _shrunk(weight: Term, valence: Term) -> Term:
    return 50.0 + 50.0 * (PRIOR_STRENGTH * PRIOR_VALENCE + valence) / (PRIOR_STRENGTH + weight)
