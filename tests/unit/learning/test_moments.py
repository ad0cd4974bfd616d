"""Moments of truth: planted truth is found in its direction and size, noise is not, and time is respected."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest

from services.learning.contrast import Population, contrast
from services.learning.errors import BadHistory, TooLittle
from services.learning.moments import Moment, Moments, moments_of_truth

DAY_US = 86_400_000_000
DAYS = (18_000, 18_030)
HORIZON = 30
AS_OF_US = (DAYS[-1] + HORIZON) * DAY_US
TOUCHPOINTS = ("app", "billing", "checkout", "delivery", "shop", "support")
SCHEMA = {
    "customer_id": pl.String,
    "occurred_at": pl.Int64,
    "kind": pl.String,
    "touchpoint": pl.String,
    "valence": pl.Float64,
    "amount": pl.Float64,
    "journey": pl.String,
}

Floats = npt.NDArray[np.float64]
Event = tuple[str, float, str, str | None, float | None, float | None, str | None]


def _frame(rows: list[Event]) -> pl.DataFrame:
    """Of (customer, day, kind, touchpoint, valence, amount, journey)."""
    return pl.DataFrame([(r[0], round(r[1] * DAY_US), *r[2:]) for r in rows], schema=SCHEMA, orient="row")


def _company(
    seed: int,
    customers: int = 400,
    effects: dict[tuple[str, bool], float] | None = None,
    *,
    says: float = 0.0,
    spends: float = 0.0,
    off: float = 0.0,
    touched: float = 0.25,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Events and base chances. ``effects``: (touchpoint, badly) to what it adds to the chance of leaving; ``says`` to
    that of a bad review and ``spends`` to the amount, both after a bad support. ``off``: how wrong the base is in the
    second period, for everybody. Who has a high base chance is less often in touch.
    """
    random = np.random.default_rng(seed)
    effects = effects or {}
    rows: list[Event] = []
    base = []
    usual = random.gamma(4.0, 10.0, customers)
    for period, day in enumerate(DAYS):
        chance = random.beta(2.0, 3.0, customers)
        base.append(pl.DataFrame({"customer_id": [f"c{i}" for i in range(customers)], "day": day, "chance": chance}))
        felt = random.random((customers, len(TOUCHPOINTS))) < touched * (1.4 - chance[:, None])
        bad = random.random(felt.shape) < 0.5
        true = chance + off * period
        badly = felt[:, TOUCHPOINTS.index("support")] & bad[:, TOUCHPOINTS.index("support")]
        for (touchpoint, worse), change in effects.items():
            at = TOUCHPOINTS.index(touchpoint)
            true = true + change * (felt[:, at] & (bad[:, at] == worse))
        comes = random.random(customers) >= true
        reviews = random.random(customers) < 0.06 + says * badly
        when = random.uniform(0.0, HORIZON, (4, customers))
        for i in range(customers):
            rows += [
                (
                    f"c{i}",
                    day - 1.0 - when[3, i] * 0.5,
                    "interaction",
                    TOUCHPOINTS[k],
                    -0.7 if bad[i, k] else 0.6,
                    None,
                    None,
                )
                for k in np.flatnonzero(felt[i])
            ]
            if comes[i]:
                rows.append((f"c{i}", day + when[0, i], "purchase", "shop", None, usual[i] + spends * badly[i], None))
            if reviews[i]:
                rows.append((f"c{i}", day + when[1, i], "review", "web", -0.8 if when[2, i] < 15 else 0.9, None, None))
    return _frame(rows), pl.concat(base)


def _run(events: pl.DataFrame, base: pl.DataFrame) -> Moments:
    return moments_of_truth(events, base, as_of_us=AS_OF_US, horizon_days=HORIZON, kinds=("purchase",))


def _one(result: Moments, outcome: str, touchpoint: str | None, feeling: str) -> Moment:
    (found,) = [
        m
        for m in result.moments
        if (m.outcome, m.touchpoint, m.feeling, m.journey) == (outcome, touchpoint, feeling, None)
    ]
    return found


def test_planted_moments_are_found_in_direction_and_size() -> None:
    planted = {("support", True): 0.25, ("delivery", False): -0.20}
    result = _run(*_company(1, 1500, planted, says=0.15))
    support, delivery = _one(result, "left", "support", "badly"), _one(result, "left", "delivery", "well")
    assert support.found
    assert delivery.found
    assert support.effect.difference.low < 0.25 < support.effect.difference.high
    # Some have a base chance below what is taken away, so that the full 20 points cannot be seen.
    assert -0.22 < delivery.effect.difference.mean < -0.10
    assert {(m.touchpoint, m.feeling) for m in result.of("left")[:2]} == {("support", "badly"), ("delivery", "well")}
    said = _one(result, "said_badly", "support", "badly")
    assert said.found
    assert said.effect.ratio is not None
    assert said.effect.ratio > 2.0
    assert support.effect.observed - support.effect.expected == pytest.approx(support.effect.difference.mean)
    assert support.among_touched is not None
    assert support.among_touched.difference.low > 0.1
    false = [m for m in result.moments if m.found and m.touchpoint in {"app", "billing", "checkout", "shop"}]
    assert not false


def test_money_is_counted_in_units_against_the_customers_own() -> None:
    result = _run(*_company(2, 1500, spends=-25.0))
    spent = _one(result, "spent", "support", "badly")
    assert spent.found
    # Six in ten come, and then pay 25 less.
    assert spent.effect.difference.low < -15.0 < spent.effect.difference.high
    assert not any(m.found for m in result.of("left"))


@pytest.fixture(scope="module")
def noise() -> list[Moments]:
    """Nothing that is felt does anything, and the base is off in one period."""
    return [_run(*_company(100 + draw, 250, off=0.15)) for draw in range(16)]


def test_noise_is_called_found_no_more_often_than_allowed(noise: list[Moments]) -> None:
    wrong = sum(any(m.found for m in result.moments) for result in noise)
    # In 16 draws 1 may find something; 5 or more would happen to 1 of 1000 such tests.
    assert wrong <= 4


def test_intervals_hold_the_truth_as_often_as_they_say(noise: list[Moments]) -> None:
    intervals = [m.effect.difference for result in noise for m in result.of("left")]
    assert 0.86 < np.mean([i.low <= 0.0 <= i.high for i in intervals]) < 0.94


def test_a_base_that_is_wrong_for_everybody_is_no_finding() -> None:
    result = _run(*_company(5, 1500, off=0.25))
    assert not any(m.found for m in result.of("left"))
    support = _one(result, "left", "support", "badly").effect
    assert support.expected > 0.45  # base chances are .4 on average, and too low by .25 in one of two periods


def test_feelings_after_the_date_and_outcomes_after_the_horizon_do_not_count() -> None:
    rows: list[Event] = []
    base = []
    for i in range(200):
        customer = f"c{i}"
        base.append((customer, DAYS[0], 0.5))
        bad = i % 2 == 0
        rows.append((customer, DAYS[0] - 200.0, "purchase", "shop", None, 10.0, None))
        rows.append((customer, DAYS[0] - 1.0, "interaction", "shop", 0.0 if i % 4 else 0.5, None, None))
        if bad:  # felt at the very moment of the date, or long ago: neither in the window before
            rows.append((customer, float(DAYS[0]), "incident", "support", -0.9, None, None))
            rows.append((customer, DAYS[0] - HORIZON - 0.5, "incident", "support", -0.9, None, None))
        if not bad or i % 6 == 0:
            rows.append((customer, DAYS[0] + (5.0 if i % 3 else HORIZON), "purchase", "shop", None, 10.0, None))
    frame = pl.DataFrame(base, schema=["customer_id", "day", "chance"], orient="row")
    result = moments_of_truth(_frame(rows), frame, as_of_us=AS_OF_US, horizon_days=HORIZON, kinds=("purchase",))
    assert {m.touchpoint for m in result.moments} == {None, "shop"}
    left = _one(result, "left", "shop", "well").effect
    # Of every fourth customer (all even, so bad), only those by the horizon's end itself came: too late.
    assert left.observed == 1.0


def test_dates_without_a_whole_horizon_are_left_out_and_none_left_is_refused() -> None:
    events, base = _company(3, 100)
    result = moments_of_truth(events, base, as_of_us=AS_OF_US - 1, horizon_days=HORIZON, kinds=("purchase",))
    assert result.dates == (DAYS[0],)
    assert any("1 dates were left out" in note for note in result.notes)
    with pytest.raises(TooLittle, match="give earlier dates, or wait"):
        moments_of_truth(events, base, as_of_us=DAYS[0] * DAY_US, horizon_days=HORIZON, kinds=("purchase",))


def test_few_customers_are_not_judged() -> None:
    result = _run(*_company(4, 40))
    assert result.tried < 10
    assert result.too_few > 0


def test_steps_of_journeys_are_told_apart() -> None:
    events, base = _company(6, 1200, {("support", True): 0.3})
    random = np.random.default_rng(0)
    names = pl.Series(random.choice(["claim", "onboarding", ""], events.height))
    result = _run(events.with_columns(journey=names), base)
    steps = {m.journey for m in result.of("left") if m.touchpoint == "support"}
    assert steps == {None, "claim", "onboarding"}


def test_what_the_events_cannot_show_is_said() -> None:
    events, base = _company(7, 100)
    silent = _run(events.with_columns(valence=pl.lit(None, pl.Float64), amount=pl.lit(None, pl.Float64)), base)
    assert silent.moments == ()
    assert silent.felt_customers == 0
    assert any("nothing was felt" in note for note in silent.notes)
    assert any("no amounts" in note for note in silent.notes)
    assert any("no review says how it was meant" in note for note in silent.notes)


def test_behaviour_is_no_experience() -> None:
    events, base = _company(8, 200)
    done = _run(events.with_columns(kind=pl.lit("purchase"), valence=pl.lit(-0.9)), base)
    assert done.moments == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"chance": pl.lit(1.5)}, "within 0 and 1"),
        ({"chance": pl.lit(None, pl.Float64)}, "within 0 and 1"),
        ({"chance": pl.lit(float("nan"))}, "within 0 and 1"),
        ({"day": pl.lit(DAYS[0])}, "one for each customer and day"),
    ],
)
def test_base_chances_that_cannot_be_are_refused(change: dict[str, pl.Expr], message: str) -> None:
    events, base = _company(9, 50)
    with pytest.raises(BadHistory, match=message):
        _run(events, base.with_columns(**change))


def test_missing_columns_are_refused() -> None:
    events, base = _company(9, 50)
    with pytest.raises(BadHistory, match="column valence"):
        _run(events.drop("valence"), base)
    with pytest.raises(BadHistory, match="column chance"):
        _run(events, base.drop("chance"))


def test_the_order_of_events_does_not_matter() -> None:
    events, base = _company(10, 200)
    shuffled = events.sample(fraction=1.0, shuffle=True, seed=1), base.sample(fraction=1.0, shuffle=True, seed=2)
    assert _run(*shuffled) == _run(events, base)


def test_a_customer_at_many_dates_counts_once() -> None:
    """The same 60 customers six times over tell no more than once: the interval must not shrink by much."""
    random = np.random.default_rng(3)
    once = random.random(300)
    value = (once < 0.4).astype(np.float64)
    exposed = np.arange(60)

    def of(times: int) -> Population:
        customer, day = np.tile(np.arange(300), times), np.repeat(np.arange(times), 300)
        return Population.of(day, customer, np.tile(value, times), np.full(300 * times, 0.4), chance=True)

    one = contrast(of(1), exposed)
    six = contrast(of(6), np.concatenate([exposed + 300 * k for k in range(6)]))
    assert one is not None
    assert six is not None
    assert six.difference.high - six.difference.low == pytest.approx(one.difference.high - one.difference.low, rel=0.05)
    assert six.customers == one.customers == 60
    assert six.rows == 360


def test_outcomes_that_nobody_or_everybody_shows_are_not_taken_for_certain() -> None:
    """None of 40 where 5 in 40 were due: likely by chance one time in 200, so p must not be next to nothing."""
    value = np.concatenate([np.zeros(40), (np.arange(400) % 8 == 0).astype(np.float64)])
    population = Population.of(np.zeros(440, np.int64), np.arange(440), value, np.full(440, 0.1), chance=True)
    effect = contrast(population, np.arange(40))
    assert effect is None  # 4.5 would be due among all 440: too few
    effect = contrast(population, np.arange(50))
    assert effect is not None
    assert 0.001 < effect.p < 0.2


def test_many_others_are_stood_for_by_some(monkeypatch: pytest.MonkeyPatch) -> None:
    events, base = _company(11, 1500, {("support", True): 0.25})
    whole = _one(_run(events, base), "left", "support", "badly").effect
    monkeypatch.setattr("services.learning.contrast.MOST_OTHERS", 400)
    some = _one(_run(events, base), "left", "support", "badly").effect
    assert some.customers == whole.customers
    assert some.others < 400 < whole.others
    assert some.difference.mean == pytest.approx(whole.difference.mean, abs=0.05)
    assert some.difference.high - some.difference.low > whole.difference.high - whole.difference.low


def test_who_goes_there_is_told_from_how_it_felt() -> None:
    """Everybody who is at the desk tends to leave, however it felt: found, and not held against others there."""
    events, base = _company(12, 1500, {("support", True): 0.25, ("support", False): 0.25, ("delivery", True): 0.25})
    result = _run(events, base)
    support, delivery = _one(result, "left", "support", "badly"), _one(result, "left", "delivery", "badly")
    assert support.found
    assert support.holds_there is False
    assert delivery.found
    assert delivery.holds_there is True
