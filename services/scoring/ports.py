"""What the stream needs from outside, by shape. The composition root brings the adapters; tests bring others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from schemas.activation import Activation
from services.scoring.cache import StoredStates
from services.scoring.state import Days, Floats, Ints, Sets


@dataclass(frozen=True, slots=True)
class StateRows:
    """States to be written, as `cache.StoredStates` are read."""

    customers: list[str]
    floats: Floats
    ints: Ints
    activity_days: Days
    cases: Sets
    recent_ids: Sets
    touchpoints: list[str]
    models: list[str]


@dataclass(frozen=True, slots=True)
class RejectedRecord:
    """A record of the log that cannot be taken."""

    log_partition: int
    log_offset: int
    rejected_at_us: int
    reason: str
    detail: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class RepeatedEvent:
    """An event whose id came before; ``conflict`` if it said something else then."""

    log_partition: int
    log_offset: int
    received_at_us: int
    customer_id: str
    event_id: bytes
    conflict: bool


class Tables(Protocol):
    """ClickHouse. Every write may be repeated with the same rows and changes nothing then. Blocking."""

    def load_states(self, customers: Sequence[str]) -> StoredStates: ...

    def find_earlier(self, keys: Sequence[tuple[str, bytes]]) -> pl.DataFrame:
        """Stored events of lowest offset by (customer_id, event_id), with log_partition and log_offset."""
        ...

    def load_activations(self, partition: int, before: int) -> Sequence[Activation]:
        """Activations of a partition below an offset, in any order."""
        ...

    def write_events(
        self,
        frame: pl.DataFrame,
        valence: npt.NDArray[np.float32],
        weight: npt.NDArray[np.float32],
        partitions: Ints,
        offsets: Ints,
    ) -> None: ...

    def write_rejected(self, records: Sequence[RejectedRecord]) -> None: ...

    def write_repeated(self, events: Sequence[RepeatedEvent]) -> None: ...

    def write_signals(self, frame: pl.DataFrame) -> None:
        """``frame``: `schemas.signal.SIGNALS`."""
        ...

    def write_activations(self, activations: Sequence[Activation]) -> None:
        """Keep them, and show their models as active since then."""
        ...

    def save_states(self, states: StateRows) -> None: ...


class Topics(Protocol):
    """Kafka. Returns when the broker has acknowledged all. Blocking."""

    def publish_signals(self, frame: pl.DataFrame) -> None:
        """``frame``: `schemas.signal.SIGNALS`."""
        ...

    def publish_rejected(self, records: Sequence[RejectedRecord]) -> None: ...
