"""What learning fits its coefficients to, out of events, is what the stream's state says: feature by feature."""

from __future__ import annotations

import zlib
from typing import Any, Final

import numpy as np
import polars as pl
import pytest

from schemas.decode import KIND_TYPE
from schemas.state_layout import INT_INDEX
from schemas.tables import DIMENSIONS
from services.learning import features as learnt
from services.learning import judging
from services.learning.activity import CANCELLING, COMMITTING, DAY_US, MONEY, active_days, read_events
from services.learning.bgnbd import Rates
from services.learning.evidence import Judged, Weights
from services.learning.fitting import History
from services.learning.model import FEATURES, BaseRates, LearntModel, Span
from services.learning.value import Worth, worth
from services.scoring.events import UNHAPPY, Events
from services.scoring.expressions import Arrays
from services.scoring.facts import FELT_FACTS, experience_at
from services.scoring.fold import LATEST, MONEY_SIGN, activity_codes, fold
from services.scoring.judge import assess, columns
from services.scoring.readings import Readings
from services.scoring.risk import features as judged
from services.scoring.risk.model import Base, RiskModel, Weight
from services.scoring.risk.model import Worth as JudgedWorth
from services.scoring.score import score
from services.scoring.state import States, Vocabulary

START: Final = 19_000 * DAY_US
KINDS: Final = ("purchase", "renewal")
EVENTS: Final = 6_000
CUSTOMERS: Final = 250
HORIZON: Final = 40


def some_events(seed: int) -> pl.DataFrame:
    """A year and a half of all sorts of events, as stored; few customers have many of them."""
    random = np.random.default_rng(seed)
    kind = random.choice([*(k for k in KIND_TYPE.categories if k != "review_due"), *("purchase",) * 8], EVENTS)
    kind = np.where(kind == "model_activated", "purchase", kind)
    felt = random.random((EVENTS, 3)) < 0.3
    return pl.DataFrame(
        {
            "customer_id": [f"c{int(x):03d}" for x in (CUSTOMERS * random.random(EVENTS) ** 2)],
            "occurred_at": START + np.sort(random.integers(0, 500 * DAY_US, EVENTS)),
            "kind": kind,
            "amount": np.round(random.gamma(2.0, 20.0, EVENTS), 2),
            "case_id": random.choice(["a", "b", "c", ""], EVENTS),
            **{
                f"{dimension}_{part}": values
                for d, dimension in enumerate(DIMENSIONS)
                for part, values in (
                    ("valence", np.where(felt[:, d], random.uniform(-1, 1, EVENTS), 0.0).astype(np.float32)),
                    ("weight", np.where(felt[:, d], random.uniform(0, 2, EVENTS), 0.0).astype(np.float32)),
                )
            },
        }
    )


def folded(events: pl.DataFrame, as_of_us: int) -> tuple[pl.Series, States]:
    """The states that the stream has at that moment."""
    past = events.filter(pl.col("occurred_at") < as_of_us).sort("customer_id", maintain_order=True)
    customers = past.get_column("customer_id").unique(maintain_order=True)
    states = States.empty(len(customers))
    code = {name: i for i, name in enumerate(KIND_TYPE.categories)}
    kind = np.array([code[name] for name in past.get_column("kind")], dtype=np.uint8)
    readings = Readings(
        *(
            past.select([f"{d}_{part}" for d in DIMENSIONS]).cast(pl.Float64).to_numpy()
            for part in ("valence", "weight")
        )
    )
    weight = readings.weight.sum(axis=1)
    mean = (readings.weight * readings.valence).sum(axis=1) / np.where(weight > 0, weight, 1.0)
    at = past.get_column("occurred_at").to_numpy()
    named = past.get_column("kind")
    fold(
        states,
        Events(
            row=past.get_column("customer_id").rle_id().to_numpy().astype(np.intp),
            offset=np.arange(len(past)),
            occurred_us=at,
            received_us=at,
            kind=kind,
            touchpoint=np.zeros(len(past), dtype=np.int64),
            readings=readings,
            amount_micros=np.rint(past.get_column("amount").to_numpy() * 1e6).astype(np.int64),
            negative_feedback=np.asarray(
                (named.is_in(["survey_response", "emotion"]).to_numpy() & (mean < UNHAPPY))
                | (named == "complaint_opened").to_numpy()
            ),
            case_hash=np.array([zlib.crc32(c.encode()) >> 1 for c in past.get_column("case_id")], dtype=np.uint64),
        ),
        activity_codes(KINDS),
        Vocabulary(),
    )
    return customers, states


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("variant", ["bg", "mbg"])
def test_features_out_of_events_are_those_of_the_state(seed: int, variant: Any) -> None:
    events, as_of_us = some_events(seed), START + 460 * DAY_US
    rates = Rates(variant, r=0.6, alpha=12.0, a=0.7, b=2.0)
    worths = Worth(p=2.0, q=3.0, gamma=30.0)
    history = History(events, as_of_us, KINDS, experience_at)
    known = learnt.known_at(history.days, as_of_us / DAY_US)
    base = learnt.base_log_odds(rates, known.histories(), HORIZON)
    ours = history.matrix(known, base, HORIZON)

    model = RiskModel(
        "parity",
        horizon_days=float(HORIZON),
        activity_kinds=KINDS,
        base=Base(variant, rates.r, rates.alpha, rates.a, rates.b),
        worth=JudgedWorth(worths.p, worths.q, worths.gamma),
    )
    customers, states = folded(events, as_of_us)
    o, now = Arrays(), np.full(len(states), float(as_of_us))
    by_name = columns(states)
    measured = score(o, by_name, now)
    facts = judged.facts(o, by_name, model.parameters(), now)
    values = judged.features(o, by_name, facts, measured, now)
    place = {name: i for i, name in enumerate(customers)}
    rows = np.array([place[name] for name in history.days.customers.gather(known.row)])
    assert len(rows) > 200
    assert (states.ints[:, 0] >= 0).all()
    np.testing.assert_allclose(facts.base[rows], base, rtol=1e-9, atol=1e-9)
    assert set(FEATURES) == set(judged.FEATURES)
    for j, name in enumerate(FEATURES):
        theirs = np.asarray(values[name]())[rows]
        if name in learnt.EXPERIENCE_RANGES and name != "complaint_days":
            theirs = np.clip(theirs, *learnt.EXPERIENCE_RANGES[name])
        np.testing.assert_allclose(theirs, ours[:, j], rtol=1e-9, atol=1e-7, err_msg=name)
        assert len(np.unique(np.round(theirs, 6))) > 1, f"{name} is worth comparing"

    _, risk = assess(states, np.full(len(states), as_of_us), model)
    mean = known.spend_total / known.activities
    rate = (rates.r + known.number - 1) / (rates.alpha + known.at_days - known.first_kept)
    expected = rate * HORIZON * worth(worths, known.activities.astype(np.float64), mean)
    paying = mean > 0
    np.testing.assert_allclose(risk.expected_spend[rows][paying], expected[paying], rtol=1e-9)


def test_facts_of_experience_ignore_what_comes_later() -> None:
    events, as_of_us = some_events(3), START + 200 * DAY_US
    whole = experience_at(events, as_of_us)
    cut = experience_at(events.filter(pl.col("occurred_at") < as_of_us), as_of_us)
    assert whole.equals(cut)
    assert set(whole.columns) == {"customer_id", *FELT_FACTS}
    assert experience_at(events, START - 1).height == 0


def test_both_name_the_same_money_and_the_same_terms() -> None:
    assert dict(judged.TERMS) == dict(judging.TERMS)
    assert MONEY == MONEY_SIGN
    assert (LATEST["last_cancellation_at"], LATEST["last_commitment_at"]) == (CANCELLING, COMMITTING)
    days = active_days(read_events(some_events(1)), KINDS, START + 500 * DAY_US)
    assert len(days.contacts.row) > 0


def test_risks_out_of_events_are_those_of_the_state_also_of_who_never_came() -> None:
    events, as_of_us = some_events(4), START + 300 * DAY_US
    events = events.filter(~(pl.col("kind").is_in(KINDS) & pl.col("customer_id").str.ends_with("7")))
    weight = [0.2 * (-1) ** j for j in range(len(FEATURES))]
    n = len(FEATURES)
    learnt_model = LearntModel(
        version="parity",
        horizon_days=HORIZON,
        kinds=KINDS,
        lookback_days=365,
        base=BaseRates(variant="mbg", r=0.6, alpha=12.0, a=0.7, b=2.0),
        weights=Weights(
            intercept=0.1,
            base_mean=0.4,
            slope=-0.1,
            means=(0.5,) * n,
            scales=(2.0,) * n,
            lows=(-3.0,) * n,
            highs=(70.0,) * n,
            coefficients=tuple(weight),
        ),
        no_activity_log_odds=0.3,
        judged=Judged(kept=(), strength=0.0, by="nothing", verdicts=()),
        base_quality=(),
        span=Span(first_day=0, as_of_us=as_of_us, snapshot_days=(), customers=0, active_days=0, rows=0),
    )
    found = judging.risks(learnt_model, events, as_of_us, experience_at)
    model = RiskModel(
        "parity",
        horizon_days=float(HORIZON),
        no_activity_log_odds=0.3,
        activity_kinds=KINDS,
        base=Base("mbg", 0.6, 12.0, 0.7, 2.0),
        base_mean=0.4,
        base_slope=-0.1,
        intercept=0.1,
        weights={name: Weight(weight[j] / 2.0, 0.5, -3.0, 70.0) for j, name in enumerate(FEATURES)},
    )
    customers, states = folded(events, as_of_us)
    _, risk = assess(states, np.full(len(states), as_of_us), model)
    never = states.ints[:, INT_INDEX["active_days"]] == 0
    assert 10 < never.sum() < len(states) / 2
    theirs = pl.DataFrame({"customer_id": customers, "theirs": risk.risk}).sort("customer_id")
    assert found.get_column("customer_id").to_list() == theirs.get_column("customer_id").to_list()
    np.testing.assert_allclose(found.get_column("risk"), theirs.get_column("theirs"), rtol=1e-9)
