"""The stream's shell: takes record batches, keeps the order of effects, acknowledges last.

Order of effects, each repeatable: events beside rejected, repeated, signals and activations; then states; then
acknowledgement.
States go last, because a state that is written makes a redelivered event be skipped: a crash before that must repeat
an event or a signal (its id is the same) and never lose one.

While one set of effects is being written the next batches are folded in memory; so a state is written once for all the
events that came in the meantime. States are a function of (customer, partition, offset) alone, so it does not matter
which of them are written.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

import numpy as np
import polars as pl

from schemas.reasons import Reason
from services.scoring.cache import CacheFullError
from services.scoring.core import Core, Effects, Written
from services.scoring.flood import Halting
from services.scoring.ports import StateRows, Tables, Topics
from services.scoring.record_batches.batch import RecordBatch
from services.scoring.state import Ints, Rows

_log: Final = logging.getLogger(__name__)

HISTORY_SETTLES_S: Final = 10.0
"""After the last set that was mostly history, reviews wait this long: a band entered on half a history stays a day."""


class Effect(StrEnum):
    """What is written; `Shell` reports each one when it is done. The first five are written side by side."""

    EVENTS = "events"
    REJECTED = "rejected"
    REPEATED = "repeated"
    SIGNALS = "signals"
    ACTIVATIONS = "activations"
    STATES = "states"
    ACKNOWLEDGED = "acknowledged"


@dataclass(frozen=True, slots=True)
class ShellLimits:
    """How much is gathered before it is written. Larger sets write a state less often; they cost memory and delay."""

    max_unwritten_records: int = 60_000
    """Records folded and not yet written; folding waits above it. About 500 bytes each."""
    min_write_interval_s: float = 0.2
    """Time between the starts of two writes: five small parts a second and table, which merges keep up with."""
    behind_records: int = 20_000
    """A write of more records than this means that there is a backlog, and nobody sees scores fresh anyway."""
    behind_write_interval_s: float = 1.5
    """Time between the starts of two writes then: a customer's state is written once for more events."""
    retry_s: float = 2.0
    """Pause before the tables are tried again when they could not be reached."""


@dataclass(frozen=True, slots=True)
class _Records:
    """Records of several batches as columns, offsets ascending within each partition."""

    partitions: Ints
    offsets: Ints
    values: list[bytes | None]
    timestamps_ms: list[int]

    @classmethod
    def of(cls, batches: list[RecordBatch]) -> _Records:
        return cls(
            np.concatenate([np.full(len(batch), batch.partition) for batch in batches]),
            np.concatenate([batch.offsets for batch in batches]),
            [value for batch in batches for value in batch.values],
            [stamp for batch in batches for stamp in batch.timestamps_ms],
        )

    def __len__(self) -> int:
        return len(self.values)

    def part(self, rows: slice) -> _Records:
        return _Records(self.partitions[rows], self.offsets[rows], self.values[rows], self.timestamps_ms[rows])


@dataclass(slots=True)
class _Work:
    effects: Effects = field(default_factory=Effects)
    batches: list[RecordBatch] = field(default_factory=list)


class Shell:
    """Owns a `Core` and the writing. All methods belong to one event loop."""

    def __init__(
        self,
        core: Core,
        tables: Tables,
        topics: Topics,
        limits: ShellLimits,
        transient: type[Exception] | tuple[type[Exception], ...],
        observe: Callable[[Effect, Effects], None] = lambda effect, effects: None,
        halting: Halting | None = None,
    ) -> None:
        """``transient``: errors of the ports that may pass by themselves; any other stops the process.

        ``halting``: needed if the core stops partitions under a flood.
        """
        self._core = core
        self._tables = tables
        self._topics = topics
        self._limits = limits
        self._transient = transient
        self._observe = observe
        self._halting = halting
        self._work = _Work()
        self._writing: _Work | None = None
        self._memory = asyncio.Lock()
        self._wake = asyncio.Event()
        self._hurry = asyncio.Event()
        self._written = asyncio.Event()
        self._last_records = 0
        self._last_history_s = -HISTORY_SETTLES_S
        self._last_step_s = time.monotonic()
        self._epoch = self._cache_epoch = 0
        self._reading_waits = False
        self._unwritable: set[Effect] = set()
        self.partitions: frozenset[int] = frozenset()

    @property
    def waiting_for_tables(self) -> bool:
        """The tables cannot be read or written: an excuse for standing still."""
        return self._reading_waits or bool(self._unwritable)

    @property
    def behind(self) -> bool:
        """There is a backlog: the last write was a large one, and more is on its way."""
        unwritten = self._writing is not None or self._work.effects.records > 0
        return unwritten and self._last_records > self._limits.behind_records

    @property
    def importing(self) -> bool:
        """Mostly history comes in, or did until a moment ago: what is known of customers is half a story."""
        return time.monotonic() - self._last_history_s < HISTORY_SETTLES_S

    def idle_s(self) -> float:
        """Seconds since records were last folded or an effect was last written."""
        return time.monotonic() - self._last_step_s

    async def handle(self, batches: list[RecordBatch]) -> None:
        """Fold batches into memory; they are acknowledged when their effects are written."""
        epoch = self._epoch
        while self._work.effects.records >= self._limits.max_unwritten_records:
            await self._next_write()
        await self._take(epoch, _Records.of(batches))
        if epoch != self._epoch:
            return  # revoked meanwhile: whoever owns the partitions now has the same records
        if self._core.floods is not None and self._halting is not None:
            for stop in self._core.floods.untold():
                self._halting.stop(stop)
        self._work.batches += batches
        for batch in batches:
            # Their bytes are columns now; a batch in waiting needs no more than its acknowledgement.
            batch.values.clear()
            batch.keys.clear()
        self._wake.set()
        if self._work.effects.records >= self._limits.max_unwritten_records:
            self._hurry.set()

    async def _take(self, epoch: int, records: _Records) -> None:
        while True:
            async with self._memory:
                if epoch != self._epoch:
                    self._reading_waits = False
                    return
                self._forget_old_customers()
                known = [work.effects for work in (self._work, self._writing) if work is not None]
                try:
                    effects = await asyncio.to_thread(
                        self._core.take,
                        records.partitions,
                        records.offsets,
                        records.values,
                        records.timestamps_ms,
                        known,
                    )
                except self._transient as error:
                    trouble: Exception = error
                except CacheFullError as error:
                    trouble = error
                else:
                    self._reading_waits = False
                    self._stepped()
                    if epoch == self._epoch:
                        self._work.effects.add(effects)
                        _tell_models(effects)
                    return
            # Memory is free while we wait, for the writer.
            if not isinstance(trouble, CacheFullError):
                self._say("states or events could not be read", trouble)
                self._reading_waits = True
                await asyncio.sleep(self._limits.retry_s)
            elif self._work.effects.records or self._writing is not None:
                await self._next_write()
            elif len(records) > 1:
                middle = len(records) // 2
                await self._take(epoch, records.part(slice(None, middle)))
                await self._take(epoch, records.part(slice(middle, None)))
                return
            else:
                raise trouble

    def _forget_old_customers(self) -> None:
        """Start with an empty memory after a revocation: somebody else may have folded these customers since."""
        if self._cache_epoch != self._epoch:
            self._cache_epoch = self._epoch
            self._core.cache.forget_all()
            self._core.timeline.forget_all()
            if self._core.floods is not None:
                self._core.floods.forget_all()

    async def run(self) -> None:
        """Write what was folded, for ever. An error that is not transient comes out of here."""
        started = -self._limits.behind_write_interval_s
        while True:
            await self._wake.wait()
            await self._pace(started)
            self._wake.clear()
            self._hurry.clear()
            started = time.monotonic()
            async with self._memory:
                epoch = self._epoch
                work, self._work = self._work, _Work()
                self._writing = work
                slots = work.effects.dirty()
                states = await asyncio.to_thread(self._core.snapshot, slots)
            await self._write(work, states)
            async with self._memory:
                self._writing = None
                if epoch == self._epoch:
                    self._release(slots)
            for batch in work.batches:
                batch.acknowledge()
            self._observe(Effect.ACKNOWLEDGED, work.effects)
            self._last_records = work.effects.records
            if 2 * work.effects.history > work.effects.records:
                self._last_history_s = time.monotonic()
            self._written.set()

    async def _pace(self, started: float) -> None:
        """Wait until it is time for the next write, or until somebody waits for it."""
        limits = self._limits
        interval_s = limits.behind_write_interval_s if self.behind else limits.min_write_interval_s
        left_s = started + interval_s - time.monotonic()
        if left_s > 0 and not self._hurry.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), left_s)

    def _stepped(self) -> None:
        self._last_step_s = time.monotonic()

    def _release(self, slots: Rows) -> None:
        # A slot that changed again while it was written stays held for the next write.
        self._core.cache.release(np.setdiff1d(slots, self._work.effects.dirty(), assume_unique=True))

    async def _write(self, work: _Work, states: StateRows) -> None:
        effects = work.effects
        await asyncio.gather(self._each(self._events(effects), effects), self._each(self._told(effects), effects))
        if states.customers:
            await self._each([(Effect.STATES, lambda: self._tables.save_states(states))], effects)

    async def _each(self, steps: Iterable[tuple[Effect, Callable[[], Any]]], effects: Effects) -> None:
        """Write one after another, each until it works."""
        for effect, write in steps:
            while True:
                try:
                    await asyncio.to_thread(write)
                except self._transient as error:
                    self._say(f"{effect} could not be written", error)
                    self._unwritable.add(effect)
                    await asyncio.sleep(self._limits.retry_s)
                else:
                    break
            self._unwritable.discard(effect)
            self._stepped()
            self._observe(effect, effects)

    def _events(self, effects: Effects) -> Iterable[tuple[Effect, Callable[[], Any]]]:
        if effects.events:
            yield Effect.EVENTS, lambda: self._write_events(effects.events)

    def _told(self, effects: Effects) -> Iterable[tuple[Effect, Callable[[], Any]]]:
        if effects.rejected:
            yield Effect.REJECTED, lambda: self._tables.write_rejected(effects.rejected)
            yield Effect.REJECTED, lambda: self._topics.publish_rejected(effects.rejected)
        if effects.repeated:
            yield Effect.REPEATED, lambda: self._tables.write_repeated(effects.repeated)
        if effects.signals:
            signals = pl.concat(effects.signals)
            yield Effect.SIGNALS, lambda: self._topics.publish_signals(signals)
            yield Effect.SIGNALS, lambda: self._tables.write_signals(signals)
        if effects.activations:
            yield Effect.ACTIVATIONS, lambda: self._tables.write_activations(effects.activations)

    def _write_events(self, written: list[Written]) -> None:
        frame = pl.concat([part.frame for part in written])
        self._tables.write_events(
            frame.drop("log_partition", "log_offset"),
            np.concatenate([part.valence for part in written]),
            np.concatenate([part.weight for part in written]),
            frame.get_column("log_partition").to_numpy(),
            frame.get_column("log_offset").to_numpy(),
        )

    def _say(self, what: str, error: Exception) -> None:
        if not self.waiting_for_tables:
            _log.warning("%s, trying again until it works: %s", what, error)

    async def release(self, partition: int, until: int) -> None:
        """Take a stopped partition's records again, and count no rejections below an offset."""
        async with self._memory:
            if self._core.floods is not None:
                self._core.floods.release(partition, until)

    async def _next_write(self) -> None:
        self._written.clear()
        self._wake.set()
        self._hurry.set()
        await self._written.wait()

    async def on_partitions_revoked(self, revoked: set[Any]) -> None:
        """Forget everything in memory: somebody else may fold these customers now.

        Does not wait for a look-up that is under way: what comes of it is dropped, and customers are forgotten before
        the next records are folded.
        """
        self._epoch += 1
        self._work = _Work()
        self.partitions = frozenset()
        if self._halting is not None:
            self._halting.forget_all()

    async def on_partitions_assigned(self, assigned: set[Any]) -> None:
        """Note what is ours; states come as they are needed."""
        self.partitions = frozenset(tp.partition for tp in assigned)


def _tell_models(effects: Effects) -> None:
    for at in effects.activations:
        _log.info("partition %d: model %s judges from offset %d on", at.log_partition, at.version, at.log_offset + 1)
    for record in effects.rejected:
        if record.reason == Reason.UNUSABLE_MODEL:
            place = f"log/{record.log_partition}/{record.log_offset}"
            _log.error(
                "a risk model cannot be used, the former one goes on judging: touchstone rejected show %s", place
            )
