"""Loyalty risk: the base rate against an integral over its model, each term by hand, words, and stored models."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest

from schemas.state_layout import FLOATS, INTS
from services.scoring.decay import DAY_US
from services.scoring.expressions import Arrays
from services.scoring.risk.formula import TERMS, Risk, risk
from services.scoring.risk.model import DEFAULT, Bands, Evidence, ModelError, Rhythm, RiskModel
from services.scoring.risk.words import SMALLEST, move, reasons, sentences_sql
from services.scoring.score import score

NOW_US = 20_000 * DAY_US
TODAY = 20_000


def assessed(model: RiskModel = DEFAULT, /, **columns: float) -> Risk:
    state: dict[str, Any] = {name: np.array([float(columns.get(name, 0))]) for name in (*FLOATS, *INTS)}
    now = np.array([float(NOW_US)])
    o = Arrays()
    return risk(o, state, score(o, state, now), model.parameters(), now)


def came(days_ago: float, active_days: int, first_days_ago: int) -> dict[str, float]:
    """A customer's rhythm: distinct active days, the first and the last of them."""
    return {
        "active_days": active_days,
        "first_active_day": TODAY - first_days_ago,
        "last_activity_at": NOW_US - days_ago * DAY_US,
    }


def moved(name: str, **columns: float) -> float:
    return float(assessed(**columns).contributions[name][0])


Grid = npt.NDArray[np.float64]


def none_within_by_integration(rhythm: Rhythm, x: int, last: float, seen: float, horizon: float) -> float:
    """P(no purchase within the horizon | x repeats, the last at ``last``, watched for ``seen``), straight from the
    story: purchases are Poisson at a gamma rate while alive, and after each, also the first, a customer leaves with
    a beta probability. Integrated over rate and probability on a grid."""
    log_rate = np.linspace(-100, 8, 8001)
    rate = np.exp(log_rate)
    logit = np.linspace(-60, 60, 8001)
    leave, stay = 1 / (1 + np.exp(-logit)), 1 / (1 + np.exp(logit))
    # Densities over log(rate) and logit(leave), unnormalised: the Jacobians are rate and leave * stay.
    rate_density = rate**rhythm.r * np.exp(-rhythm.alpha * rate)
    leave_density = leave**rhythm.a * stay**rhythm.b

    def over_rate(values: Grid) -> float:
        return float(np.trapezoid(values * rate_density, log_rate))

    def over_leave(values: Grid) -> float:
        return float(np.trapezoid(values * leave_density, logit))

    gone = over_rate(rate**x * np.exp(-rate * last)) * over_leave(stay**x * leave)
    here = over_rate(rate**x * np.exp(-rate * seen)) * over_leave(stay ** (x + 1))
    here_and_none = over_rate(rate**x * np.exp(-rate * (seen + horizon))) * over_leave(stay ** (x + 1))
    return (gone + here_and_none) / (gone + here)


@pytest.mark.parametrize(
    "rhythm", [Rhythm(), Rhythm(r=1.4, alpha=40.0, a=0.3, b=4.0), Rhythm(r=0.3, alpha=5.0, a=2.0, b=1.0)]
)
@pytest.mark.parametrize(
    ("active_days", "first_days_ago", "last_days_ago"),
    [(1, 0, 0), (1, 40, 40), (1, 400, 400), (2, 90, 60), (5, 120, 3), (5, 400, 200), (32, 200, 5), (32, 900, 90)],
)
def test_base_rate_is_the_integral_over_the_model(
    rhythm: Rhythm, active_days: int, first_days_ago: int, last_days_ago: int
) -> None:
    model = dataclasses.replace(DEFAULT, rhythm=rhythm)
    judged = assessed(model, **came(last_days_ago, active_days, first_days_ago))
    base = 1 / (1 + math.exp(-float(judged.contributions["rhythm"][0])))
    seen, last = float(first_days_ago), float(first_days_ago - last_days_ago)
    expected = none_within_by_integration(rhythm, active_days - 1, last, seen, model.horizon_days)
    assert base == pytest.approx(min(max(expected, 1e-6), 1 - 1e-6), rel=1e-6)


def test_base_rate_against_simulated_customers() -> None:
    """The same number by brute force: draw customers, keep those with the same past, count who does not come."""
    generator = np.random.default_rng(11)
    rhythm, draws, seen, horizon = Rhythm(), 400_000, 90.0, 30.0
    rate = generator.gamma(rhythm.r, 1 / rhythm.alpha, draws)
    leave = generator.beta(rhythm.a, rhythm.b, draws)
    at, alive = np.zeros(draws), generator.random(draws) >= leave
    repeats, came_later = np.zeros(draws, dtype=int), np.zeros(draws, dtype=bool)
    for _ in range(60):
        at = np.where(alive, at + generator.exponential(1, draws) / np.maximum(rate, 1e-300), np.inf)
        repeats += at <= seen
        came_later |= (at > seen) & (at <= seen + horizon)
        alive &= (at <= seen) & (generator.random(draws) >= leave)
    once = repeats == 0
    model_says = 1 / (1 + math.exp(-moved("rhythm", **came(seen, 1, int(seen)))))
    share = 1 - came_later[once].mean()
    assert once.sum() > 100_000
    assert model_says == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / once.sum()))


def test_without_behaviour_on_record_the_base_is_the_documented_one() -> None:
    judged = assessed()
    assert float(judged.log_odds[0]) == DEFAULT.no_activity_log_odds
    assert all(float(judged.contributions[name][0]) == 0 for name in TERMS if name != "rhythm")
    assert float(judged.confidence[0]) == 0


def test_silence_raises_the_risk_and_coming_back_lowers_it() -> None:
    silent = [float(assessed(**came(days, 20, 200)).risk[0]) for days in range(0, 200, 10)]
    assert silent == sorted(silent)
    assert silent[0] < 0.5 < 0.95 < silent[-1]


def test_a_one_time_buyer_is_not_called_safe() -> None:
    assert float(assessed(**came(0, 1, 0)).risk[0]) > 0.5


WEEK = 7 * DAY_US


@pytest.mark.parametrize(
    ("name", "columns", "expected"),
    [
        # 4 units of weight at -1: score 50 + 50 (0.4 - 4) / 6 = 20, forty points below typical
        ("score", {"last_event_at": NOW_US, "ease_slow_w": 4.0, "ease_slow_s": -4.0}, 1.4 * 40 / 50),
        # fast 50 + 50 (0.4 - 2) / 4 = 30 against slow 50 + 50 (0.4 - 2) / 4 = 30: none; with slow 60: half of -30
        ("trend", {"last_event_at": NOW_US, "ease_fast_w": 2.0, "ease_fast_s": -2.0}, 0.9 * 15 / 50),
        ("volatility", {"last_event_at": NOW_US, "ease_slow_w": 2.0, "ease_slow_q": 2.0}, 0.5 * 0.5),
        ("worst", {"worst_severity": 2.0, "worst_at": NOW_US - 90 * DAY_US}, 0.35 * 1.0),
        ("complaints", {"open_complaints": 1, "open_complaint_since": NOW_US}, 0.35),
        ("complaints", {"open_complaints": 2, "open_complaint_since": NOW_US - WEEK}, 0.7 + 0.3 * math.log(2)),
        ("complaints", {"open_complaints": 4, "open_complaint_since": NOW_US}, 0.35 * 3),
        ("complaints", {"open_complaints": 0, "open_complaint_since": 0}, 0.0),
        ("feedback", {"last_feedback_at": NOW_US, "last_follow_up_at": NOW_US - 1}, 0.3),
        ("feedback", {"last_feedback_at": NOW_US - 90 * DAY_US}, 0.15),
        ("feedback", {"last_feedback_at": NOW_US - 5, "last_follow_up_at": NOW_US - 5}, 0.0),
        ("surveys", {"survey_load": 5.0, "last_event_at": NOW_US}, 0.08 * 2),
        ("surveys", {"survey_load": 6.0, "last_event_at": NOW_US - 90 * DAY_US}, 0.0),
        ("cancelled", {"last_cancellation_at": NOW_US, "last_commitment_at": NOW_US - 1}, 2.2),
        ("cancelled", {"last_cancellation_at": NOW_US - 180 * DAY_US}, 0.55),
        ("cancelled", {"last_cancellation_at": NOW_US - 2, "last_commitment_at": NOW_US - 1}, 0.0),
    ],
)
def test_each_term_by_hand(name: str, columns: dict[str, float], expected: float) -> None:
    assert moved(name, **columns) == pytest.approx(expected, abs=1e-9)


def spending(fast_a_day: float, slow_a_day: float, days: float = 10_000) -> dict[str, float]:
    """Decayed sums of a steady spend over ``days``."""
    fast = fast_a_day * 7 / math.log(2) * (1 - 2 ** (-days / 7))
    slow = slow_a_day * 90 / math.log(2) * (1 - 2 ** (-days / 90))
    return {"spend_fast": fast, "spend_slow": slow, "last_event_at": NOW_US, "first_event_at": NOW_US - days * DAY_US}


@pytest.mark.parametrize(
    ("fast", "slow", "expected"),
    [(2, 2, 0.0), (1, 2, 0.25 * math.log(2)), (2, 1, -0.25 * math.log(2)), (0.01, 2, 0.25), (0, 2, 0.0), (-1, 2, 0.0)],
)
def test_spend_counts_against_the_customers_own_level(fast: float, slow: float, expected: float) -> None:
    assert moved("spend", **spending(fast, slow)) == pytest.approx(expected, abs=1e-9)


def test_value_at_risk_is_risk_times_expected_spend() -> None:
    judged = assessed(**spending(3, 3), **came(1, 30, 60))
    assert float(judged.expected_spend[0]) == pytest.approx(3 * 30)
    assert float(judged.value_at_risk[0]) == pytest.approx(90 * float(judged.risk[0]))


def test_a_first_purchase_is_not_a_habit() -> None:
    judged = assessed(spend_fast=100.0, spend_slow=100.0, first_event_at=NOW_US, last_event_at=NOW_US)
    week = 90 / math.log(2) * (1 - 2 ** (-7 / 90))
    assert float(judged.expected_spend[0]) == pytest.approx(100 / week * 30)
    refunded = assessed(spend_fast=-5.0, spend_slow=-5.0, first_event_at=NOW_US, last_event_at=NOW_US)
    assert float(refunded.value_at_risk[0]) == 0


def test_confidence_grows_with_felt_evidence_and_with_rhythm() -> None:
    def confidence(**columns: float) -> float:
        return float(assessed(**columns).confidence[0])

    assert confidence() == 0
    assert confidence(active_days=2) == pytest.approx(0.5)
    felt = {"last_event_at": NOW_US, "ease_slow_w": 2.0}
    assert confidence(**felt) == pytest.approx(0.5)
    assert confidence(active_days=2, **felt) == pytest.approx(0.75)


def test_the_intercept_is_what_reasons_are_counted_from() -> None:
    other = dataclasses.replace(DEFAULT, intercept=-1.5)
    columns = came(30, 4, 100)
    one, two = assessed(**columns), assessed(other, **columns)
    assert float(one.log_odds[0]) == pytest.approx(float(two.log_odds[0]))
    assert float(two.contributions["rhythm"][0]) == pytest.approx(float(one.contributions["rhythm"][0]) + 1.5)


def test_no_risk_is_certain() -> None:
    sure = dataclasses.replace(DEFAULT, no_activity_log_odds=500.0)
    assert float(assessed(sure).risk[0]) == 1 - 1e-6
    assert float(assessed(dataclasses.replace(DEFAULT, no_activity_log_odds=-500.0)).risk[0]) == 1e-6


FACTS: dict[str, Any] = {
    "active_days": 3,
    "silence_days": 41.9,
    "usual_gap_days": 1.2,
    "score": 38.5,
    "typical_score": 60.0,
    "trend": -4.6,
    "volatility": 0.437,
    "worst_touchpoint": "support.phone",
    "worst_days": 12.0,
    "open_complaints": 2,
    "complaint_days": 0.4,
    "feedback_days": 1.9,
    "survey_load": 4.5,
    "spend_ratio": 0.555,
    "cancelled_days": 2.0,
}


def said(name: str, **changes: Any) -> str:
    moves = {move(term): 1.0 if term == name else 0.0 for term in TERMS}
    ((reason,),) = reasons(pl.DataFrame([{**FACTS, **changes, **moves}])).to_list()
    assert reason["log_odds"] == 1.0
    return str(reason["reason"])


@pytest.mark.parametrize(
    ("name", "changes", "sentence"),
    [
        ("rhythm", {}, "last came 41 days ago, usual gap 1 day"),
        ("rhythm", {"active_days": 1}, "came once, 41 days ago"),
        ("rhythm", {"active_days": 0}, "no purchase or renewal on record"),
        ("score", {}, "experience score 39, typical is 60"),
        ("trend", {}, "experience is getting worse, 5 points lately"),
        ("trend", {"trend": 1.4}, "experience is getting better, 1 points lately"),
        ("volatility", {}, "experience is haphazard, volatility 44 of 100"),
        ("worst", {}, "a bad moment at support.phone, 12 days ago"),
        ("complaints", {}, "2 complaints open, the oldest for 0 days"),
        ("complaints", {"open_complaints": 1, "complaint_days": 1.0}, "complaint open for 1 day"),
        ("feedback", {}, "unhappy feedback unanswered for 1 day"),
        ("surveys", {}, "asked for feedback about 5 times lately"),
        ("spend", {}, "spends less lately, 56 % of usual"),
        ("spend", {"spend_ratio": 1.5}, "spends more lately, 150 % of usual"),
        ("cancelled", {}, "cancelled 2 days ago"),
    ],
)
def test_reasons_in_words(name: str, changes: dict[str, Any], sentence: str) -> None:
    assert said(name, **changes) == sentence


def test_reasons_come_by_size_and_small_ones_are_left_out() -> None:
    moves = [0.1, -2.0, SMALLEST, SMALLEST * 0.99, 0.1, 0.0, 0.0, 0.0, 0.0, 0.3]
    judged = {**FACTS, **{move(term): moved for term, moved in zip(TERMS, moves, strict=True)}}
    told, nothing = reasons(pl.DataFrame([judged, {**FACTS, **{move(term): 0.0 for term in TERMS}}])).to_list()
    assert nothing == []
    assert [said["log_odds"] for said in told] == [-2.0, 0.3, 0.1, 0.1, SMALLEST]
    assert told[2]["reason"].startswith("last came")
    assert told[3]["reason"].startswith("a bad moment")


def test_every_term_has_its_words_in_both_spellings() -> None:
    assert set(sentences_sql(lambda name: name)) == set(TERMS)
    assert all(said(name) for name in TERMS)


def test_a_stored_model_comes_back_as_it_was() -> None:
    other = RiskModel(
        "fit-7",
        horizon_days=45.5,
        activity_kinds=("purchase",),
        rhythm=Rhythm(r=0.1 + 0.2),
        evidence=Evidence(score=-1 / 3),
        bands=Bands(elevated_enter=0.4, elevated_leave=0.3, high_enter=0.5, high_leave=0.5),
    )
    for model in (DEFAULT, other):
        assert RiskModel.from_json(model.to_json()) == model


def stored(**changes: Any) -> str:
    document = json.loads(DEFAULT.to_json())
    for path, value in changes.items():
        *parents, last = path.split("__")
        place = document
        for name in parents:
            place = place[name]
        if value is ...:
            del place[last]
        else:
            place[last] = value
    return json.dumps(document)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "missing or unknown in the model"),
        (stored(horizon_days=...), "missing or unknown in the model: horizon_days"),
        (stored(season=1), "missing or unknown in the model: season"),
        (stored(rhythm__alpha=...), "missing or unknown in rhythm: alpha"),
        (stored(evidence__weather=0.1), "missing or unknown in evidence: weather"),
        (stored(bands=3), "missing or unknown in bands"),
        (stored(horizon_days="30"), "cannot be read"),
        (stored(activity_kinds=None), "cannot be read"),
        (stored(activity_kinds=["emotion"]), "activity_kinds must be some of"),
        (stored(activity_kinds=[]), "activity_kinds must be some of"),
        (stored(version=""), "needs a version"),
        (stored(horizon_days=0), "horizon and rhythm parameters must be positive"),
        (stored(rhythm__r=-0.5), "horizon and rhythm parameters must be positive"),
        (stored(evidence__score=math.inf), "evidence.score must be a finite number"),
        (stored(bands__high_enter=1.0), "band levels must ascend"),
        (stored(bands__high_leave=0.95), "band levels must ascend"),
        (stored(bands__elevated_leave=0.9), "band levels must ascend"),
    ],
)
def test_a_model_that_cannot_be_used_is_refused_by_name(text: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        RiskModel.from_json(text)


def test_parameters_are_every_number_by_its_dotted_name() -> None:
    parameters = DEFAULT.parameters()
    assert parameters["rhythm.alpha"] == DEFAULT.rhythm.alpha
    assert {name.split(".")[-1] for name in parameters if name.startswith("evidence.")} == {
        *(set(TERMS) - {"rhythm"}),
        "complaint_age",
    }
    assert all(isinstance(number, float) for number in parameters.values())
