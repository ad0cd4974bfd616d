"""Experience inferred from operations: learnt from the past, with bends, and honest about what is missing."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from scipy.special import expit

from services.learning import inferred
from services.learning.errors import BadHistory, ModelMismatch, TooLittle
from services.learning.inferred import InferredModel
from services.learning.journeys import journey_facts
from services.learning.judging import LIMIT
from services.learning.measures import auc

DAY_US = 86_400_000_000


def _journeys(n: int, seed: int = 1) -> tuple[pl.DataFrame, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    late = random.normal(-2.0, 3.0, n)
    facts = pl.DataFrame(
        {
            "journey_id": [str(i) for i in range(n)],
            "late": pl.Series(late, nan_to_null=True),
            "weight": pl.Series(np.where(random.random(n) < 0.2, np.nan, random.normal(size=n)), nan_to_null=True),
        }
    )
    bad = (random.random(n) < expit(-2.5 + 1.2 * np.maximum(late, 0.0))).astype(np.float64)
    return facts, bad, np.arange(n) * DAY_US // 20


def test_a_bend_is_found_and_judged_on_later_journeys() -> None:
    facts, bad, asked = _journeys(3000)
    model = inferred.fit(facts, bad, asked, asked + DAY_US, 120 * DAY_US, version="t")
    assert model.out_of_sample is not None
    assert model.learnt_from < 2400
    assert any(fact.bends for fact in model.facts)
    later = slice(2400, None)
    assert auc(bad[later], inferred.log_odds(model, facts[later])) > 0.75
    assert InferredModel.model_validate_json(model.model_dump_json()) == model


def test_later_journeys_and_late_answers_change_nothing() -> None:
    facts, bad, asked = _journeys(1500)
    split = 50 * DAY_US
    model = inferred.fit(facts, bad, asked, asked + DAY_US, split, version="t")
    known = asked + DAY_US < split
    assert model == inferred.fit(
        facts.filter(pl.Series(known)), bad[known], asked[known], asked[known] + DAY_US, split, version="t"
    )


def test_missing_and_extreme_facts_give_a_chance() -> None:
    facts, bad, asked = _journeys(1500)
    model = inferred.fit(facts, bad, asked, asked, 1000 * DAY_US, version="t")
    strange = pl.DataFrame({"late": [None, float("inf"), 1e300, -1e300], "weight": [None, 0.0, float("nan"), 1.0]})
    assert np.isfinite(inferred.log_odds(model, strange)).all()
    with pytest.raises(ModelMismatch, match="needs fact weight"):
        inferred.log_odds(model, strange.drop("weight"))


def test_refusals() -> None:
    facts, bad, asked = _journeys(300)
    with pytest.raises(TooLittle, match="ask more"):
        inferred.fit(facts, np.zeros(300), asked, asked, 1000 * DAY_US, version="t")
    with pytest.raises(BadHistory, match="one row a journey"):
        inferred.fit(facts, bad[:5], asked, asked, 1000 * DAY_US, version="t")
    with pytest.raises(BadHistory, match="metric"):
        journey_facts(pl.DataFrame({"journey_id": []}), pl.DataFrame())


def test_facts_are_those_known_at_the_moment() -> None:
    def event(journey: str, touchpoint: str, day: float, metric: str | None, score: float | None) -> dict[str, object]:
        at = round(day * DAY_US)
        amount = 50.0 if touchpoint == "checkout" else None
        return {
            "journey_id": journey,
            "touchpoint": touchpoint,
            "occurred_at": at,
            "metric": metric,
            "score": score,
            "amount": amount,
        }

    events = pl.DataFrame(
        [
            event("kept", "checkout", 0, "promised_days", 5),
            event("kept", "delivery", 7, "days_vs_promise", 2),
            event("open", "checkout", 0, "promised_days", 5),
            event("open", "delivery", 30, "days_vs_promise", 25),
        ]
    )
    moments = pl.DataFrame(
        {"journey_id": ["open", "kept"], "asked_us": [9 * DAY_US] * 2, "known_us": [10 * DAY_US] * 2}
    )
    waiting, done = journey_facts(events, moments).iter_rows(named=True)
    assert (waiting["days_overdue"], waiting["promise_kept"], waiting["delivery.pending"]) == (4.0, 0.0, 1.0)
    assert (waiting["delivery.days"], waiting["late_unkept"]) == (9.0, 1.0)
    assert (done["days_overdue"], done["late"], done["days_overdue_unkept"], done["delivery.days"]) == (
        2.0,
        1.0,
        0.0,
        7.0,
    )
    assert done["amount"] == 50.0


def _draws() -> np.random.Generator:
    return np.random.default_rng(0)


def test_contributions_add_up_to_the_log_odds() -> None:
    facts, bad, asked = _journeys(1500)
    model = inferred.fit(facts, bad, asked, asked, 1000 * DAY_US, version="t")
    average, added = inferred.contributions(model, facts)
    assert set(added) == {"late", "weight"}
    np.testing.assert_allclose(average + sum(added.values()), inferred.log_odds(model, facts), atol=1e-12)
    steep = model.model_copy(update={"coefficients": tuple(100.0 * c for c in model.coefficients)})
    average, added = inferred.contributions(steep, facts)
    odds = inferred.log_odds(steep, facts)
    assert np.abs(odds).max() == LIMIT
    np.testing.assert_allclose(average + sum(added.values()), odds, atol=1e-9)


def test_a_model_is_judged_on_later_journeys_beside_the_base_rate() -> None:
    facts, bad, asked = _journeys(3000)
    customer = np.arange(3000)
    found = inferred.judge(facts, bad, asked, asked + DAY_US, customer, draws=_draws)
    assert found.better
    assert (found.measured.n, found.since_us) == (750, int(asked[2250]))
    assert found.learnt_from == 2250 - 20  # the answer came a day later
    assert found.base.auc == 0.5
    assert found.measured.brier < found.base.brier
    # Later answers change what it is judged by, not what it has learnt.
    other = bad.copy()
    other[2250:] = 1.0 - other[2250:]
    assert not inferred.judge(facts, other, asked, asked + DAY_US, customer, draws=_draws).better


def test_facts_that_tell_nothing_are_not_better_than_the_base_rate() -> None:
    facts, bad, asked = _journeys(1500)
    shuffled = np.random.default_rng(3).permutation(bad)
    assert not inferred.judge(facts, shuffled, asked, asked, np.arange(1500), draws=_draws).better


@pytest.mark.parametrize(
    "what", ["none", "one", "one class", "all at once", "answers too late", "last quarter all good"]
)
def test_too_little_to_judge_is_refused_with_the_remedy(what: str) -> None:
    facts, bad, asked = _journeys(600)
    answered = asked + 1
    if what in {"none", "one"}:
        n = int(what == "one")
        facts, bad, asked, answered = facts[:n], bad[:n], asked[:n], answered[:n]
    if what == "one class":
        bad = np.zeros(600)
    if what == "all at once":
        asked, answered = np.full(600, 7 * DAY_US), np.full(600, 7 * DAY_US + 1)
    if what == "answers too late":
        answered = asked + 1000 * DAY_US
    if what == "last quarter all good":
        bad = np.where(np.arange(600) < 450, bad, 0.0)
    with pytest.raises(TooLittle, match="ask more customers"):
        inferred.judge(facts, bad, asked, answered, np.arange(len(bad)), draws=_draws)
