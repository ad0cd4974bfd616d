"""One partition's fetch, as the scoring shell receives it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

__all__ = ["RecordBatch"]


@dataclass(frozen=True, slots=True, eq=False)
class RecordBatch:
    """Consecutive records of one partition, as columns of equal length (at least one record).

    `offsets` (int64, rising) has holes where the log has: compacted records, transaction markers.
    `timestamps_ms` are Kafka's record timestamps in UTC milliseconds. Keys and values are the bytes
    on the wire, None where the record has none.

    Whoever takes a batch must call `acknowledge` once, when every effect of all its records is
    durable, in any order among batches and at any later time. A batch that is never acknowledged
    holds back the commits of its partition from there on.
    """

    topic: str
    partition: int
    first_offset: int
    last_offset: int
    offsets: npt.NDArray[np.int64]
    # Never in a log: they are what customers did and said.
    keys: list[bytes | None] = field(repr=False)
    values: list[bytes | None] = field(repr=False)
    timestamps_ms: list[int]
    serial: int
    _acknowledge: Callable[[int], bool] = field(repr=False)

    def __len__(self) -> int:
        return len(self.values)

    def acknowledge(self) -> bool:
        """Mark all records as done. False if the partition was revoked meanwhile: then nothing is committed
        for this batch and another worker does it again. Call it on the event loop's thread."""
        return self._acknowledge(self.serial)
