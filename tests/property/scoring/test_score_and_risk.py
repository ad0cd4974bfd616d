"""Score, risk and bands stay within their bounds for any state a log can make, at any time."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.scoring.expressions import Arrays
from services.scoring.judge import assess, grounds
from services.scoring.risk.bands import next_band
from services.scoring.risk.features import TERMS
from services.scoring.risk.model import DEFAULT
from services.scoring.risk.words import SMALLEST, reasons
from services.scoring.score import PRIOR_VALENCE
from services.scoring.state import States
from services.scoring.step import Scorer, step
from tests.property.scoring.logs import DAY_US, START_US, Event, customers_of, logs, take

FAR_US = 2**53
"""The year 2255: the last moment that a double holds to the microsecond."""
SET = settings(max_examples=30, deadline=None)
AT_THE_PRIOR = 50 + 50 * PRIOR_VALENCE
PARAMETERS = DEFAULT.parameters()
HOUR_US = 3_600_000_000

moments = st.one_of(
    st.sampled_from([0, START_US, FAR_US]),
    st.integers(START_US - 100 * DAY_US, START_US + 2000 * DAY_US),
    st.integers(0, FAR_US),
)


def states_of(log: list[Event]) -> tuple[States, Scorer]:
    states, scorer = States.empty(customers_of(log)), Scorer.of(DEFAULT)
    take(states, log, range(len(log)), scorer, step)
    return states, scorer


@SET
@given(logs(60), moments)
def test_bounds_at_any_time(log: list[Event], now_us: int) -> None:
    states, scorer = states_of(log)
    with np.errstate(all="raise", under="ignore"):
        score, risk = assess(states, np.full(len(states), now_us), DEFAULT)
    for name, values in {"overall": score.overall, "fast": score.fast, **score.dimensions}.items():
        assert ((values >= 0) & (values <= 100)).all(), name
    assert (np.abs(score.trend) <= 100).all()
    for unit in (score.confidence, score.volatility, risk.confidence):
        assert ((unit >= 0) & (unit <= 1)).all()
    assert (score.worst >= 0).all()
    assert ((risk.risk > 0) & (risk.risk < 1)).all()
    assert (risk.expected_spend >= 0).all()
    assert ((risk.value_at_risk >= 0) & (risk.value_at_risk <= risk.expected_spend)).all()
    everything = [risk.log_odds, risk.expected_spend, *risk.contributions.values(), *risk.facts.values()]
    assert all(np.isfinite(values).all() for values in everything)
    at_us, everybody = np.full(len(states), now_us), np.arange(len(states))
    for sentences in reasons(grounds(states, everybody, at_us, score, risk, DEFAULT, scorer.touchpoints)):
        assert all(said["reason"] for said in sentences)


@SET
@given(logs(60), moments)
def test_reasons_add_up_to_the_log_odds(log: list[Event], now_us: int) -> None:
    states, scorer = states_of(log)
    score, risk = assess(states, np.full(len(states), now_us), DEFAULT)
    assert set(risk.contributions) == set(TERMS)
    total = DEFAULT.intercept + sum(risk.contributions.values())
    assert total == pytest.approx(risk.log_odds, rel=1e-12, abs=1e-12)
    plain = 1 / (1 + np.exp(-risk.log_odds))
    assert risk.risk == pytest.approx(np.clip(plain, 1e-6, 1 - 1e-6), rel=1e-12)
    at_us, everybody = np.full(len(states), now_us), np.arange(len(states))
    for i, told in enumerate(reasons(grounds(states, everybody, at_us, score, risk, DEFAULT, scorer.touchpoints))):
        values = [said["log_odds"] for said in told]
        assert [abs(value) for value in values] == sorted((abs(value) for value in values), reverse=True)
        small = [float(v[i]) for v in risk.contributions.values() if abs(v[i]) < SMALLEST]
        assert sum(values) + sum(small) == pytest.approx(float(risk.log_odds[i]) - DEFAULT.intercept, abs=1e-9)


@SET
@given(st.lists(st.sampled_from(["purchase", "renewal", "referral", "review", "outreach", "review_due"]), max_size=8))
def test_without_evidence_the_score_is_the_prior(kinds: list[str]) -> None:
    log = [Event(0, k, START_US + i * DAY_US, START_US + i * DAY_US, bytes([i] * 16)) for i, k in enumerate(kinds)]
    states = states_of(log)[0] if log else States.empty(1)
    score, _ = assess(states, np.array([START_US + 30 * DAY_US]), DEFAULT)
    for value in (score.overall, score.fast, *score.dimensions.values()):
        assert value[0] == pytest.approx(AT_THE_PRIOR, abs=1e-12)
    assert (score.confidence[0], score.trend[0], score.volatility[0], score.worst[0]) == (0, 0, 0, 0)


@SET
@given(logs(40))
def test_silence_leads_back_to_the_prior(log: list[Event]) -> None:
    states, _ = states_of(log)
    days = [0, 1, 30, 365, 10_000]
    last = max(event.occurred_us for event in log)
    scores = [assess(states, np.full(len(states), last + d * DAY_US), DEFAULT)[0] for d in days]
    for earlier, later in itertools.pairwise(scores):
        assert (np.abs(later.overall - AT_THE_PRIOR) <= np.abs(earlier.overall - AT_THE_PRIOR) + 1e-9).all()
        assert (later.confidence <= earlier.confidence + 1e-12).all()
        assert (later.worst <= earlier.worst).all()
    assert scores[-1].overall == pytest.approx(np.full(len(states), AT_THE_PRIOR), abs=1e-9)


@SET
@given(logs(40))
def test_events_ahead_of_now_have_just_happened(log: list[Event]) -> None:
    states, _ = states_of(log)
    first = min(event.occurred_us for event in log)
    last = max(event.occurred_us for event in log)
    at_last, _ = assess(states, np.full(len(states), last), DEFAULT)
    before, _ = assess(states, np.full(len(states), first - 1), DEFAULT)
    assert np.isfinite(before.overall).all()
    assert (before.confidence >= at_last.confidence - 1e-12).all()


def band(before: int, since_us: int, risk: float, at_us: int) -> int:
    return int(next_band(Arrays(), before, since_us, risk, at_us, PARAMETERS))


risks = st.one_of(
    st.floats(1e-6, 1 - 1e-6),
    st.sampled_from([value for name, value in PARAMETERS.items() if name.endswith(("_enter", "_leave"))]),
)
stays_us = st.one_of(st.integers(0, 10**12), st.just(24 * HOUR_US), st.just(24 * HOUR_US - 1))
bands = st.integers(0, 2)
ENTER = (PARAMETERS["bands.elevated_enter"], PARAMETERS["bands.high_enter"])
LEAVE = (PARAMETERS["bands.elevated_leave"], PARAMETERS["bands.high_leave"])


@given(bands, risks, stays_us)
def test_rising_takes_effect_at_once(before: int, risk: float, stay_us: int) -> None:
    after = band(before, START_US, risk, START_US + stay_us)
    assert after >= sum(risk >= level for level in ENTER)


@given(bands, risks, stays_us)
def test_falling_takes_the_leave_level_and_the_dwell(before: int, risk: float, stay_us: int) -> None:
    after = band(before, START_US, risk, START_US + stay_us)
    if after < before:
        assert risk < LEAVE[before - 1]
        assert stay_us >= PARAMETERS["bands.dwell_hours"] * HOUR_US
    if before and risk < LEAVE[0] and stay_us >= PARAMETERS["bands.dwell_hours"] * HOUR_US:
        assert after == 0


@given(bands, risks, stays_us)
def test_judging_again_changes_nothing(before: int, risk: float, stay_us: int) -> None:
    now = START_US + stay_us
    after = band(before, START_US, risk, now)
    since = now if after != before else START_US
    assert band(after, since, risk, now) == after


@given(bands, risks, risks, stays_us)
def test_more_risk_is_never_a_lower_band(before: int, one: float, other: float, stay_us: int) -> None:
    low, high = sorted((one, other))
    now = START_US + stay_us
    assert band(before, START_US, low, now) <= band(before, START_US, high, now)


@given(st.integers(1, 2), st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_between_leaving_and_entering_nothing_flaps(level: int, wobble: list[float]) -> None:
    """A risk that moves between a band's leave level and its enter level changes the band at most once."""
    low, high = LEAVE[level - 1], ENTER[level - 1]
    current, since, changes = level, START_US, 0
    for day, share in enumerate(wobble, start=1):
        now = START_US + day * 2 * DAY_US
        after = band(current, since, min(low + share * (high - low), np.nextafter(high, 0)), now)
        changes += after != current
        current, since = after, (now if after != current else since)
    assert changes == 0
