"""How far each partition may be committed: a state machine that knows neither Kafka nor Faust.

Every batch covers a range of positions [start, end) of its partition. The ranges of one partition lie
end to end, so holes in the offsets do not matter: a batch ends where the fetch position stood after it.
The partition may be committed up to the end of the oldest batches that are all acknowledged.

Not thread-safe: to be used on one event loop's thread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Generic, TypeVar

from services.scoring.record_batches.errors import PositionGap

__all__ = ["CommitLedger"]

P = TypeVar("P")


class _State(Enum):
    WAITING = auto()  # delivered, still in a queue: may be dropped without a trace
    TAKEN = auto()  # somebody works on it
    DONE = auto()


@dataclass(slots=True)
class _Batch(Generic[P]):
    partition: P
    end: int
    records: int
    state: _State
    first_ms: int | None
    size_bytes: int


@dataclass(slots=True)
class _Queue(Generic[P]):
    """Batches of one partition, oldest first; `reached` is where the oldest of them starts."""

    reached: int
    next_start: int
    committed: int
    halted: bool = False
    batches: deque[_Batch[P]] = field(default_factory=deque)


class CommitLedger(Generic[P]):
    """Delivered, taken and acknowledged batches of all assigned partitions of type P."""

    def __init__(self) -> None:
        self._queues: dict[P, _Queue[P]] = {}
        self._open: dict[int, _Batch[P]] = {}  # by serial; serials are never used twice
        self._last_serial = 0
        self._frozen = False
        self.open_records = 0
        """Records delivered and neither acknowledged nor forgotten."""
        self.open_bytes = 0
        """Their size as delivered."""
        self.taken_batches = 0
        """Batches that somebody works on right now."""

    def deliver(
        self,
        partition: P,
        start: int,
        end: int,
        records: int,
        *,
        first_ms: int | None = None,
        size_bytes: int = 0,
    ) -> int:
        """Register a batch of positions [start, end) and return its serial.

        ``first_ms``: Kafka's timestamp of its first record; ``size_bytes``: of all their values.

        A range without records (only markers, or all compacted away) counts as acknowledged at once. What comes of
        a halted partition is not registered: 0, which nobody can take.
        Raises PositionGap if it does not start where the batch before it ended.
        """
        queue = self._queues.get(partition)
        if queue is None:
            queue = self._queues[partition] = _Queue(reached=start, next_start=start, committed=start)
        if queue.halted:
            return 0
        if start != queue.next_start or end <= start:
            raise PositionGap(
                f"{partition}: a batch of positions {start} to {end} was delivered where {queue.next_start} "
                "comes next; the process must stop and read again from the committed offset"
            )
        self._last_serial += 1
        batch = _Batch(partition, end, records, _State.WAITING, first_ms, size_bytes)
        queue.batches.append(batch)
        queue.next_start = end
        self._open[self._last_serial] = batch
        self.open_records += records
        self.open_bytes += size_bytes
        if not records:
            self.acknowledge(self._last_serial)
        return self._last_serial

    def take(self, serial: int) -> bool:
        """Somebody starts to work on the batch. False if it was forgotten meanwhile: leave it alone."""
        batch = self._open.get(serial)
        if batch is None or batch.state is not _State.WAITING:
            return False
        batch.state = _State.TAKEN
        self.taken_batches += 1
        return True

    def acknowledge(self, serial: int) -> bool:
        """All effects of the batch are durable. False if it was forgotten or is acknowledged already."""
        batch = self._open.get(serial)
        if batch is None:
            return False
        self._close(serial, batch)
        batch.state = _State.DONE
        queue = self._queues[batch.partition]
        while queue.batches and queue.batches[0].state is _State.DONE:
            queue.reached = queue.batches.popleft().end
        return True

    def seek(self, partition: P, position: int) -> None:
        """The partition is read from `position` on; what was delivered before is forgotten."""
        self.forget([partition])
        self._queues[partition] = _Queue(reached=position, next_start=position, committed=position)

    def halt(self, partition: P, position: int) -> None:
        """Take nothing from `position` on: what was delivered of it is given back, and nothing more is registered
        before `go_on`. Records before it may still be acknowledged, and are committed then.
        """
        queue = self._queues.get(partition)
        if queue is None:
            return
        queue.halted = True
        start = queue.reached
        kept: deque[_Batch[P]] = deque()
        gone: set[int] = set()
        for batch in queue.batches:
            if start < position:
                kept.append(batch)
            else:
                gone.add(id(batch))
            start, batch.end = batch.end, min(batch.end, position)
        queue.batches = kept
        queue.next_start = max(queue.reached, position)
        for serial in [s for s, batch in self._open.items() if id(batch) in gone]:
            self._close(serial, self._open[serial])

    def go_on(self, partition: P) -> None:
        """Register what is delivered of a halted partition again; it must come from `position_of_next` on."""
        queue = self._queues.get(partition)
        if queue is not None:
            queue.halted = False

    def position_of_next(self, partition: P) -> int | None:
        """Where the next batch must start; None before the first one."""
        queue = self._queues.get(partition)
        return None if queue is None else queue.next_start

    def halted(self) -> set[P]:
        """Partitions of which nothing is taken."""
        return {partition for partition, queue in self._queues.items() if queue.halted}

    def forget(self, partitions: Iterable[P]) -> None:
        """The partitions are no longer ours: late acknowledgements will find nothing to commit."""
        gone = {partition for partition in partitions if self._queues.pop(partition, None) is not None}
        for serial in [s for s, batch in self._open.items() if batch.partition in gone]:
            self._close(serial, self._open[serial])

    def freeze(self) -> None:
        """Never let anything be committed again in this process."""
        self._frozen = True

    @property
    def frozen(self) -> bool:
        return self._frozen

    def partitions(self) -> Iterator[P]:
        return iter(tuple(self._queues))

    def position(self, partition: P) -> int | None:
        """Start of the oldest batch not yet acknowledged, or where the next one will start."""
        queue = self._queues.get(partition)
        return None if queue is None else queue.reached

    def oldest_ms(self, partition: P) -> int | None:
        """Timestamp of the first record of the oldest batch not yet acknowledged; None if there is none in hand."""
        queue = self._queues.get(partition)
        return queue.batches[0].first_ms if queue is not None and queue.batches else None

    def committable(self, partition: P) -> int | None:
        """The offset to commit (Kafka's meaning: the next to read), or None if there is nothing new."""
        queue = self._queues.get(partition)
        if queue is None or self._frozen or queue.reached <= queue.committed:
            return None
        return queue.reached

    def committed(self, partition: P, offset: int) -> None:
        """The broker has stored `offset` for the partition."""
        queue = self._queues.get(partition)
        if queue is not None:
            queue.committed = max(queue.committed, offset)

    def _close(self, serial: int, batch: _Batch[P]) -> None:
        del self._open[serial]
        self.open_records -= batch.records
        self.open_bytes -= batch.size_bytes
        if batch.state is _State.TAKEN:
            self.taken_batches -= 1
