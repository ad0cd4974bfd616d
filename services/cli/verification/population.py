"""Whose states are checked: all customers in bounded pages, some by name, or a sample that is the same each time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl

from infra.clickhouse.client import ClickHouse, quoted
from schemas.tables import CUSTOMER_STATE, DATABASE, TOUCHPOINTS
from services.scoring.verify.rows import plain, state_sql

PAGE: Final = 20_000
"""Customers at once: bounds a statement's size and what is held of their states."""

_SOURCES: Final = (CUSTOMER_STATE.name, TOUCHPOINTS.name)


@dataclass(frozen=True, slots=True)
class Population:
    """``names`` sorted and distinct; None means everybody."""

    names: tuple[str, ...] | None = None

    @property
    def whole(self) -> bool:
        return self.names is None

    def pages(self, client: ClickHouse, size: int = PAGE) -> Iterator[Sequence[str]]:
        """All of them, in pages, sorted: those that have a state or an event."""
        if self.names is not None:
            for start in range(0, len(self.names), size):
                yield self.names[start : start + size]
            return
        last: str | None = None
        while True:
            # Every customer has a name, so the first page is those above the empty one.
            above = quoted([last or ""])
            parts = " UNION ALL ".join(
                f"SELECT customer_id FROM (SELECT DISTINCT customer_id FROM {DATABASE}.{source} "
                f"WHERE customer_id > {above} ORDER BY customer_id LIMIT {size})"
                for source in _SOURCES
            )
            rows = client.query(f"SELECT DISTINCT customer_id FROM ({parts}) ORDER BY customer_id LIMIT {size}")
            if not rows:
                return
            page = [name for (name,) in rows]
            yield page
            last = page[-1]


def sample(client: ClickHouse, size: int) -> Population:
    """``size`` customers by a hash of their names: the same each time, and a larger sample has all of a smaller."""
    parts = " UNION ALL ".join(f"SELECT DISTINCT customer_id FROM {DATABASE}.{source}" for source in _SOURCES)
    rows = client.query(
        f"SELECT customer_id FROM (SELECT DISTINCT customer_id FROM ({parts})) "
        f"ORDER BY cityHash64(customer_id), customer_id LIMIT {size}"
    )
    return Population(tuple(sorted(name for (name,) in rows)))


def condition(names: Sequence[str]) -> str:
    """SQL that holds for these customers."""
    return f"customer_id IN ({quoted(names)})" if names else "0"


def load_states(client: ClickHouse, where: str, table: str = CUSTOMER_STATE.name) -> pl.DataFrame:
    """The latest states that fit a condition, as `services.scoring.verify.rows` has them."""
    return plain(client.frame(state_sql(where, table)))


def moved(client: ClickHouse, before: Mapping[str, int]) -> int:
    """How many customers have a later state by now than the offset they had ``before``."""
    count = 0
    names = sorted(before)
    for start in range(0, len(names), PAGE):
        rows = client.query(
            f"SELECT customer_id, max(log_offset) FROM {DATABASE}.{CUSTOMER_STATE.name} "
            f"WHERE {condition(names[start : start + PAGE])} GROUP BY customer_id"
        )
        count += sum(offset > before[name] for name, offset in rows)
    return count
