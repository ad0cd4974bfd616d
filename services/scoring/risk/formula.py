"""Loyalty risk as of any moment: P(the customer does not come back within the horizon).

One formula for the documented default and for every learnt model; they differ in numbers alone:

    log-odds = average + (1 + base_slope) (base - base_mean) + sum over features of slope (held value - mean)

``base`` is the log-odds of the BG/NBD or MBG/NBD model (`features.base_log_odds`), average = base_mean + intercept is
the log-odds of the average customer, and each feature is held to the range it was learnt from. A customer who never
came has ``no_activity_log_odds`` in place of all that describes comings. Summands that describe one thing make a term;
each term is a reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from services.scoring.expressions import Algebra, Term
from services.scoring.risk.features import OF_COMINGS, TERMS, facts, features
from services.scoring.score import Score

SURE: Final = 1e-6
"""No risk is nearer to 0 or 1 than this: nothing here is certain."""
LIMIT: Final = 13.815509557963773
"""ln((1 - SURE) / SURE): log-odds are held within."""
RHYTHM_EVIDENCE: Final = 2.0
"""Days with activity that make the rhythm half known."""
LEVERS: Final[Mapping[str, str]] = {
    "complaints": "resolve what is complained about",
    "feedback": "follow up the unhappy feedback",
    "surveys": "stop asking for feedback",
}
"""Terms that the company can end by something it does, and what that is."""


@dataclass(frozen=True, slots=True)
class Risk:
    """Risk 0..1, its signed contributions in log-odds by `TERMS`, and what is needed to say them in words.

    ``average + sum of contributions = log_odds``. ``relief``: by `LEVERS`, what the log-odds lose when the cause ends.
    """

    risk: Term
    log_odds: Term
    average: Term
    contributions: Mapping[str, Term]
    relief: Mapping[str, Term]
    confidence: Term
    expected_spend: Term
    value_at_risk: Term
    facts: Mapping[str, Term]


def risk(o: Algebra, state: Mapping[str, Term], score: Score, parameters: Mapping[str, Term], now_us: Term) -> Risk:
    """Risk of a state as of ``now_us``. ``parameters``: `RiskModel.parameters`, as numbers or SQL terms."""
    p = parameters
    known = facts(o, state, p, now_us)
    values = features(o, state, known, score, now_us)
    active = state["active_days"]
    nothing = active * 0.0
    came = o.let("came", o.minimum(active * 1.0, 1.0))

    average = p["base_mean"] + p["intercept"]
    raw = {}
    for term, names in TERMS.items():
        total = nothing
        for name in names:
            total = total + o.unless_zero(p[f"weights.{name}.slope"], partial(_weigh, o, p, name, values[name]))
        if term == "rhythm":
            total = total + (1.0 + p["base_slope"]) * (known.base - p["base_mean"])
        if term in OF_COMINGS:
            total = total * came
        if term == "rhythm":
            total = total + (1.0 - came) * (p["no_activity_log_odds"] - average)
        raw[term] = o.let(f"because_{term}", total)
    free = average + nothing
    for term in TERMS:
        free = free + raw[term]
    free = o.let("free_log_odds", free)
    log_odds = o.let("log_odds", o.maximum(o.minimum(free, LIMIT), -LIMIT))
    # What is beyond the limit is taken from the rhythm, so that the contributions still add up.
    contributions = raw | {"rhythm": raw["rhythm"] + (log_odds - free)}
    chance = o.let("risk", 1.0 / (1.0 + o.exp(-log_odds)))

    amount = o.maximum(known.spend_a_coming, 0.0)
    comings = state["activities"] * (amount > 0.0)
    worth = p["worth.p"] * (p["worth.gamma"] + comings * amount)
    worth = worth / o.maximum(p["worth.p"] * comings + p["worth.q"] - 1.0, 1e-12)
    rate = (p["base.r"] + known.repeats) / (p["base.alpha"] + known.age)
    expected = o.let("expected_spend", rate * known.horizon * worth * came)
    rhythm_unknown = RHYTHM_EVIDENCE / (RHYTHM_EVIDENCE + active)
    return Risk(
        risk=chance,
        log_odds=log_odds,
        average=average,
        contributions=contributions,
        relief={term: o.let(f"relief_{term}", raw[term] - _at_rest(o, term, p)) for term in LEVERS},
        confidence=o.let("risk_confidence", 1.0 - (1.0 - score.confidence) * rhythm_unknown),
        expected_spend=expected,
        value_at_risk=o.let("value_at_risk", chance * expected),
        facts={
            "silence_days": o.let("days_silent", known.silence * came),
            "usual_gap_days": o.let("usual_gap_days", known.span / o.maximum(known.repeats, 1.0)),
            "age_days": known.age,
            "complaint_days": known.complaint_days,
            "complaint_hours": o.let(
                "complaint_hours", known.complaint_days * 24.0 * o.minimum(state["open_complaints"] * 1.0, 1.0)
            ),
            "feedback_hours": o.let(
                "feedback_hours", known.feedback_days * 24.0 * (state["last_feedback_at"] > state["last_follow_up_at"])
            ),
            "feedback_days": known.feedback_days,
            "cancelled_days": known.cancelled_days,
            "feedback_waits": (state["last_feedback_at"] > state["last_follow_up_at"]) * 1.0,
            "is_cancelled": (state["last_cancellation_at"] > state["last_commitment_at"]) * 1.0,
            "contact_days": known.contact_days,
            "survey_load": known.survey_load,
            "spend_a_coming": known.spend_a_coming,
            "spend_ratio": known.spend_ratio,
        },
    )


def _at_rest(o: Algebra, term: str, p: Mapping[str, Term]) -> Term:
    """What a term adds when all its features are 0: no complaint, nothing unanswered, nobody asked."""
    total: Term = 0.0
    for name in TERMS[term]:
        total = total + _weigh(o, p, name, lambda: 0.0)
    return total


def _weigh(o: Algebra, p: Mapping[str, Term], name: str, value: Callable[[], Term]) -> Term:
    """What a feature adds at a value: slope x (the value held to its range, less the mean)."""
    slope, mean, low, high = (p[f"weights.{name}.{part}"] for part in ("slope", "mean", "low", "high"))
    return slope * (o.maximum(o.minimum(value(), high), low) - mean)
