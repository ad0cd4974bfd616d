"""How well a ranking by risk finds those who truly leave, against chance. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Found:
    """Of ``customers``, ``leavers`` leave; of the ``called`` with the highest risk, ``hits`` do."""

    customers: int
    leavers: int
    called: int
    hits: int

    @property
    def by_chance(self) -> float:
        """Hits to expect from as many customers taken blindly."""
        return self.called * self.leavers / self.customers if self.customers else 0.0

    @property
    def lift(self) -> float:
        """How many times better than chance; 0 when there is nobody to find."""
        return self.hits / self.by_chance if self.by_chance else 0.0


def compare(risks: Mapping[str, float], leavers: Collection[str], called: int) -> Found:
    """Call the ``called`` customers of the highest risk; ties go by the customer's id."""
    leaving = set(leavers) & risks.keys()
    ranked = sorted(risks, key=lambda customer: (-risks[customer], customer))[:called]
    return Found(len(risks), len(leaving), len(ranked), sum(customer in leaving for customer in ranked))
