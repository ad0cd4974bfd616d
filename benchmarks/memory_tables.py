"""Tables that are not there: scoring with its states in memory alone, as other stream processors are measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from schemas.activation import Activation
from schemas.decode import COLUMNS
from services.scoring.ports import RejectedRecord, RepeatedEvent, StateRows
from services.scoring.state import Ints, States

_NO_EVENTS: Final = pl.DataFrame(schema=COLUMNS | {"log_partition": pl.UInt16, "log_offset": pl.Int64})
_NONE: Final = States.empty(0)
_NO_STATES: Final = StateRows(
    [], _NONE.floats, _NONE.ints, _NONE.activity_days, _NONE.cases, _NONE.recent_ids, [""], [""]
)


class MemoryTables:
    """`services.scoring.ports.Tables` and `Topics` that keep nothing. The cache must hold every customer."""

    def load_states(self, customers: Sequence[str]) -> StateRows:
        return _NO_STATES

    def find_earlier(self, keys: Sequence[tuple[str, bytes]]) -> pl.DataFrame:
        return _NO_EVENTS

    def load_activations(self, partition: int, before: int) -> Sequence[Activation]:
        return ()

    def write_activations(self, activations: Sequence[Activation]) -> None:
        """Nothing is kept."""

    def write_events(
        self,
        frame: pl.DataFrame,
        valence: npt.NDArray[np.float32],
        weight: npt.NDArray[np.float32],
        partitions: Any,
        offsets: Ints,
    ) -> None:
        """Nothing is kept."""

    def write_rejected(self, records: Sequence[RejectedRecord]) -> None:
        if records:
            raise RuntimeError(f"the benchmark's log has a bad record: {records[0]}")

    def write_repeated(self, events: Sequence[RepeatedEvent]) -> None:
        if events:
            raise RuntimeError(f"the benchmark's log has a repeated event: {events[0]}")

    def write_signals(self, crossings: pl.DataFrame) -> None:
        """Nothing is kept."""

    def save_states(self, states: StateRows) -> None:
        """Nothing is kept."""

    def publish_signals(self, crossings: pl.DataFrame) -> None:
        """Nobody listens."""

    def publish_rejected(self, records: Sequence[RejectedRecord]) -> None:
        """`write_rejected` has raised by now."""
