"""Builds the Faust app around a handler of record batches. Nothing connects before the worker runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, cast

import faust
from faust.types import TP, ChannelT, StreamT
from mode import get_logger
from yarl import URL

from services.scoring.record_batches.batch import RecordBatch
from services.scoring.record_batches.commits import CommitLedger
from services.scoring.record_batches.scheduler import WholeFetchScheduler
from services.scoring.record_batches.transport import (
    PartitionListener,
    RecordBatchConsumer,
    RecordBatchTransport,
    TransportOptions,
)

__all__ = ["BatchHandler", "RecordBatchApp", "StreamOptions", "build_app"]

BatchHandler = Callable[[list[RecordBatch]], Awaitable[None]]
"""Receives all batches that wait, in order per partition (several of one partition possible). May return
before they are done: each batch is acknowledged when its effects are durable. Calls do not overlap.
An exception stops the process without a commit."""


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """How the worker reads. Times are seconds; the defaults are those of the tests."""

    brokers: str
    """`host:port`, several separated by commas."""
    topic: str
    group: str
    """Consumer group, and nothing is put before or behind it."""
    max_batch_records: int = 30_000
    """A fetch is cut when it passes this many records. Small batches cost throughput (5,000: a third)."""
    max_fetch_bytes: int = 8 * 1024 * 1024
    """Per partition and fetch; aiokafka keeps one fetch per partition ahead, 50 MiB at most together."""
    max_open_records: int = 120_000
    """Fetching pauses while this many records are not acknowledged: bounds memory. One look takes what lies ready of
    every partition, so it may be passed by a fetch of each."""
    max_open_bytes: int = 64 * 1024 * 1024
    """And while their values have this size: the count alone bounds nothing where events are large."""
    max_call_records: int = 60_000
    """Waiting batches are handed to the handler together until this many records are reached."""
    commit_interval_s: float = 0.5
    """A killed worker's successor repeats at most this much, plus what was in work."""
    session_timeout_s: float = 6.0
    """A dead worker's partitions wait this long; brokers allow no less by default. The heartbeat thread is independent
    of the handler."""
    heartbeat_interval_s: float = 2.0
    rebalance_timeout_s: float = 10.0
    """A member that does not rejoin in this time is left out; drain (5) + commit (under 5) fit in it."""
    drain_timeout_s: float = 4.5
    max_poll_interval_s: float = 60.0
    """A worker whose event loop is blocked this long leaves the group, although it sends heartbeats. One that only
    waits does not: the watchdog speaks for it."""
    request_timeout_s: float = 40.0


class BatchSchema(faust.Schema[Any, Any]):
    """Hands the batch through: no serializer, so no pickle and nothing that could run code."""

    def loads_key(self, app: Any, message: Any, *, loads: Any = None, serializer: Any = None) -> Any:
        return None

    def loads_value(self, app: Any, message: Any, *, loads: Any = None, serializer: Any = None) -> Any:
        return message.value


class RecordBatchApp(faust.App):
    """A Faust app with the ledger of its commits, and a way to stop without one."""

    logger = get_logger("faust.app")

    ledger: CommitLedger[TP]

    async def fail(self, reason: BaseException) -> None:
        """Stop the process with `reason`; nothing is committed from here on."""
        self.ledger.freeze()
        try:
            raise reason  # the crash is logged with the traceback of the exception being handled
        except BaseException:
            await self.crash(reason)

    def halt(self, partition: TP, position: int) -> None:
        """Neither take nor commit records of a partition from `position` on, until `go_on` or a rebalance."""
        self.ledger.halt(partition, position)

    async def go_on(self, partition: TP) -> None:
        """Read a halted partition on from where it was halted."""
        await cast(RecordBatchConsumer, self.consumer).go_on(partition)

    def beside(self, run: Callable[[], Awaitable[None]]) -> None:
        """Run something for as long as the app; an error of it stops the process without a commit."""

        async def guarded() -> None:
            try:
                await run()
            except Exception as error:
                await self.fail(error)

        self.task(guarded)

    def _create_directories(self) -> None:
        """Faust makes folders for its tables in the working folder. There are no tables."""


def build_app(options: StreamOptions, handler: BatchHandler, listener: PartitionListener) -> RecordBatchApp:
    """An app with one agent that feeds `handler`. Run it with `run_worker`."""
    app = RecordBatchApp(
        options.group,
        broker=[URL(f"kafka://{address.strip()}") for address in options.brokers.split(",")],
        broker_client_id=options.group,
        broker_session_timeout=options.session_timeout_s,
        broker_rebalance_timeout=options.rebalance_timeout_s,
        broker_heartbeat_interval=options.heartbeat_interval_s,
        broker_request_timeout=options.request_timeout_s,
        broker_max_poll_records=options.max_batch_records,
        broker_max_poll_interval=options.max_poll_interval_s,
        broker_commit_interval=options.commit_interval_s,
        consumer_max_fetch_size=options.max_fetch_bytes,
        consumer_auto_offset_reset="earliest",
        ConsumerScheduler=WholeFetchScheduler,
        processing_guarantee="at_least_once",
        key_serializer="raw",
        value_serializer="raw",
        stream_wait_empty=True,
        # no tables: then aiokafka's round robin assignor is used, and no changelog or leader topic is made
        table_standby_replicas=0,
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
        autodiscover=False,
        worker_redirect_stdouts=False,
    )
    app.ledger = CommitLedger()
    app.transport = RecordBatchTransport(
        app.conf.broker_consumer,
        app,
        app.ledger,
        TransportOptions(options.max_open_records, options.max_open_bytes, options.drain_timeout_s, listener, app.fail),
    )
    # acks=False takes Faust's own bookkeeping of offsets out of the way
    topic = app.topic(options.topic, schema=BatchSchema(), acks=False, allow_empty=False)

    @app.agent(topic, name="record-batches")
    async def deliver(stream: StreamT[RecordBatch]) -> None:
        async for first in stream:
            waiting = _with_waiting(first, stream, options.max_call_records)
            batches = [batch for batch in waiting if app.ledger.take(batch.serial)]
            if not batches:
                continue
            try:
                await handler(batches)
            except Exception as exc:  # Faust would restart the agent and take the batch for done
                await app.fail(exc)
                return

    return app


def _with_waiting(first: RecordBatch, stream: StreamT[RecordBatch], max_records: int) -> list[RecordBatch]:
    """`first` and those already queued behind it."""
    batches, records = [first], len(first)
    queue = cast(ChannelT[RecordBatch], stream.channel).queue
    while records < max_records and not queue.empty():
        batch: RecordBatch = queue.get_nowait().value
        batches.append(batch)
        records += len(batch)
    return batches
