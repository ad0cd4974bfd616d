"""The simulated company is the same by seed, speaks the contract, and its truth shows in its events."""

from __future__ import annotations

import hashlib
import statistics
from collections import Counter, defaultdict
from typing import Any

import orjson
import pytest

from schemas.encode import encode
from schemas.kinds import KINDS, RESERVED_KINDS
from schemas.touchpoint import EVENTS, to_record
from services.simulator import CustomerTruth, Simulation, SimulationConfig, simulate, simulate_customers

NOW_US = 1_772_000_000_123_456
DAY_US = 86_400_000_000

BY_THE_CUSTOMER = {
    "purchase",
    "survey_response",
    "review",
    "referral",
    "complaint_opened",
    "renewal",
    "subscription",
    "emotion",
}
"""Kinds that somebody who has left can be the author of no more."""


def config(customers: int = 600, **other: Any) -> SimulationConfig:
    return SimulationConfig(customers=customers, now_us=NOW_US, **other)


@pytest.fixture(scope="module")
def simulation() -> Simulation:
    return simulate(config())


@pytest.fixture(scope="module")
def truth(simulation: Simulation) -> dict[str, CustomerTruth]:
    return {customer.customer_id: customer for customer in simulation.truth}


def time_us(event: dict[str, Any]) -> int:
    # The simulator writes milliseconds with Z, so the epoch arithmetic is exact.
    record = to_record({**event}, NOW_US)
    occurred_at: int = record["occurred_at"]
    return occurred_at


def digest(simulation: Simulation) -> str:
    truth = [vars_of(customer) for customer in simulation.truth]
    return hashlib.sha256(orjson.dumps([simulation.events, truth])).hexdigest()


def vars_of(customer: CustomerTruth) -> dict[str, Any]:
    return {name: getattr(customer, name) for name in CustomerTruth.__dataclass_fields__}


def test_the_same_seed_gives_the_same_bytes() -> None:
    assert digest(simulate(config(40, seed=7))) == digest(simulate(config(40, seed=7)))


def test_another_seed_gives_another_company() -> None:
    assert digest(simulate(config(40, seed=7))) != digest(simulate(config(40, seed=8)))


def test_a_customer_does_not_depend_on_how_many_there_are() -> None:
    few = list(simulate_customers(config(5)))
    many = list(simulate_customers(config(20)))
    assert many[:5] == few


def test_events_are_what_the_contract_asks_for(simulation: Simulation) -> None:
    for event in EVENTS.validate_python([{**event} for event in simulation.events]):
        assert encode(to_record(event, NOW_US))


def test_ids_are_unique(simulation: Simulation) -> None:
    assert len({event["event_id"] for event in simulation.events}) == len(simulation.events)


def test_every_kind_that_may_be_sent_appears(simulation: Simulation) -> None:
    assert {event["kind"] for event in simulation.events} == set(KINDS) - RESERVED_KINDS


def test_events_are_in_time_order_and_within_the_window(simulation: Simulation) -> None:
    times = [time_us(event) for event in simulation.events]
    assert times == sorted(times)
    assert times[0] >= config().start_us
    assert times[-1] <= NOW_US


def test_the_truth_counts_the_events(simulation: Simulation, truth: dict[str, CustomerTruth]) -> None:
    counted = Counter(event["customer_id"] for event in simulation.events)
    assert all(counted[name] == customer.events for name, customer in truth.items())
    assert len(truth) == 600


def test_who_has_left_does_nothing_any_more(simulation: Simulation, truth: dict[str, CustomerTruth]) -> None:
    after = [
        event
        for event in simulation.events
        if event["kind"] in BY_THE_CUSTOMER
        and (leaves := truth[event["customer_id"]].leaves_at_us) is not None
        and time_us(event) > leaves + 60_000_000
        # Text analysis tags the conversation the customer left over, some minutes after it.
        and event["kind"] != "emotion"
    ]
    assert after == []


def test_who_has_left_never_returns_and_most_others_do(simulation: Simulation) -> None:
    left = [customer for customer in simulation.truth if customer.has_left_by(NOW_US)]
    others = [customer for customer in simulation.truth if customer.leaves_at_us is None]
    assert left
    assert all(customer.returns_at_us is None for customer in left)
    assert statistics.mean(customer.returns_at_us is not None for customer in others) > 0.85
    assert all(c.returns_at_us is None or NOW_US < c.returns_at_us <= NOW_US + 60 * DAY_US for c in simulation.truth)


def test_some_leave_in_the_horizon_and_have_given_no_sign_of_absence_yet(simulation: Simulation) -> None:
    assert any(c.leaves_at_us is not None and c.leaves_at_us > NOW_US for c in simulation.truth)


def test_a_fair_part_leaves_in_half_a_year(simulation: Simulation) -> None:
    share = statistics.mean(customer.has_left_by(NOW_US) for customer in simulation.truth)
    assert 0.05 < share < 0.3


def test_unhappiness_comes_before_leaving_unless_life_changed(simulation: Simulation) -> None:
    unhappy = [c for c in simulation.truth if c.has_left_by(NOW_US) and c.leaves_because != "life_change"]
    content = [c for c in simulation.truth if c.leaves_at_us is None]
    below = statistics.mean(customer.satisfaction < customer.baseline for customer in unhappy)
    assert below > 0.95
    assert statistics.mean(c.satisfaction for c in unhappy) < statistics.mean(c.satisfaction for c in content) - 0.3


def test_a_changed_life_takes_the_content_as_well(simulation: Simulation) -> None:
    moved = [c.satisfaction for c in simulation.truth if c.leaves_because == "life_change"]
    assert moved
    assert statistics.mean(moved) > 0


def test_leaving_is_silent_for_some_and_loud_for_others(simulation: Simulation) -> None:
    left = [customer for customer in simulation.truth if customer.has_left_by(NOW_US)]
    assert 0.2 < statistics.mean(customer.leaves_silently for customer in left) < 0.8


def test_silence_means_no_complaint_and_no_cancellation(
    simulation: Simulation, truth: dict[str, CustomerTruth]
) -> None:
    spoken: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for event in simulation.events:
        if event["kind"] in ("complaint_opened", "cancellation"):
            spoken[event["customer_id"]].append((event["kind"], time_us(event)))
    silent = [c for c in truth.values() if c.has_left_by(NOW_US) and c.leaves_silently]
    for customer in silent:
        assert customer.leaves_at_us is not None
        for kind, at_us in spoken[customer.customer_id]:
            assert kind == "complaint_opened"
            assert customer.leaves_at_us - at_us > 60 * DAY_US - 1_000_000


def test_moments_of_truth_take_more_customers_than_their_share_of_touchpoints(simulation: Simulation) -> None:
    why = Counter(c.leaves_because for c in simulation.truth if c.leaves_because not in (None, "life_change"))
    of_truth = sum(
        why[cause] for cause in ("late_delivery", "complaint_badly_handled", "complaint_ignored", "billing_error")
    )
    assert of_truth / sum(why.values()) > 0.6


def test_complaints_end_well_badly_or_never(simulation: Simulation) -> None:
    resolved = {e["case_id"]: e["outcome"] for e in simulation.events if e["kind"] == "complaint_resolved"}
    before_now = NOW_US - 25 * DAY_US
    opened = [e["case_id"] for e in simulation.events if e["kind"] == "complaint_opened" and time_us(e) < before_now]
    ends = Counter(resolved.get(case, "never") for case in opened)
    assert set(ends) == {"succeeded", "failed", "never"}
    assert ends["succeeded"] > ends["failed"]


def test_surveys_are_answered_by_the_extremes(simulation: Simulation) -> None:
    sent = Counter(e["metric"] for e in simulation.events if e["kind"] == "survey_sent")
    answers = [e for e in simulation.events if e["kind"] == "survey_response"]
    assert 0.1 < len(answers) / sent.total() < 0.5
    nps = [e["rating"] for e in answers if e["metric"] == "nps"]
    assert min(nps) <= 3
    assert max(nps) >= 9


def test_rhythms_differ_between_customers_and_show_in_the_gaps(
    simulation: Simulation, truth: dict[str, CustomerTruth]
) -> None:
    visits: dict[str, list[int]] = defaultdict(list)
    for event in simulation.events:
        if event["kind"] == "purchase":
            visits[event["customer_id"]].append(time_us(event))
    frequent = [times for name, times in visits.items() if truth[name].mean_gap_days < 12 and len(times) > 4]
    seldom = [times for name, times in visits.items() if truth[name].mean_gap_days > 22 and len(times) > 2]

    def mean_gap(many: list[list[int]]) -> float:
        return statistics.mean((times[-1] - times[0]) / (len(times) - 1) / DAY_US for times in many)

    assert mean_gap(frequent) < 14
    assert mean_gap(seldom) > 20


@pytest.mark.parametrize(
    ("field", "value"),
    [("customers", 0), ("days", 0.0), ("horizon_days", -1.0), ("now_us", 1), ("seed", -1)],
)
def test_a_senseless_setting_is_named(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=field):
        SimulationConfig(**{"customers": 1, "now_us": NOW_US, field: value})  # type: ignore[arg-type]
