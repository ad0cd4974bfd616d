"""Takes fetched records out of aiokafka's fetcher as columns.

aiokafka makes a ConsumerRecord of eleven fields for every record (3 us each). Here its C parser is read
straight into lists (0.6 us), and the range of positions that the records came from is kept: the end of it
also covers transaction markers and compacted records, which no record tells of.

Works on private parts of aiokafka's fetcher; the version is pinned and the integration tests hold it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import Fetcher, FetchResult
from aiokafka.errors import CorruptRecordException
from faust.types import TP

__all__ = ["FetchedRecords", "take_fetched"]


@dataclass(frozen=True, slots=True, eq=False)
class FetchedRecords:
    """Records read from positions [start, end) of one partition, in the group's `generation`."""

    start: int
    end: int
    generation: int
    offsets: npt.NDArray[np.int64]
    keys: list[bytes | None] = field(repr=False)
    values: list[bytes | None] = field(repr=False)
    timestamps_ms: list[int]

    def __len__(self) -> int:
        return len(self.values)


async def take_fetched(
    fetcher: Fetcher,
    partitions: Collection[TP],
    *,
    timeout_s: float,
    max_records: int,
    generation: Callable[[], int | None],
) -> dict[TP, FetchedRecords]:
    """What was fetched for `partitions`, at least one range each, waiting up to `timeout_s` for the first.

    `generation` is asked at the moment of taking, because a rebalance may have passed while this waited;
    None forbids to take. What is taken is past the fetch position: if nobody used it, it would be lost.

    Stops at the first batch of the log at which `max_records` is reached or passed, all partitions
    together. Raises the error of a failed fetch, or CorruptRecordException.
    """
    deadline_s = asyncio.get_running_loop().time() + timeout_s
    while True:
        left_s = deadline_s - asyncio.get_running_loop().time()
        subscriptions = fetcher._subscriptions
        if subscriptions.reassignment_in_progress:
            # Records of the old assignment must not be taken any more; the caller looks again.
            await asyncio.wait([subscriptions.wait_for_assignment()], timeout=max(left_s, 0.0))
            return {}
        current = generation()
        if current is None:
            return {}
        taken = _take_ready(fetcher, partitions, max_records, current)
        if taken or left_s <= 0:
            return taken
        waiter = fetcher._create_fetch_waiter()
        done, _ = await asyncio.wait([waiter], timeout=left_s)
        if not done or fetcher._closed:
            waiter.cancel()
            return {}
        waiter.result()  # raises what the group coordinator found fatal


def _take_ready(
    fetcher: Fetcher, partitions: Collection[TP], max_records: int, generation: int
) -> dict[TP, FetchedRecords]:
    taken: dict[TP, FetchedRecords] = {}
    room = max_records
    for partition in list(fetcher._records):
        if room <= 0:
            break
        if partition not in partitions:
            if not fetcher._subscriptions.is_assigned(partition):
                del fetcher._records[partition]
            continue
        result = fetcher._records[partition]
        if not isinstance(result, FetchResult):
            if taken:
                break  # hand over what was read; the error is met again at the next call
            _finish(fetcher, partition)
            result.check_raise()
            continue
        if not result.check_assignment(partition) or not result.has_more():
            _finish(fetcher, partition)
            continue
        records = _read(result, partition, room, generation, check_crcs=fetcher._check_crcs)
        if not result.has_more():
            _finish(fetcher, partition)
        if records is not None:
            taken[TP(partition.topic, partition.partition)] = records
            room -= len(records)
    return taken


def _finish(fetcher: Fetcher, partition: TopicPartition) -> None:
    """Everything fetched for the partition is consumed: let the fetcher ask for more."""
    del fetcher._records[partition]
    fetcher._notify(fetcher._wait_consume_future)


def _read(
    result: FetchResult, partition: TopicPartition, max_records: int, generation: int, *, check_crcs: bool
) -> FetchedRecords | None:
    source = result._partition_records
    # Nobody uses its iterator, which refers back to it: megabytes a fetch would wait for the collector of cycles.
    source._records_iterator = None
    log = source._records
    start = position = source.next_fetch_offset
    offsets: list[npt.NDArray[np.int64]] = []
    keys: list[bytes | None] = []
    values: list[bytes | None] = []
    timestamps_ms: list[int] = []
    while len(values) < max_records and log.has_next():
        chunk = log.next_batch()
        if check_crcs and not chunk.validate_crc():
            raise CorruptRecordException(f"{partition}: wrong checksum at offset {chunk.base_offset}")
        if not chunk.is_control_batch:
            # A committed offset can lie inside a chunk of the log, which always comes whole.
            rows: list[Any] = [row for row in chunk if row.offset >= position]
            if rows:
                offsets.append(_offsets(rows))
                keys += [row.key for row in rows]
                values += [row.value for row in rows]
                timestamps_ms += [row.timestamp for row in rows]
        position = max(position, chunk.next_offset)
    source.next_fetch_offset = position
    result._update_position()
    if not log.has_next():
        result._partition_records = None
    if position == start:
        return None
    columns = np.concatenate(offsets) if offsets else np.empty(0, dtype=np.int64)
    return FetchedRecords(start, position, generation, columns, keys, values, timestamps_ms)


def _offsets(rows: list[Any]) -> npt.NDArray[np.int64]:
    first, last = rows[0].offset, rows[-1].offset
    if last - first + 1 == len(rows):
        return np.arange(first, last + 1, dtype=np.int64)
    return np.fromiter((row.offset for row in rows), dtype=np.int64, count=len(rows))
