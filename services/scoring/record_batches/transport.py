"""Faust's Kafka driver, taught to hand over one partition's fetch as one message and to commit it right.

Faust's own acknowledgement is switched off by topics with `acks=False` (see app.py): it counts single
offsets and repairs holes by interval trees, and with batches its commits come to a halt. The CommitLedger
stands in its place.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast

import aiokafka
from aiokafka.errors import ConsumerStoppedError
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, AppT, ConsumerMessage
from faust.types.transports import ConsumerCallback, ConsumerT, TPorTopicSet
from mode import get_logger
from yarl import URL

from services.scoring.record_batches.batch import RecordBatch
from services.scoring.record_batches.commits import CommitLedger
from services.scoring.record_batches.fetched import FetchedRecords, take_fetched

__all__ = ["PartitionListener", "RecordBatchTransport", "TransportOptions"]

logger = logging.getLogger(__name__)

FETCH_MAX_WAIT_MS = 100
"""The broker's longest wait for new records. Faust asks for 1,500: as one request covers all partitions of a
broker, a partition that was left out of it because its records were not taken yet would be as late."""
FETCH_MIN_BYTES = 64 * 1024
"""The broker waits for so much, or for its longest wait. A fetch at every record (the default) costs broker and worker
more than the records themselves: each call of the core has some 20 ms of its own."""


class PartitionListener(Protocol):
    """Told of changes of the assignment, on the event loop's thread. An error stops the process."""

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Not ours any more. In flight batches had their time to end; those left are forgotten: drop all
        work and all state kept for these partitions. Must return within seconds."""

    async def on_partitions_assigned(self, assigned: set[TP]) -> None:
        """Ours from now on; no batch of these partitions comes before this returns. Every rebalance
        revokes all partitions and assigns all anew."""


@dataclass(frozen=True, slots=True)
class TransportOptions:
    max_open_records: int
    """Fetching pauses while this many records are not acknowledged."""
    max_open_bytes: int
    """And while their values have this size: large events must not fill the memory."""
    drain_timeout_s: float
    """How long a revocation or a stop waits for batches in work. Below the rebalance timeout."""
    listener: PartitionListener
    fail: Callable[[BaseException], Any]
    """Coroutine function that stops the process without a commit."""


class RecordBatchConsumerThread(driver.AIOKafkaConsumerThread):
    """aiokafka's consumer in its own thread and event loop; so heartbeats go on while a batch is folded."""

    logger = get_logger("faust.record_batches")  # start and stop messages stay under Faust's name

    def _create_worker_consumer(self, transport: driver.Transport) -> aiokafka.AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = FETCH_MAX_WAIT_MS
        consumer._fetch_min_bytes = FETCH_MIN_BYTES
        return consumer

    async def _fetch_records(
        self,
        consumer: aiokafka.AIOKafkaConsumer,
        active_partitions: set[TP] | None,
        timeout: float | None = None,
        max_records: int | None = None,
    ) -> Mapping[TP, Any]:
        fetcher = consumer._fetcher
        if consumer._closed or fetcher._closed:
            raise ConsumerStoppedError
        with fetcher._subscriptions.fetch_context():
            return await take_fetched(
                fetcher,
                active_partitions or (),
                timeout_s=timeout or 0.0,
                max_records=max_records or 1,
                generation=lambda: consumer._coordinator.generation if self.consumer.flow_active else None,
            )

    async def prove_alive(self) -> None:
        """Tell aiokafka that the application lives although it takes no records (backpressure)."""
        await self.call_thread(self._touch)

    async def _touch(self) -> None:
        with self._ensure_consumer()._fetcher._subscriptions.fetch_context():
            pass

    async def seek_to_committed(self) -> Mapping[TP, int]:
        return cast(Mapping[TP, int], await self.call_thread(self._seek_to_committed))

    async def _seek_to_committed(self) -> Mapping[TP, int]:
        # aiokafka's own leaves a partition without a committed offset where it stands, so records that were
        # fetched and dropped in a rebalance would never be read again.
        consumer = self._ensure_consumer()
        positions: dict[TP, int] = {}
        for partition in consumer.assignment():
            committed = await consumer.committed(partition)
            if committed is None:
                await consumer.seek_to_beginning(partition)
            else:
                consumer.seek(partition, committed)
            positions[TP(partition.topic, partition.partition)] = await consumer.position(partition)
        return positions

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        generation = self._ensure_consumer()._coordinator.generation
        if generation != self.app.consumer_generation_id:
            # The group went on without us (a pause longer than the session timeout). Kafka would take a
            # commit without a generation if the group happens to be empty.
            logger.info("commit dropped: the group has a new generation", extra={"offsets": str(offsets)})
            return False
        return await super()._commit(offsets)


class RecordBatchConsumer(driver.Consumer):
    """Delivers RecordBatch messages and commits what the ledger allows, nothing else."""

    logger = get_logger("faust.record_batches")

    def __init__(self, *args: Any, ledger: CommitLedger[TP], options: TransportOptions, **kwargs: Any) -> None:
        self.ledger = ledger
        self.options = options
        self._moved = asyncio.Event()
        super().__init__(*args, **kwargs)

    def _new_consumer_thread(self) -> RecordBatchConsumerThread:
        return RecordBatchConsumerThread(self, loop=self.loop, beacon=self.beacon)

    # -- delivery

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Mapping[TP, Any]:
        if self._full():
            await self._wait_for_move(timeout)
            if self._full():
                return {}
        if active_partitions is not None and (halted := self.ledger.halted()):
            active_partitions = active_partitions - halted
            if not active_partitions:
                await self._wait_for_move(timeout)
                return {}
        fetched = cast(Mapping[TP, FetchedRecords], await super()._getmany(active_partitions, timeout))
        # Records of an older generation are fetched again, by us or by another worker.
        current = self.app.consumer_generation_id
        fresh = {tp: records for tp, records in fetched.items() if records.generation == current}
        if self.flow_active:
            for tp in [tp for tp, records in fresh.items() if not len(records)]:
                records = fresh.pop(tp)
                self.ledger.deliver(tp, records.start, records.end, 0)
        return fresh

    async def prove_alive(self) -> None:
        """Tell aiokafka that this process lives although it may take no records for a while: the watchdog does."""
        await cast(RecordBatchConsumerThread, self._thread).prove_alive()

    def _full(self) -> bool:
        ledger, options = self.ledger, self.options
        return ledger.open_records >= options.max_open_records or ledger.open_bytes >= options.max_open_bytes

    def _to_message(self, tp: TP, record: Any) -> ConsumerMessage:
        records: FetchedRecords = record
        serial = self.ledger.deliver(
            tp,
            records.start,
            records.end,
            len(records),
            first_ms=records.timestamps_ms[0],
            size_bytes=sum(map(len, filter(None, records.values))),
        )
        last_offset = int(records.offsets[-1])
        batch = RecordBatch(
            topic=tp.topic,
            partition=tp.partition,
            first_offset=int(records.offsets[0]),
            last_offset=last_offset,
            offsets=records.offsets,
            keys=records.keys,
            values=records.values,
            timestamps_ms=records.timestamps_ms,
            serial=serial,
            _acknowledge=self._acknowledge,
        )
        return ConsumerMessage(
            tp.topic,
            tp.partition,
            last_offset,
            records.timestamps_ms[-1] / 1000.0,
            0,
            None,
            None,
            cast(Any, batch),  # Faust passes it through untouched: see BatchSchema
            None,
            0,
            0,
            tp,
            generation_id=self.app.consumer_generation_id,
        )

    def _acknowledge(self, serial: int) -> bool:
        counted = self.ledger.acknowledge(serial)
        self._moved.set()
        return counted

    async def _wait_for_move(self, timeout_s: float) -> None:
        """Until a batch was acknowledged or forgotten, at most `timeout_s`."""
        self._moved.clear()
        try:
            await asyncio.wait_for(self._moved.wait(), timeout_s)
        except TimeoutError:
            return

    # -- commits

    def _filter_tps_with_pending_acks(self, topics: TPorTopicSet | None = None) -> Iterator[TP]:
        return (tp for tp in self.ledger.partitions() if topics is None or tp in topics or tp.topic in topics)

    def _new_offset(self, tp: TP) -> int | None:
        return self.ledger.committable(tp)

    def _should_commit(self, tp: TP, offset: int) -> bool:
        return True  # the ledger has decided

    async def _commit_offsets(self, offsets: Mapping[TP, int], start_new_transaction: bool = True) -> bool:
        committed = await super()._commit_offsets(offsets, start_new_transaction=start_new_transaction)
        if committed:
            for tp, offset in offsets.items():
                self.ledger.committed(tp, offset)
        return committed

    async def on_task_error(self, exc: BaseException) -> None:
        """Faust commits when an agent has failed. We do not."""

    async def wait_empty(self) -> None:
        """Let batches in work end and commit them, within the drain timeout each."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + self.options.drain_timeout_s
        while self.ledger.taken_batches and not self.ledger.frozen and loop.time() < deadline_s:
            await self._wait_for_move(deadline_s - loop.time())
        if self.ledger.taken_batches and not self.ledger.frozen:
            logger.warning(
                "batches still in work after %.1f s are left to be done again: %d",
                self.options.drain_timeout_s,
                self.ledger.taken_batches,
            )
        try:
            await asyncio.wait_for(self._commit_all(), self.options.drain_timeout_s)
        except TimeoutError:
            logger.warning("the last commit found no answer; its records will be done again")

    async def _commit_all(self) -> None:
        # A commit under way makes `commit` wait for it and then do nothing, so twice.
        if not await self.commit():
            await self.commit()

    # -- assignment

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        await super().on_partitions_revoked(revoked)  # stops the flow, drains and commits by wait_empty
        self.ledger.forget(tuple(self.ledger.partitions()))
        self._moved.set()
        if revoked:  # nothing at the first join
            await self._tell(self.options.listener.on_partitions_revoked, revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        await self._tell(self.options.listener.on_partitions_assigned, assigned)
        await super().on_partitions_assigned(assigned, generation_id)

    async def _tell(self, hook: Callable[[set[TP]], Any], partitions: set[TP]) -> None:
        try:
            await hook(set(partitions))
        except Exception as exc:  # aiokafka would log it and go on
            await self.options.fail(exc)

    async def perform_seek(self) -> None:
        """Read on from the committed offsets. Called by Faust after every rebalance."""
        positions = await self._thread.seek_to_committed()
        for tp, position in positions.items():
            self.ledger.seek(tp, position)
            self._read_offset[tp] = None
            self._committed_offset[tp] = None
        self._moved.set()

    async def seek(self, partition: TP, offset: int) -> None:
        await super().seek(partition, offset)
        self.ledger.seek(partition, offset)
        self._moved.set()

    async def go_on(self, partition: TP) -> None:
        """Read a halted partition on from where it was halted."""
        position = self.ledger.position_of_next(partition)
        if position is None:
            return
        await super().seek(partition, position)
        self.ledger.go_on(partition)
        self._moved.set()

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Faust's livelock messages judge by its own acknowledgements; see watchdog.py."""


class RecordBatchTransport(driver.Transport):
    """To be set as `app.transport`."""

    def __init__(self, url: list[URL], app: AppT, ledger: CommitLedger[TP], options: TransportOptions) -> None:
        super().__init__(url, app)
        self._ledger = ledger
        self._options = options

    def create_consumer(self, callback: ConsumerCallback, **kwargs: Any) -> ConsumerT:
        return RecordBatchConsumer(self, callback, loop=self.loop, ledger=self._ledger, options=self._options, **kwargs)
