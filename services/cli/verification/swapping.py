"""A second table of states: filled from the log, brought up to date, exchanged with the one in use.

The exchange is one step for whoever asks: before it a query sees the old states, after it the new ones. The new ones
stand where the stream has committed, so a worker that starts then goes on with the next record: nothing is lost, and
what is delivered again is known by its offset. Signals that the fold comes to were sent long ago; nothing here sends
any.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType
from typing import Final, Self, cast

import polars as pl

from infra.clickhouse import activations, events, states
from infra.kafka.read import read_partition
from schemas.activation import Activation
from schemas.tables import CUSTOMER_STATE, DATABASE
from schemas.topics import TOUCHPOINTS
from services.cli.verification.deployment import Deployment, positions
from services.cli.verification.population import condition, load_states
from services.scoring import readings
from services.scoring.cache import StateCache
from services.scoring.core import Core
from services.scoring.ports import StateRows, Tables
from services.scoring.step import Scorer
from services.scoring.verify.rows import from_frame

BESIDE: Final = "customer_state_rebuilt"
FORMER: Final = "customer_state_before"
"""The states that were in use before the last swap."""

_ROWS: Final = 20_000
"""States written at once."""
_RECORDS: Final = 10_000
"""Records folded at once while catching up; as many customers at most are held."""


class Rebuilt:
    """The new states. Leaving it drops what was not put in use."""

    def __init__(self, found: Deployment) -> None:
        self._found = found
        self._client = found.client

    def __enter__(self) -> Self:
        self._client.query(f"DROP TABLE IF EXISTS {DATABASE}.{BESIDE} SYNC")
        self._client.query(f"CREATE TABLE {DATABASE}.{BESIDE} AS {DATABASE}.{CUSTOMER_STATE.name}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.query(f"DROP TABLE IF EXISTS {DATABASE}.{BESIDE} SYNC")

    def save(self, rows: StateRows) -> None:
        """Write states; a row with a higher offset replaces one with a lower."""
        for start in range(0, len(rows.customers), _ROWS):
            part = slice(start, start + _ROWS)
            some = StateRows(
                rows.customers[part],
                rows.floats[part],
                rows.ints[part],
                rows.activity_days[part],
                rows.cases[part],
                rows.recent_ids[part],
                rows.touchpoints,
                rows.models,
            )
            # The store asks for the members, not for the type.
            block = states.to_block(some)  # type: ignore[arg-type]
            self._client.insert_block(replace(block, table=BESIDE))

    def catch_up(self) -> int:
        """Fold what was committed since the rebuild began; returns how many records that were. Nothing may commit
        meanwhile."""
        _, committed = positions(self._found.where.kafka_bootstrap)
        scorer = Scorer.of(self._found.model)
        cache = StateCache(2 * _RECORDS, scorer.touchpoints, scorer.models)
        # The core looks up and never writes: these three questions are all it asks of tables.
        tables = cast("Tables", _Beside(self._found))
        core = Core(cache, scorer, readings.shipped(), tables, lambda: os.urandom(8))
        count = 0
        for partition, end in sorted(committed.items()):
            start = self._found.committed.get(partition, 0)
            for records in read_partition(
                self._found.where.kafka_bootstrap, TOUCHPOINTS, partition, start, end, most=_RECORDS
            ):
                effects = core.take(partition, records.offsets, records.values, records.timestamps_ms, ())
                changed = effects.dirty()
                self.save(core.snapshot(changed))
                cache.release(changed)
                count += len(records.offsets)
        return count

    def exchange(self) -> None:
        """Put the new states in use, in one step; the others stay in table `FORMER`."""
        self._client.query(f"EXCHANGE TABLES {DATABASE}.{CUSTOMER_STATE.name} AND {DATABASE}.{BESIDE}")
        self._client.query(f"DROP TABLE IF EXISTS {DATABASE}.{FORMER} SYNC")
        self._client.query(f"RENAME TABLE {DATABASE}.{BESIDE} TO {DATABASE}.{FORMER}")


class _Beside:
    """States from the new table; repeats and activations by what is stored, as the stream knows them."""

    def __init__(self, found: Deployment) -> None:
        self._client = found.client

    def load_states(self, customers: Sequence[str]) -> StateRows:
        return from_frame(load_states(self._client, condition(customers), BESIDE))

    def load_activations(self, partition: int, before: int) -> list[Activation]:
        return activations.load(self._client, partition, before)

    def find_earlier(self, keys: Sequence[tuple[str, bytes]]) -> pl.DataFrame:
        return events.find_earlier(self._client, keys)
