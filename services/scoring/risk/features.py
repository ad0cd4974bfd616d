"""What the risk weighs, worked out of a customer's state at a moment: own rhythm, spend, contact, what was felt.

The same numbers that `services.learning` fits its coefficients to, from events; a test holds the two together. Days
are UTC days since 1970; windows and reference gaps are multiples of the horizon, so that a grocer and a car dealer
need no different features.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from services.scoring.decay import DAY_US, HALF_LIFE_US
from services.scoring.expressions import Algebra, Term
from services.scoring.score import Score, elapsed

TERMS: Final[Mapping[str, tuple[str, ...]]] = {
    "rhythm": (
        "silence",
        "silence_over_longest",
        "silence_over_last",
        "own_gaps",
        "once_only",
        "gap_variability",
        "last_gap_over_mean",
    ),
    "frequency": ("age", "repeats", "comings_third", "comings_one", "comings_four"),
    "spend": ("spend_a_coming", "spend_slow", "spend_trend"),
    "contact": ("contacts", "contact_silence"),
    "score": ("score",),
    "trend": ("trend",),
    "volatility": ("volatility",),
    "worst": ("worst",),
    "complaints": ("open_complaints", "complaint_days"),
    "feedback": ("feedback_unanswered",),
    "surveys": ("survey_load",),
    "cancelled": ("cancelled",),
}
"""Features that are said in one sentence, since they describe one thing. The base belongs to the rhythm."""
FEATURES: Final = tuple(name for names in TERMS.values() for name in names)
OF_COMINGS: Final = ("rhythm", "frequency", "spend", "contact")
"""Terms that say nothing of a customer who never came."""

BASE_LIMIT: Final = 12.0
"""Base log-odds beyond this say no more: 6 in a million."""
OWN_GAP_STRENGTH: Final = 2.0
"""Own gaps that count as much as the base in `own_gaps`."""
LEAST_RUN_DAYS: Final = 7.0
"""What a decayed sum needs at least, so that a first purchase is not a habit."""
MOST_TREND: Final = 3.0
LN2: Final = 0.6931471805599453
_LEAST: Final = 1e-12
_MOST_EXPONENT: Final = 900.0


@dataclass(frozen=True, slots=True)
class Facts:
    """What features and sentences share. Days, unless the name says otherwise."""

    silence: Term
    """Since the latest day with a coming, from its midnight on."""
    age: Term
    """Since the oldest kept day with a coming."""
    span: Term
    """From that day to the latest."""
    repeats: Term
    horizon: Term
    base: Term
    """Log-odds of no coming by the base model."""
    complaint_days: Term
    feedback_days: Term
    cancelled_days: Term
    contact_days: Term
    survey_load: Term
    spend_a_coming: Term
    """Units of currency."""
    spend_ratio: Term
    """Spend a day by the fast half-life over that by the slow one, as of the latest coming; 1 if there is none."""


def base_log_odds(
    o: Algebra, repeats: Term, span: Term, age: Term, horizon: Term, parameters: Mapping[str, Term]
) -> Term:
    """Log-odds of no coming within the horizon, by BG/NBD (``base.modified`` 0) or MBG/NBD (1), within `BASE_LIMIT`.

    With x repeat days, the last t_x days after the first, watched for T days, k = ``base.modified``:

        left / alive = a / (b + x - 1 + k) ((alpha + T) / (alpha + t_x))^(r + x)      (0 if k = x = 0)
        silent       = ((alpha + T) / (alpha + T + H))^(r + x)
        odds         = (left / alive + silent) / (1 - silent)

    (Fader, Hardie, Lee 2005; Batislam, Denizel, Filiztekin 2007; the second is the gamma-mixed Poisson chance of none
    while alive, and leaving can only follow a coming.)
    """
    p = parameters
    shape = o.let("rhythm_shape", p["base.r"] + repeats)
    grown = o.let("rhythm_grown", o.log(p["base.alpha"] + age))
    often = o.maximum(p["base.b"] + repeats - 1.0 + p["base.modified"], _LEAST)
    left = p["base.a"] / often * o.exp(shape * (grown - o.log(p["base.alpha"] + span)))
    gone = o.let("gone_odds", left * o.minimum(p["base.modified"] + repeats, 1.0))
    silent = o.let("silent", o.exp(shape * (grown - o.log(p["base.alpha"] + age + horizon))))
    free = o.log(o.maximum(gone + silent, 1e-300)) - o.log(o.maximum(1.0 - silent, _LEAST))
    return o.let("base", o.maximum(o.minimum(free, BASE_LIMIT), -BASE_LIMIT))


def facts(o: Algebra, state: Mapping[str, Term], parameters: Mapping[str, Term], now_us: Term) -> Facts:
    """Facts of a state as of ``now_us``. Those of comings mean nothing where ``active_days`` is 0."""
    now = now_us / float(DAY_US)
    first = state["first_active_day"]
    last = o.let("last_day", o.minimum(o.floor(state["last_activity_at"] / float(DAY_US)), 65535.0))
    repeats = o.let("repeats", o.maximum(state["active_days"] - 1.0, 0.0))
    age = o.let("age_days", o.maximum(now - first, 0.0))
    span = o.let("active_span_days", o.maximum(o.minimum(last - first, age), 0.0))
    horizon = parameters["horizon_days"]

    def days_since(name: str, at: Term) -> Term:
        return o.let(name, elapsed(o, f"{name}_us", now_us, at) / float(DAY_US))

    faded = -1.0 / HALF_LIFE_US["slow"]
    age_us = elapsed(o, "sums_age_us", now_us, state["last_event_at"])
    fast, slow = (_daily_at_last_coming(o, half_life, state) for half_life in ("fast", "slow"))
    both = o.both(slow > 0.0, fast > 0.0)
    return Facts(
        silence=o.let("silence_days", o.maximum(now - last, 0.0)),
        age=age,
        span=span,
        repeats=repeats,
        horizon=horizon,
        base=base_log_odds(o, repeats, span, age, horizon, parameters),
        complaint_days=days_since("complaint_days", state["open_complaint_since"]),
        feedback_days=days_since("feedback_days", state["last_feedback_at"]),
        cancelled_days=days_since("cancelled_days", state["last_cancellation_at"]),
        contact_days=days_since("contact_days", state["last_contact_at"]),
        survey_load=o.let("survey_load_now", state["survey_load"] * o.exp2(age_us * faded)),
        spend_a_coming=o.let("spend_a_coming", state["spend_micros"] / 1e6 / o.maximum(state["activities"] * 1.0, 1.0)),
        spend_ratio=o.let("spend_ratio", o.where(both, o.maximum(fast, _LEAST) / o.maximum(slow, _LEAST), 1.0)),
    )


def _daily_at_last_coming(o: Algebra, half_life: str, state: Mapping[str, Term]) -> Term:
    """Spend a day as of the latest coming, from a decayed sum that has run since the oldest kept day: a steady unit a
    day sums to h / ln 2 (1 - 2^-(t / h)). As of the latest coming, so that silence is no change of spending."""
    days = HALF_LIFE_US[half_life] / float(DAY_US)
    back = (state["last_event_at"] - state["last_activity_at"]) / HALF_LIFE_US[half_life]
    then = state[f"spend_{half_life}"] * o.exp2(o.maximum(o.minimum(back, _MOST_EXPONENT), 0.0))
    run = o.maximum(state["last_activity_at"] / float(DAY_US) - state["first_active_day"], LEAST_RUN_DAYS)
    return o.let(f"spend_{half_life}_a_day", then / (days / LN2 * (1.0 - o.exp2(run * (-1.0 / days)))))


def features(
    o: Algebra, state: Mapping[str, Term], known: Facts, score: Score, now_us: Term
) -> Mapping[str, Callable[[], Term]]:
    """Each of `FEATURES` as something to be worked out, once, if it is wanted.

    Choices are products with 0 or 1: ClickHouse would filter the rows for each branch of an `if` (twice the time).
    """
    now = now_us / float(DAY_US)
    horizon, silence, repeats = known.horizon, known.silence, known.repeats
    days = state["activity_days"]
    gaps = o.gaps(days)
    mean = o.let("mean_gap_days", known.span / o.maximum(repeats, 1.0))
    age_us = o.maximum(now_us - state["last_event_at"], 0.0)
    faded = o.exp2(age_us * (-1.0 / HALF_LIFE_US["slow"]))

    def log1p(x: Term) -> Term:
        return o.log(1.0 + x)

    again = o.let("came_again", o.minimum(repeats, 1.0))

    def own(x: Term) -> Term:
        return x * again

    def signed_log(x: Term) -> Term:
        size = o.maximum(x, -x)
        return x / o.maximum(size, 1e-300) * o.log(1.0 + size)

    def within(horizons: float) -> Term:
        return log1p(o.days_from(days, now - horizon * horizons))

    def spread() -> Term:
        mean_square = o.squared_gaps(gaps) / o.maximum(repeats, 1.0)
        return o.sqrt(o.maximum(mean_square - mean * mean, 0.0))

    def own_gaps() -> Term:
        chance = o.let("base_chance", 1.0 / (1.0 + o.exp(-known.base)))
        outlasting = o.let("gaps_beyond_silence", o.gaps_beyond(gaps, silence))
        too_long = o.let("gaps_beyond_horizon", o.gaps_beyond(gaps, silence + horizon))
        strength = OWN_GAP_STRENGTH
        odds = (too_long + chance * strength) / (outlasting - too_long + (1.0 - chance) * strength)
        return o.log(odds) - known.base

    def unanswered() -> Term:
        fading = o.exp2(known.feedback_days * (-float(DAY_US) / HALF_LIFE_US["slow"]))
        return fading * (state["last_feedback_at"] > state["last_follow_up_at"])

    def cancelled() -> Term:
        fading = o.exp2(known.cancelled_days * (-float(DAY_US) / HALF_LIFE_US["slow"]))
        return fading * (state["last_cancellation_at"] > state["last_commitment_at"])

    return {
        "silence": lambda: log1p(silence),
        "silence_over_longest": lambda: own(log1p(silence / o.maximum(o.longest_gap(gaps), 1.0))),
        "silence_over_last": lambda: own(log1p(silence / o.maximum(o.last_gap(gaps), 1.0))),
        "own_gaps": own_gaps,
        "once_only": lambda: 1.0 - again,
        "gap_variability": lambda: own(log1p(spread() / o.maximum(mean, 1.0))),
        "last_gap_over_mean": lambda: own(o.log((o.last_gap(gaps) + 1.0) / (mean + 1.0))),
        "age": lambda: log1p(known.age),
        "repeats": lambda: log1p(repeats),
        "comings_third": lambda: within(1 / 3),
        "comings_one": lambda: within(1.0),
        "comings_four": lambda: within(4.0),
        "spend_a_coming": lambda: signed_log(known.spend_a_coming),
        "spend_slow": lambda: signed_log(state["spend_slow"] * faded),
        "spend_trend": lambda: o.maximum(o.minimum(o.log(known.spend_ratio), MOST_TREND), -MOST_TREND),
        "contacts": lambda: log1p(state["contact_load"] * faded),
        "contact_silence": lambda: log1p(o.minimum(known.contact_days, known.age)),
        "score": lambda: score.overall,
        "trend": lambda: score.trend,
        "volatility": lambda: score.volatility,
        "worst": lambda: score.worst,
        "open_complaints": lambda: state["open_complaints"] * 1.0,
        "complaint_days": lambda: log1p(known.complaint_days) * (state["open_complaints"] > 0),
        "feedback_unanswered": unanswered,
        "survey_load": lambda: known.survey_load,
        "cancelled": cancelled,
    }
