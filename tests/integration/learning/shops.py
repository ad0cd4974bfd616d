"""Shops whose truth is known, stored as events, and the command ``touchstone`` beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from infra.clickhouse.client import ClickHouse
from infra.clickhouse.events import write_events
from schemas.decode import COLUMNS
from services.scoring import readings

DAY_US = 86_400_000_000
FIRST_DAY = 19_000
"""2022-01-08."""


def shop(customers: int = 300, days: int = 300, seed: int = 1) -> pl.DataFrame:
    """Purchases of customers who come at their own rates and leave for good with their own chances."""
    random = np.random.default_rng(seed)
    rows = []
    for customer in range(customers):
        rate, leaving = random.gamma(1.0, 1 / 20), random.beta(0.7, 4.0)
        at = float(random.uniform(0, days * 0.7))
        while at < days:
            rows.append((f"c{customer:04}", FIRST_DAY + at, "purchase", float(random.gamma(2.0, 20.0))))
            if random.random() < leaving:
                break
            at += float(random.exponential(1 / rate))
    return frame(rows)


def frame(rows: Sequence[tuple[str, float, str, float | None]]) -> pl.DataFrame:
    """(customer, days since 1970, kind, amount) as decoded events, `schemas.decode.COLUMNS`."""
    money = [amount is not None for *_, amount in rows]
    told = [kind == "survey_response" for _, _, kind, _ in rows]
    given: dict[str, Any] = {
        "event_id": [number.to_bytes(16, "big") for number in range(len(rows))],
        "customer_id": [customer for customer, *_ in rows],
        "occurred_at": [round(day * DAY_US) for _, day, *_ in rows],
        "received_at": [round(day * DAY_US) for _, day, *_ in rows],
        "source": ["shop"] * len(rows),
        "kind": [kind for _, _, kind, _ in rows],
        "touchpoint": ["store"] * len(rows),
        "channel": [""] * len(rows),
        "amount_micros": [None if amount is None else round(amount * 1_000_000) for *_, amount in rows],
        "currency": ["EUR" if here else None for here in money],
        "metric": ["csat" if here else None for here in told],
        "rating": [1.0 if here else None for here in told],
        "attributes": [{}] * len(rows),
    }
    return pl.DataFrame({name: given.get(name, [None] * len(rows)) for name in COLUMNS}, schema=COLUMNS)


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended, and what it said where."""

    code: int
    out: str
    err: str


@dataclass(frozen=True, slots=True)
class Deployment:
    """A table of events, and the command."""

    client: ClickHouse
    folder: Path
    run: Callable[..., Done]

    def store(self, events: pl.DataFrame) -> None:
        felt = readings.read_frame(readings.shipped(), events)
        at = np.arange(events.height, dtype=np.int64)
        write_events(self.client, events, felt.valence.astype(np.float32), felt.weight.astype(np.float32), 0, at)
