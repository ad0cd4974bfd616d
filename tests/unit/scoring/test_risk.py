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
from schemas.tables import ACTIVITY_DAYS
from services.scoring.decay import DAY_US
from services.scoring.expressions import Arrays
from services.scoring.risk.features import BASE_LIMIT, TERMS
from services.scoring.risk.formula import Risk, risk
from services.scoring.risk.model import DEFAULT, Bands, Base, ModelError, RiskModel, Weight, Worth, documented
from services.scoring.risk.words import SMALLEST, move, reasons, sentences_sql
from services.scoring.score import score

NOW_US = 20_000 * DAY_US
TODAY = 20_000


def assessed(model: RiskModel = DEFAULT, /, **columns: Any) -> Risk:
    state: dict[str, Any] = {name: np.array([float(columns.get(name, 0))]) for name in (*FLOATS, *INTS)}
    days = np.zeros((1, ACTIVITY_DAYS), dtype=np.uint16)
    kept = columns.get("days", ())
    days[0, ACTIVITY_DAYS - len(kept) :] = kept
    state["activity_days"] = days
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


EXTREME = 1 / (1 + math.exp(BASE_LIMIT))
Grid = npt.NDArray[np.float64]


def none_within_by_integration(rhythm: Base, x: int, last: float, seen: float, horizon: float) -> float:
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
    "rhythm", [Base(), Base(r=1.4, alpha=40.0, a=0.3, b=4.0), Base(r=0.3, alpha=5.0, a=2.0, b=1.0)]
)
@pytest.mark.parametrize(
    ("active_days", "first_days_ago", "last_days_ago"),
    [(1, 0, 0), (1, 40, 40), (1, 400, 400), (2, 90, 60), (5, 120, 3), (5, 400, 200), (32, 200, 5), (32, 900, 90)],
)
def test_base_rate_is_the_integral_over_the_model(
    rhythm: Base, active_days: int, first_days_ago: int, last_days_ago: int
) -> None:
    model = dataclasses.replace(DEFAULT, base=rhythm)
    judged = assessed(model, **came(last_days_ago, active_days, first_days_ago))
    base = 1 / (1 + math.exp(-float(judged.contributions["rhythm"][0])))
    seen, last = float(first_days_ago), float(first_days_ago - last_days_ago)
    expected = none_within_by_integration(rhythm, active_days - 1, last, seen, model.horizon_days)
    assert base == pytest.approx(min(max(expected, EXTREME), 1 - EXTREME), rel=1e-6)


def test_base_rate_against_simulated_customers() -> None:
    """The same number by brute force: draw customers, keep those with the same past, count who does not come."""
    generator = np.random.default_rng(11)
    rhythm, draws, seen, horizon = Base(), 400_000, 90.0, 30.0
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
        ("complaints", {"open_complaints": 2, "open_complaint_since": NOW_US - WEEK}, 0.7 + 0.13 * math.log(8)),
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
    """Decayed sums of a steady spend over ``days`` on which the customer came, the last of them now."""
    fast = fast_a_day * 7 / math.log(2) * (1 - 2 ** (-days / 7))
    slow = slow_a_day * 90 / math.log(2) * (1 - 2 ** (-days / 90))
    return {"spend_fast": fast, "spend_slow": slow, "last_event_at": NOW_US, **came(0, 2, int(days))}


@pytest.mark.parametrize(
    ("fast", "slow", "expected"),
    [(2, 2, 0.0), (1, 2, 0.25 * math.log(2)), (2, 1, -0.25 * math.log(2)), (0.01, 2, 0.25), (0, 2, 0.0), (-1, 2, 0.0)],
)
def test_spend_counts_against_the_customers_own_level(fast: float, slow: float, expected: float) -> None:
    assert moved("spend", **spending(fast, slow)) == pytest.approx(expected, abs=1e-9)


def test_silence_is_no_change_of_spending() -> None:
    later = spending(2, 2) | {"last_activity_at": NOW_US - 20 * DAY_US, "last_event_at": NOW_US - 20 * DAY_US}
    assert moved("spend", **later) == pytest.approx(0.0, abs=1e-9)


def test_value_at_risk_is_risk_times_spend_while_coming() -> None:
    visits = {"activities": 10.0, "spend_micros": 10 * 35e6}
    judged = assessed(**came(1, 30, 60), **visits)
    rate = (DEFAULT.base.r + 29) / (DEFAULT.base.alpha + 60)
    assert float(judged.expected_spend[0]) == pytest.approx(rate * 30 * 35)
    assert float(judged.value_at_risk[0]) == pytest.approx(rate * 30 * 35 * float(judged.risk[0]))
    drawn = dataclasses.replace(DEFAULT, worth=Worth(p=3.0, q=4.0, gamma=60.0))
    own = 3.0 * (60.0 + 350.0) / (3.0 * 10 + 4.0 - 1)
    assert float(assessed(drawn, **came(1, 30, 60), **visits).expected_spend[0]) == pytest.approx(rate * 30 * own)


def test_who_never_came_or_only_took_money_back_has_no_value_at_risk() -> None:
    assert float(assessed(spend_micros=5e6, activities=0).value_at_risk[0]) == 0
    assert float(assessed(**came(1, 1, 1), activities=1, spend_micros=-5e6).value_at_risk[0]) == 0


WINDOWS = {
    "comings_third": 2.0,
    "comings_one": 3.0,
    "comings_four": 4.0,
    "silence_over_longest": math.log1p(5 / 60) / math.log(2),
    "silence_over_last": math.log1p(5 / 2) / math.log(2),
    "last_gap_over_mean": math.log(3 / (95 / 3 + 1)) / math.log(2),
    "gap_variability": math.log1p(math.sqrt((60**2 + 33**2 + 2**2) / 3 - (95 / 3) ** 2) / (95 / 3)) / math.log(2),
    # longer than 5 days of silence: 60 and 33; longer than 5 + 30: 60
    "own_gaps": None,
}


@pytest.mark.parametrize("name", WINDOWS)
def test_own_rhythm_by_hand(name: str) -> None:
    """Four days: 100, 40, 7 and 5 days ago."""
    of = next(term for term, names in TERMS.items() if name in names)
    one = {**DEFAULT.weights, name: Weight(1.0, 0.0, -1e9, 1e9)}
    history = {**came(5, 4, 100), "days": [TODAY - 100, TODAY - 40, TODAY - 7, TODAY - 5]}
    weighed = assessed(dataclasses.replace(DEFAULT, weights=one), **history)
    plain = assessed(**history)
    moved_by = float(weighed.contributions[of][0] - plain.contributions[of][0])
    wanted = WINDOWS[name]
    if wanted is None:
        base = float(plain.contributions["rhythm"][0])
        chance = 1 / (1 + math.exp(-base))
        assert moved_by == pytest.approx(math.log((1 + 2 * chance) / (1 + 2 * (1 - chance))) - base)
    elif name.startswith("comings"):
        assert moved_by == pytest.approx(math.log1p({2.0: 2, 3.0: 2, 4.0: 4}[wanted]))
    else:
        assert moved_by == pytest.approx(wanted * math.log(2))


def test_confidence_grows_with_felt_evidence_and_with_rhythm() -> None:
    def confidence(**columns: float) -> float:
        return float(assessed(**columns).confidence[0])

    assert confidence() == 0
    assert confidence(active_days=2) == pytest.approx(0.5)
    felt = {"last_event_at": NOW_US, "ease_slow_w": 2.0}
    assert confidence(**felt) == pytest.approx(0.5)
    assert confidence(active_days=2, **felt) == pytest.approx(0.75)


def test_reasons_are_counted_from_the_average_customer() -> None:
    other = dataclasses.replace(DEFAULT, base_mean=-1.5)
    columns = came(30, 4, 100)
    one, two = assessed(**columns), assessed(other, **columns)
    assert float(one.log_odds[0]) == pytest.approx(float(two.log_odds[0]))
    assert float(two.contributions["rhythm"][0]) == pytest.approx(float(one.contributions["rhythm"][0]) + 1.5)
    shifted = assessed(dataclasses.replace(DEFAULT, intercept=0.4), **columns)
    assert float(shifted.log_odds[0]) == pytest.approx(float(one.log_odds[0]) + 0.4)
    steeper = assessed(dataclasses.replace(DEFAULT, base_mean=1.0, base_slope=0.5), **columns)
    assert float(steeper.log_odds[0]) == pytest.approx(1.5 * (float(one.log_odds[0]) - 1.0) + 1.0)


def test_no_risk_is_certain() -> None:
    sure = dataclasses.replace(DEFAULT, no_activity_log_odds=500.0)
    assert float(assessed(sure).risk[0]) == pytest.approx(1 - 1e-6, abs=1e-12)
    never = dataclasses.replace(DEFAULT, no_activity_log_odds=-500.0)
    assert float(assessed(never).risk[0]) == pytest.approx(1e-6, rel=1e-6)


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
    "feedback_waits": 1.0,
    "survey_load": 4.5,
    "spend_ratio": 0.555,
    "spend_a_coming": 34.6,
    "age_days": 120.2,
    "contacted": True,
    "contact_days": 3.2,
    "cancelled_days": 2.0,
    "is_cancelled": 1.0,
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
        ("rhythm", {"active_days": 0}, "never came, on record"),
        ("score", {}, "experience score 39, typical is 60"),
        ("trend", {}, "experience is getting worse, 5 points lately"),
        ("trend", {"trend": 1.4}, "experience is getting better, 1 points lately"),
        ("volatility", {}, "experience is haphazard, volatility 44 of 100"),
        ("worst", {}, "a bad moment at support.phone, 12 days ago"),
        ("complaints", {}, "2 complaints open, the oldest for 0 days"),
        ("complaints", {"open_complaints": 1, "complaint_days": 1.0}, "complaint open for 1 day"),
        ("feedback", {}, "unhappy feedback unanswered for 1 day"),
        ("surveys", {}, "asked for feedback about 5 times lately"),
        ("spend", {}, "spends about 35 a visit, lately 56 % of usual"),
        ("frequency", {}, "came on 3 of the last 120 days"),
        ("contact", {}, "last contact without coming 3 days ago"),
        ("contact", {"contacted": False}, "no contact on record but coming"),
        ("cancelled", {}, "cancelled 2 days ago"),
        ("worst", {"worst_touchpoint": ""}, "no bad moment lately"),
        ("complaints", {"open_complaints": 0, "complaint_days": 20_000.0}, "no complaint open"),
        ("feedback", {"feedback_waits": 0.0}, "no unhappy feedback without an answer"),
        ("cancelled", {"is_cancelled": 0.0}, "no cancellation that stands"),
    ],
)
def test_reasons_in_words(name: str, changes: dict[str, Any], sentence: str) -> None:
    assert said(name, **changes) == sentence


def test_reasons_come_by_size_and_small_ones_are_left_out() -> None:
    moves = [0.1, -2.0, SMALLEST, SMALLEST * 0.99, 0.0, 0.0, 0.0, 0.1, 0.0, 0.0, 0.0, 0.3]
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
        base=Base("bg", r=0.1 + 0.2),
        weights={**DEFAULT.weights, "score": Weight(-1 / 3, 50.0, 0.0, 100.0)},
        worth=Worth(2.0, 3.0, 4.0),
        bands=Bands(elevated_enter=0.4, elevated_leave=0.3, high_enter=0.5, high_leave=0.5),
    )
    for model in (DEFAULT, other):
        assert RiskModel.from_json(model.to_json()) == model


def test_the_documented_default_may_count_other_kinds() -> None:
    assert documented(["subscription", "purchase", "renewal"]) is DEFAULT
    other = documented(["renewal", "review", "renewal"])
    assert other == dataclasses.replace(
        DEFAULT, version="default-2+renewal+review", activity_kinds=other.activity_kinds
    )
    assert other.activity_kinds == ("renewal", "review")
    with pytest.raises(ModelError, match="activity_kinds must be some of"):
        documented(["smiles"])


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
        (stored(base__alpha=...), "missing or unknown in base: alpha"),
        (stored(weights__weather=[0.1, 0, 0, 0]), "missing or unknown in weights: weather"),
        (stored(bands=3), "missing or unknown in bands"),
        (stored(horizon_days="30"), "cannot be read"),
        (stored(activity_kinds=None), "cannot be read"),
        (stored(activity_kinds=["review_due"]), "activity_kinds must be some of"),
        (stored(activity_kinds=[]), "activity_kinds must be some of"),
        (stored(version=""), "needs a version"),
        (stored(horizon_days=0), "horizon and base parameters must be positive"),
        (stored(base__r=-0.5), "horizon and base parameters must be positive"),
        (stored(base__variant="pareto"), "base.variant must be one of bg, mbg"),
        (stored(weights__score=[math.inf, 0, 0, 1]), "weights.score.slope must be a finite number"),
        (stored(weights__score=[1, 0, 2, 1]), "weights.score has a low above its high"),
        (stored(weights__score=[1, 0, 2]), "a weight is a list of slope, mean, low, high"),
        (stored(weights__score=...), "missing or unknown in weights: score"),
        (stored(worth__q=0.5), "worth needs p above 0"),
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
    assert parameters["base.alpha"] == DEFAULT.base.alpha
    assert parameters["base.modified"] == 1.0
    assert parameters["weights.score.slope"] == DEFAULT.weights["score"].slope
    assert all(isinstance(number, float) for number in parameters.values())


def test_what_the_company_can_end_lowers_the_risk_to_what_it_would_be() -> None:
    troubled = {
        "open_complaints": 1,
        "open_complaint_since": NOW_US - WEEK,
        "survey_load": 5.0,
        "last_event_at": NOW_US,
    }
    judged, without = assessed(**troubled), assessed(**{**troubled, "open_complaints": 0})
    left = float(judged.log_odds[0]) - float(judged.relief["complaints"][0])
    assert left == pytest.approx(float(without.log_odds[0]))
    assert float(judged.relief["surveys"][0]) == pytest.approx(0.16)
    assert float(judged.relief["feedback"][0]) == 0
