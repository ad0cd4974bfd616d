"""Loyalty risk as of any moment: P(the customer does not come back within the horizon).

Base: with MBG/NBD parameters (r, alpha, a, b), x repeat days, the last at t_x, observed for T days,

    P(alive)         = 1 / (1 + a / (b + x) ((alpha + T) / (alpha + t_x))^(r + x))
    P(none in H)     = 1 - P(alive) (1 - ((alpha + T) / (alpha + T + H))^(r + x))

(Batislam, Denizel, Filiztekin 2007; the second factor is the gamma-mixed Poisson chance of at least one purchase, and
dropping out can only follow a purchase). Evidence felt moves its log-odds; each move is a reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from services.scoring.decay import DAY_US, HALF_LIFE_US
from services.scoring.expressions import Algebra, Term
from services.scoring.score import Score, elapsed

SURE: Final = 1e-6
"""No risk is nearer to 0 or 1 than this: nothing here is certain."""
SURVEYS_FREE: Final = 3.0
COMPLAINTS_MOST: Final = 3.0
RHYTHM_EVIDENCE: Final = 2.0
"""Days with activity that make the rhythm half known."""
LN2: Final = 0.6931471805599453

TERMS: Final = (
    "rhythm",
    "score",
    "trend",
    "volatility",
    "worst",
    "complaints",
    "feedback",
    "surveys",
    "spend",
    "cancelled",
)


@dataclass(frozen=True, slots=True)
class Risk:
    """Risk 0..1, its signed contributions in log-odds by `TERMS`, and what is needed to say them in words."""

    risk: Term
    log_odds: Term
    contributions: Mapping[str, Term]
    confidence: Term
    expected_spend: Term
    value_at_risk: Term
    facts: Mapping[str, Term]


def risk(o: Algebra, state: Mapping[str, Term], score: Score, parameters: Mapping[str, Term], now_us: Term) -> Risk:
    """Risk of a state as of ``now_us``. ``parameters``: `RiskModel.parameters`, as numbers or SQL terms."""
    p = parameters
    horizon = p["horizon_days"]
    now_days = now_us / float(DAY_US)
    active = state["active_days"]
    first_day = state["first_active_day"]
    silence_us = elapsed(o, "silence_us", now_us, state["last_activity_at"])
    last_days = state["last_activity_at"] / float(DAY_US)
    seen = o.let("observed_days", o.maximum(now_days - first_day, 0.0))
    # A last activity before the first kept day cannot be; the floor guards the arithmetic where there is none.
    until = o.let("active_span_days", o.maximum(o.minimum(last_days - first_day, seen), 0.0))
    repeats = o.let("repeats", o.maximum(active - 1.0, 0.0))
    shape = o.let("rhythm_shape", p["rhythm.r"] + repeats)
    gone = o.exp(shape * o.log((p["rhythm.alpha"] + seen) / (p["rhythm.alpha"] + until)))
    alive = o.let("alive", 1.0 / (1.0 + p["rhythm.a"] / (p["rhythm.b"] + repeats) * gone))
    none_if_alive = o.exp(shape * o.log((p["rhythm.alpha"] + seen) / (p["rhythm.alpha"] + seen + horizon)))
    none = o.let("none_within", _inside(o, 1.0 - alive * (1.0 - none_if_alive)))
    base = o.let("base", o.where(active > 0, o.log(none / (1.0 - none)), p["no_activity_log_odds"]))

    slow_fade_us = -1.0 / HALF_LIFE_US["slow"]
    open_complaints = o.minimum(state["open_complaints"] * 1.0, COMPLAINTS_MOST)
    complaint_us = elapsed(o, "complaint_us", now_us, state["open_complaint_since"])
    feedback_us = elapsed(o, "feedback_us", now_us, state["last_feedback_at"])
    cancelled_us = elapsed(o, "cancelled_us", now_us, state["last_cancellation_at"])
    unanswered = state["last_feedback_at"] > state["last_follow_up_at"]
    cancelled = state["last_cancellation_at"] > state["last_commitment_at"]
    age_us = elapsed(o, "spend_age_us", now_us, state["last_event_at"])
    load = o.let("survey_load_now", state["survey_load"] * o.exp2(age_us * slow_fade_us))
    known_us = o.maximum(state["last_event_at"] - state["first_event_at"], 0.0)
    slow_rate = _daily(o, "slow", state["spend_slow"], known_us)
    fast_rate = _daily(o, "fast", state["spend_fast"], known_us)
    both_spend = o.both(slow_rate > 0.0, fast_rate > 0.0)
    spend_ratio = o.let(
        "spend_ratio",
        o.where(both_spend, o.maximum(fast_rate, 1e-9) / o.maximum(slow_rate, 1e-9), 1.0),
    )

    weeks = complaint_us / float(7 * DAY_US)
    raw = {
        "rhythm": base - p["intercept"],
        "score": p["evidence.score"] * (p["typical_score"] - score.overall) / 50.0,
        "trend": -p["evidence.trend"] * score.trend / 50.0,
        "volatility": p["evidence.volatility"] * score.volatility,
        "worst": p["evidence.worst"] * score.worst,
        "complaints": o.where(
            state["open_complaints"] > 0,
            p["evidence.complaints"] * open_complaints + p["evidence.complaint_age"] * o.log(1.0 + weeks),
            0.0,
        ),
        "feedback": o.where(unanswered, p["evidence.feedback"] * o.exp2(feedback_us * slow_fade_us), 0.0),
        "surveys": p["evidence.surveys"] * o.maximum(load - SURVEYS_FREE, 0.0),
        "spend": p["evidence.spend"] * o.maximum(o.minimum(-o.log(spend_ratio), 1.0), -1.0),
        "cancelled": o.where(cancelled, p["evidence.cancelled"] * o.exp2(cancelled_us * slow_fade_us), 0.0),
    }
    contributions = {name: o.let(f"because_{name}", raw[name]) for name in TERMS}
    log_odds = p["intercept"]
    for name in TERMS:
        log_odds = log_odds + contributions[name]
    log_odds = o.let("log_odds", log_odds)
    chance = o.let("risk", _inside(o, 1.0 / (1.0 + o.exp(-log_odds))))
    expected = o.let("expected_spend", o.maximum(slow_rate, 0.0) * horizon)
    rhythm_unknown = RHYTHM_EVIDENCE / (RHYTHM_EVIDENCE + active)
    return Risk(
        risk=chance,
        log_odds=log_odds,
        contributions=contributions,
        confidence=o.let("risk_confidence", 1.0 - (1.0 - score.confidence) * rhythm_unknown),
        expected_spend=expected,
        value_at_risk=o.let("value_at_risk", chance * expected),
        facts={
            "silence_days": silence_us / float(DAY_US),
            "usual_gap_days": o.let("usual_gap_days", until / o.maximum(repeats, 1.0)),
            "complaint_days": complaint_us / float(DAY_US),
            "feedback_days": feedback_us / float(DAY_US),
            "cancelled_days": cancelled_us / float(DAY_US),
            "survey_load": load,
            "spend_ratio": spend_ratio,
        },
    )


def _inside(o: Algebra, chance: Term) -> Term:
    return o.minimum(o.maximum(chance, SURE), 1.0 - SURE)


def _daily(o: Algebra, half_life: str, decayed: Term, known_us: Term) -> Term:
    """Spend a day, from a decayed sum that has run for ``known_us``: a steady stream of one unit a day sums to
    h / ln 2 (1 - 2^-(t / h)); at least a week is assumed, so that a first purchase is not a habit."""
    days = HALF_LIFE_US[half_life] / float(DAY_US)
    run_us = o.maximum(known_us, float(7 * DAY_US))
    steady = days / LN2 * (1.0 - o.exp2(run_us * (-1.0 / HALF_LIFE_US[half_life])))
    return o.let(f"spend_{half_life}_a_day", decayed / steady)
