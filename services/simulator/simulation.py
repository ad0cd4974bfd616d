"""Many lives to one stream of events in time order, with the truth beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from services.simulator.chance import Chance
from services.simulator.company import Company, draw_company
from services.simulator.life import Life
from services.simulator.traits import draw_traits

DAY_US: Final = 86_400_000_000


@dataclass(frozen=True, slots=True)
class SimulationConfig:
    """What to simulate. Raises ValueError naming the field when a value makes no sense."""

    customers: int
    now_us: int
    """End of the window, UTC microseconds since 1970; no event is later."""
    days: float = 180.0
    """Length of the window."""
    seed: int = 1
    horizon_days: float = 60.0
    """How far beyond ``now_us`` the truth is known; there are no events from there."""
    id_prefix: str = "sim-"
    """Customers are called by this and a number."""

    def __post_init__(self) -> None:
        if self.customers < 1:
            raise ValueError("customers must be at least 1")
        if not 1 <= self.days <= 20_000:
            raise ValueError("days must be from 1 to 20000")
        if not 0 <= self.horizon_days <= 20_000:
            raise ValueError("horizon_days must be from 0 to 20000")
        if self.now_us < self.days * DAY_US:
            raise ValueError("now_us less days is before 1970")
        if self.seed < 0:
            raise ValueError("seed must not be negative")

    @property
    def start_us(self) -> int:
        """Start of the window."""
        return self.now_us - round(self.days * DAY_US)


@dataclass(frozen=True, slots=True)
class CustomerTruth:
    """What is true of one customer, whether or not any event shows it."""

    customer_id: str
    satisfaction: float
    """-1 to 1, as of now, or of the moment of leaving if that was before."""
    baseline: float
    """Satisfaction that the customer drifts back to when nothing happens, -1 to 1."""
    mean_gap_days: float
    """The customer's own rhythm of visits in a neutral mood."""
    leaves_at_us: int | None
    """When the customer leaves for good, up to the end of the horizon; None if not."""
    leaves_because: str | None
    """A moment of truth, another bad touchpoint, or ``life_change``."""
    leaves_silently: bool
    """Nothing cancelled, and no complaint in the 60 days before leaving."""
    returns_at_us: int | None
    """First purchase, renewal or subscription after now and within the horizon; None if none comes."""
    events: int
    """Events up to now."""

    def has_left_by(self, at_us: int) -> bool:
        """True if the customer is gone at that time."""
        return self.leaves_at_us is not None and self.leaves_at_us <= at_us


@dataclass(frozen=True, slots=True)
class Simulation:
    """All events of the window in order of time, as the HTTP edge takes them, and the truth by customer."""

    events: list[dict[str, Any]]
    truth: list[CustomerTruth]


def simulate(config: SimulationConfig) -> Simulation:
    """The whole company. Events take some 1.2 KB of memory each; `simulate_customers` holds one customer at a time."""
    events: list[dict[str, Any]] = []
    truth: list[CustomerTruth] = []
    for of_one, of_whom in simulate_customers(config):
        events += of_one
        truth.append(of_whom)
    # ISO times of one length and zone sort as text; the sort is stable, so ties keep the customers' order.
    events.sort(key=_occurred_at)
    return Simulation(events, truth)


def simulate_customers(config: SimulationConfig) -> Iterator[tuple[list[dict[str, Any]], CustomerTruth]]:
    """Customer by customer: events in time order, and the truth. Customer k is the same however many there are."""
    company = draw_company(config.days + config.horizon_days, np.random.default_rng([config.seed]))
    for number in range(config.customers):
        rng = np.random.default_rng([config.seed, 1 + number])
        yield simulate_customer(config, f"{config.id_prefix}{number:06d}", company, rng)


def simulate_customer(
    config: SimulationConfig, customer_id: str, company: Company, rng: np.random.Generator
) -> tuple[list[dict[str, Any]], CustomerTruth]:
    """One customer of a company whose days count from the window's start."""
    chance = Chance(rng)
    traits = draw_traits(customer_id, config.days, chance)
    life = Life(traits, company, chance)
    satisfaction = life.run(config.days, config.days + config.horizon_days)

    life.events.sort(key=_day)
    events = [event for day, event in life.events if day <= config.days]
    days = np.array([day for day, _ in life.events[: len(events)]])
    # Milliseconds, as most systems send; floor keeps the last event at or before now.
    times_ms = (config.start_us + (days * DAY_US).astype(np.int64)) // 1000
    times = np.datetime_as_string(times_ms.view("datetime64[ms]"), timezone="UTC").tolist()
    for event, event_id, occurred_at in zip(events, chance.uuids(len(events)), times, strict=True):
        event["event_id"] = event_id
        event["occurred_at"] = occurred_at

    def us(day: float | None) -> int | None:
        return None if day is None else config.start_us + round(day * DAY_US)

    truth = CustomerTruth(
        customer_id=customer_id,
        satisfaction=satisfaction,
        baseline=traits.baseline,
        mean_gap_days=traits.mean_gap_days,
        leaves_at_us=us(life.leaves_day),
        leaves_because=life.leaves_because,
        leaves_silently=life.leaves_silently,
        returns_at_us=us(min((day for day in life.returns if day > config.days), default=None)),
        events=len(events),
    )
    return events, truth


def _day(dated: tuple[float, Any]) -> float:
    return dated[0]


def _occurred_at(event: dict[str, Any]) -> str:
    occurred_at: str = event["occurred_at"]
    return occurred_at
