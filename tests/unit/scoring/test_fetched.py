"""What aiokafka fetched is taken whole, and nothing of it stays behind."""

from __future__ import annotations

import asyncio
import gc
import weakref
from types import SimpleNamespace
from typing import Any

from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import FetchResult, PartitionRecords
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from faust.types import TP

from services.scoring.record_batches.fetched import take_fetched

WHERE = TopicPartition("touchpoints", 0)
FIRST = 7


class State:
    paused = False
    position = FIRST

    def consumed_to(self, position: int) -> None:
        self.position = position


def log_of(values: list[bytes]) -> bytes:
    builder = DefaultRecordBatchBuilder(
        magic=2, compression_type=0, is_transactional=0, producer_id=-1, producer_epoch=-1, base_sequence=-1,
        batch_size=1 << 20,
    )  # fmt: skip
    for number, value in enumerate(values):
        builder.append(number, timestamp=1_000 + number, key=b"k", value=value, headers=[])
    data = bytearray(builder.build())
    data[:8] = FIRST.to_bytes(8, "big")
    return bytes(data)


def fetched(values: list[bytes]) -> PartitionRecords:
    records = MemoryRecords(log_of(values))
    return PartitionRecords(WHERE, records, [], FIRST, None, None, True, 0)


def fetcher_with(records: PartitionRecords) -> Any:
    state = State()
    assignment = SimpleNamespace(active=True, state_value=lambda _: state)
    result = FetchResult(WHERE, assignment=assignment, partition_records=records, backoff=0)
    return SimpleNamespace(
        _records={WHERE: result},
        _subscriptions=SimpleNamespace(reassignment_in_progress=False, is_assigned=lambda _: True),
        _notify=lambda _: None,
        _wait_consume_future=None,
        _check_crcs=True,
        _closed=False,
    )


def take(fetcher: Any, most: int = 100) -> Any:
    taken = asyncio.run(take_fetched(fetcher, [WHERE], timeout_s=0.0, max_records=most, generation=lambda: 3))
    return taken[TP(WHERE.topic, WHERE.partition)]


def test_a_fetch_is_taken_whole() -> None:
    fetcher = fetcher_with(fetched([b"a", b"b", b"c"]))
    records = take(fetcher)
    assert records.values == [b"a", b"b", b"c"]
    assert records.keys == [b"k"] * 3
    assert records.offsets.tolist() == [FIRST, FIRST + 1, FIRST + 2]
    assert records.timestamps_ms == [1_000, 1_001, 1_002]
    assert (records.start, records.end, records.generation) == (FIRST, FIRST + 3, 3)
    assert not fetcher._records, "the fetcher may ask for more"


def test_what_was_fetched_goes_without_the_collector_of_cycles() -> None:
    records = fetched([b"x" * 1_000] * 10)
    gone = weakref.ref(records)
    fetcher = fetcher_with(records)
    del records
    gc.disable()
    try:
        take(fetcher)
        assert gone() is None, "megabytes would stay in memory until the collector happens to run"
    finally:
        gc.enable()
