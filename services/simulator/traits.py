"""What a customer is like, fixed for life."""

from __future__ import annotations

import math
from dataclasses import dataclass

from services.simulator.chance import Chance
from services.simulator.company import REGIONS


@dataclass(frozen=True, slots=True)
class Traits:
    """Latent properties of one customer; the company sees none of them directly."""

    customer_id: str
    region: str
    channel: str
    """Where the customer mostly buys: web, app or store."""
    mean_gap_days: float
    """Mean time between visits in a neutral mood."""
    regularity: float
    """Shape of the gamma distributed gaps: 1 is irregular, 6 like clockwork."""
    baseline: float
    """Satisfaction in [-1, 1] that the customer drifts back to when nothing happens."""
    sensitivity: float
    """How strongly experiences move this customer; 1 is usual."""
    outspokenness: float
    """Probability of complaining after something went badly."""
    responsiveness: float
    """Inclination to answer surveys."""
    basket_eur: float
    """Typical amount of a purchase."""
    subscription_eur: float
    """Monthly fee; 0 without a subscription."""
    joined_day: float
    """Day of the first contact; below 0 for customers from before the window."""
    accepts_marketing: bool


def draw_traits(customer_id: str, days: float, chance: Chance) -> Traits:
    """A customer for a window of ``days`` days: three in four were there before it began."""
    established = chance.happens(0.75)
    # Two kinds of people: those who say what is wrong and those who just go.
    silent = chance.happens(0.45)
    return Traits(
        customer_id=customer_id,
        region=chance.choice(REGIONS),
        channel=chance.choice(("web", "web", "app", "app", "store")),
        mean_gap_days=min(60.0, max(4.0, math.exp(chance.normal(math.log(17.0), 0.55)))),
        regularity=chance.uniform(1.0, 6.0),
        baseline=min(0.8, max(-0.4, chance.normal(0.28, 0.22))),
        sensitivity=math.exp(chance.normal(0.0, 0.3)),
        outspokenness=chance.uniform(0.0, 0.12) if silent else chance.uniform(0.35, 0.9),
        responsiveness=chance.uniform(0.05, 0.2) if silent else chance.uniform(0.2, 0.8),
        basket_eur=math.exp(chance.normal(math.log(45.0), 0.6)),
        subscription_eur=chance.choice((7.99, 12.99, 24.99)) if chance.happens(0.3) else 0.0,
        joined_day=chance.uniform(-720.0, 0.0) if established else chance.uniform(0.0, 0.8 * days),
        accepts_marketing=chance.happens(0.6),
    )
