"""Ports in memory, named as the fakes they are, and a log to feed them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from schemas.activation import Activation
from schemas.decode import COLUMNS
from schemas.encode import encode
from schemas.identity import identify
from services.scoring.cache import StateCache
from services.scoring.core import Core
from services.scoring.ports import RejectedRecord, RepeatedEvent, StateRows
from services.scoring.readings import shipped
from services.scoring.risk.model import DEFAULT
from services.scoring.step import Scorer

START_US = 1_760_000_000_000_000
SECOND_US = 1_000_000


@dataclass(frozen=True, slots=True)
class Crossing:
    """A row of a frame of `schemas.signal.SIGNALS`."""

    signal_id: bytes
    customer_id: str
    judged_at: int
    from_band: str
    to_band: str
    risk: float
    score: float
    trend: float
    confidence: float
    value_at_risk: float
    reasons: list[dict[str, Any]]
    model_version: str
    log_partition: int
    log_offset: int
    volatility: float
    complaint_hours: float
    feedback_hours: float
    silence_days: float
    usual_gap_days: float
    worst_touchpoint: str


def crossings_of(frame: pl.DataFrame) -> list[Crossing]:
    """The rows of a frame of crossings."""
    return [Crossing(**row) for row in frame.iter_rows(named=True)]


class TablesDownError(Exception):
    """What the fake tables raise while they are down: transient."""


@dataclass
class FakeTables:
    """ClickHouse as far as the stream sees it: rows replaced by key, the highest offset of a state wins."""

    events: dict[tuple[str, bytes], dict[str, Any]] = field(default_factory=dict)
    states: dict[str, tuple[int, StateRows, int]] = field(default_factory=dict)
    rejected: dict[tuple[int, int], RejectedRecord] = field(default_factory=dict)
    repeated: dict[tuple[int, int], RepeatedEvent] = field(default_factory=dict)
    signals: dict[bytes, Crossing] = field(default_factory=dict)
    activations: dict[tuple[int, int], Activation] = field(default_factory=dict)
    actions: list[str] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)
    """Raised one by one by the next calls."""
    lookups: int = 0

    def _act(self, what: str) -> None:
        if self.failures:
            raise self.failures.pop(0)
        self.actions.append(what)

    def load_states(self, customers: Sequence[str]) -> StateRows:
        if self.failures:
            raise self.failures.pop(0)
        found = [(customer, *self.states[customer][1:]) for customer in customers if customer in self.states]
        if not found:
            empty = np.empty((0, 1))
            return StateRows([], empty, empty, empty, empty, empty, [""], [""])  # type: ignore[arg-type]
        touchpoints, models = (
            max((getattr(rows, names) for _, rows, _ in found), key=len) for names in ("touchpoints", "models")
        )

        def stack(member: str) -> Any:
            return np.stack([getattr(rows, member)[index] for _, rows, index in found])

        return StateRows(
            [customer for customer, _, _ in found],
            *(stack(member) for member in ("floats", "ints", "activity_days", "cases", "recent_ids")),
            touchpoints,
            models,
        )

    def find_earlier(self, keys: Sequence[tuple[str, bytes]]) -> pl.DataFrame:
        if self.failures:
            raise self.failures.pop(0)
        self.lookups += 1
        rows = [self.events[key] for key in keys if key in self.events]
        return pl.DataFrame(rows, schema={**COLUMNS, "log_partition": pl.UInt16, "log_offset": pl.Int64})

    def load_activations(self, partition: int, before: int) -> list[Activation]:
        if self.failures:
            raise self.failures.pop(0)
        return [at for at in self.activations.values() if at.log_partition == partition and at.log_offset < before]

    def write_activations(self, activations: Sequence[Activation]) -> None:
        self._act("activations")
        self.activations |= {(at.log_partition, at.log_offset): at for at in activations}

    def write_events(self, frame: pl.DataFrame, valence: Any, weight: Any, partition: Any, offsets: Any) -> None:
        self._act("events")
        partitions = np.broadcast_to(partition, len(offsets))
        for row, home, offset in zip(frame.iter_rows(named=True), partitions, offsets, strict=True):
            self.events[row["customer_id"], row["event_id"]] = {
                **row,
                "log_partition": int(home),
                "log_offset": int(offset),
            }

    def write_rejected(self, records: Sequence[RejectedRecord]) -> None:
        self._act("rejected")
        self.rejected |= {(record.log_partition, record.log_offset): record for record in records}

    def write_repeated(self, events: Sequence[RepeatedEvent]) -> None:
        self._act("repeated")
        self.repeated |= {(event.log_partition, event.log_offset): event for event in events}

    def write_signals(self, crossings: pl.DataFrame) -> None:
        self._act("signals table")
        self.signals |= {signal.signal_id: signal for signal in crossings_of(crossings)}

    def save_states(self, rows: StateRows) -> None:
        self._act("states")
        from schemas.state_layout import INT_INDEX

        for index, customer in enumerate(rows.customers):
            offset = int(rows.ints[index, INT_INDEX["log_offset"]])
            if customer not in self.states or self.states[customer][0] <= offset:
                self.states[customer] = (offset, rows, index)


@dataclass
class FakeTopics:
    """Kafka as far as the stream writes to it."""

    actions: list[str]
    signals: list[Crossing] = field(default_factory=list)
    rejected: list[RejectedRecord] = field(default_factory=list)

    def publish_signals(self, crossings: pl.DataFrame) -> None:
        self.actions.append("signals topic")
        self.signals += crossings_of(crossings)

    def publish_rejected(self, records: Sequence[RejectedRecord]) -> None:
        self.actions.append("rejected topic")
        self.rejected += records


def event(event_id: str, customer: str, *, after_s: float = 0.0, received_after_s: float = 1.0, **more: Any) -> bytes:
    """A record: an event ``after_s`` seconds from the start, received a little later."""
    identity, _ = identify("test", event_id)
    occurred = START_US + round(after_s * SECOND_US)
    return encode(
        {
            "event_id": identity,
            "customer_id": customer,
            "occurred_at": occurred,
            "received_at": occurred + round(received_after_s * SECOND_US),
            "source": "test",
            "kind": "interaction",
            "touchpoint": "checkout",
            "outcome": "failed",
            "channel": "web",
            "attributes": {},
            **more,
        }
    )


def make_core(tables: FakeTables, capacity: int = 1000) -> Core:
    scorer = Scorer.of(DEFAULT)
    return Core(
        StateCache(capacity, scorer.touchpoints, scorer.models), scorer, shipped(), tables, lambda: b"\x9e\x01marker"
    )
