"""When so many records of a partition are rejected that reading on would empty the log into the bin. Pure.

The rule knows offsets and nothing else: a partition stops at the first rejected record that completes
``rejected`` rejections within ``window_records`` offsets. So it stops at the same record whatever the batches were cut
like and however often the worker was started anew; what was rejected before a start is looked up once.

The record at which it stops, and all after it, are not taken: they stay in the log, nothing of them is written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from services.scoring.ports import RejectedRecord
from services.scoring.state import Ints


@dataclass(frozen=True, slots=True)
class FloodLimit:
    """Stop when this many records were rejected of so many in a row."""

    rejected: int = 1_000
    window_records: int = 2_000

    def __post_init__(self) -> None:
        if not 1 <= self.rejected <= self.window_records:
            raise ValueError(f"{self.rejected} rejections cannot be among {self.window_records} records")


@dataclass(frozen=True, slots=True)
class Stop:
    """A partition that stands still before ``offset``."""

    partition: int
    offset: int
    rejected: int
    """So many, the record at ``offset`` included, ..."""
    records: int
    """... of so many records in a row."""
    released_until: int
    """What was let through before: offsets below it were not counted."""


class Halting(Protocol):
    """Whoever sees to it that a partition is not read on."""

    def stop(self, stop: Stop) -> None:
        """Records from ``stop.offset`` on were not folded; they must not be committed."""
        ...

    def forget_all(self) -> None:
        """The partitions are no longer ours."""
        ...


@dataclass(slots=True)
class _Partition:
    recent: Ints
    """Offsets of the latest rejections, ascending; one less than the limit."""
    seen: int
    """The highest rejected offset that was counted."""
    released_until: int = 0


@dataclass(slots=True)
class Floods:
    """Rejections of the partitions that this worker reads. One call at a time.

    ``earlier``: offsets of the rejections of a partition from an offset on and below another, as the table has them.
    ``released``: offset of a partition below which an operator lets everything through; 0 if none did. Asked only when
    the limit is reached. What either raises comes out of `meet`, which may be called again with the same records.
    """

    limit: FloodLimit
    earlier: Callable[[int, int, int], Sequence[int]]
    released: Callable[[int], int]
    stopped: dict[int, Stop] = field(default_factory=dict)
    _partitions: dict[int, _Partition] = field(default_factory=dict)
    _untold: list[Stop] = field(default_factory=list)

    def meet(self, rejected: Sequence[RejectedRecord]) -> Mapping[int, Stop]:
        """Count rejections, those of a partition not below what was counted before; return all stops there are."""
        offsets: dict[int, list[int]] = {}
        for record in rejected:
            offsets.setdefault(record.log_partition, []).append(record.log_offset)
        for partition, found in offsets.items():
            if partition not in self.stopped:
                self._count(partition, np.sort(np.asarray(found, dtype=np.int64)))
        return self.stopped

    def untold(self) -> list[Stop]:
        """Stops that came up since this was last asked."""
        told, self._untold = self._untold, []
        return told

    def release(self, partition: int, until: int) -> None:
        """Go on, and count nothing below ``until``."""
        self.stopped.pop(partition, None)
        known = self._partitions.get(partition)
        if known is not None:
            known.released_until = max(known.released_until, until)
            known.recent = known.recent[known.recent >= until]
            known.seen = int(known.recent[-1]) if known.recent.size else -1

    def forget_all(self) -> None:
        """The partitions are no longer ours."""
        self.stopped.clear()
        self._partitions.clear()
        self._untold.clear()

    def _count(self, partition: int, offsets: Ints) -> None:
        known = self._partitions.get(partition)
        if known is None:
            first = int(offsets[0])
            before = self.earlier(partition, max(0, first - self.limit.window_records + 1), first)
            known = _Partition(np.asarray(before, dtype=np.int64), seen=first - 1)
            self._partitions[partition] = known
        counted = np.concatenate((known.recent, offsets[offsets > known.seen]))
        at = self._reached(counted)
        if at is not None:
            known.released_until = max(known.released_until, self.released(partition))
            counted = counted[counted >= known.released_until]
            at = self._reached(counted)
        if at is not None:
            oldest, last = int(counted[at - self.limit.rejected + 1]), int(counted[at])
            stop = Stop(partition, last, self.limit.rejected, last - oldest + 1, known.released_until)
            self.stopped[partition] = stop
            self._untold.append(stop)
            counted = counted[:at]
        known.seen = int(counted[-1]) if counted.size else max(known.seen, int(offsets[-1]))
        known.recent = counted[counted.size - min(counted.size, self.limit.rejected - 1) :]

    def _reached(self, counted: Ints) -> int | None:
        """Place of the first rejection that completes the limit."""
        back = self.limit.rejected - 1
        if counted.size <= back:
            return None
        places = np.flatnonzero(counted[back:] - counted[: counted.size - back] < self.limit.window_records)
        return int(places[0]) + back if places.size else None
