"""Between the event loop and the log: hand over records, wait for their acknowledgement, set refusals aside."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any, Final, Protocol

from schemas.rejected import STAGE_INGEST, encode_rejected
from schemas.topics import REJECTED, TOUCHPOINTS
from services.ingest.admit import Admission, RefusedEvent
from services.ingest.metrics import Metrics

_log: Final = logging.getLogger(__name__)

_POLL_S: Final = 0.001
_IDLE_POLL_S: Final = 0.5
"""With nothing on its way only the client's own errors are fetched."""


class Delivery(Protocol):
    """Records on their way, as the log tells of them."""

    @property
    def complete(self) -> bool: ...
    @property
    def error(self) -> object: ...
    def acknowledged_values(self) -> set[bytes | None]: ...


class Log(Protocol):
    """What is needed of a log; infra.kafka.producer.LogProducer has this shape."""

    @property
    def replaced(self) -> int: ...
    def __len__(self) -> int: ...
    def send(
        self,
        topic: str,
        keys: Sequence[str] | None,
        values: Sequence[bytes],
        timestamp_ms: int,
        on_done: Callable[[Any], None],
    ) -> Delivery: ...
    def poll(self) -> int: ...
    def flush(self, timeout_s: float) -> int: ...
    def topics(self, timeout_s: float) -> set[str]: ...


class Writer:
    """Writes to the log from one event loop; `run` must be running meanwhile.

    ``busy`` is what the log raises when it has no room.
    """

    def __init__(self, log: Log, *, busy: type[Exception], delivery_timeout_s: float, metrics: Metrics) -> None:
        self._to = log
        self._busy = busy
        self._delivery_timeout_s = delivery_timeout_s
        self._metrics = metrics
        self._open = 0
        self._sent = asyncio.Event()
        metrics.watch_producer(lambda: len(log), lambda: log.replaced)

    async def run(self) -> None:
        """Fetch reports until cancelled: often while something is on its way, seldom otherwise."""
        while True:
            try:
                self._to.poll()
            except Exception:
                _log.exception("a report from kafka could not be handled")
            if self._open:
                await asyncio.sleep(_POLL_S)
                continue
            self._sent.clear()
            try:
                async with asyncio.timeout(_IDLE_POLL_S):
                    await self._sent.wait()
            except TimeoutError:
                continue

    def _send(
        self,
        topic: str,
        keys: Sequence[str] | None,
        values: Sequence[bytes],
        received_at_us: int,
        on_done: Callable[[Delivery], None],
    ) -> Delivery:
        def done(delivery: Delivery) -> None:
            self._open -= 1
            on_done(delivery)

        self._open += 1
        try:
            delivery = self._to.send(topic, keys, values, received_at_us // 1_000, done)
        except BaseException:
            self._open -= 1
            raise
        self._sent.set()
        return delivery

    async def write(self, admission: Admission) -> list[int]:
        """Put accepted events into the log; returns positions of those it did not acknowledge in time."""
        if not admission.values:
            return []
        started = perf_counter()
        loop = asyncio.get_running_loop()
        reported = loop.create_future()

        def on_done(_: Delivery | None) -> None:
            if not reported.done():
                reported.set_result(None)

        try:
            delivery = self._send(TOUCHPOINTS, admission.keys, admission.values, admission.received_at_us, on_done)
        except self._busy as error:
            _log.warning("%s", error)
            return admission.positions
        timer = loop.call_later(self._delivery_timeout_s, on_done, None)
        try:
            await reported
        finally:
            timer.cancel()
        self._metrics.delivery_seconds.observe(perf_counter() - started)
        if delivery.complete:
            return []
        if delivery.error is not None:
            _log.warning("kafka did not take all of %d events: %s", len(admission.values), delivery.error)
        else:
            _log.warning("kafka did not acknowledge %d events in time", len(admission.values))
        in_the_log = delivery.acknowledged_values()
        return [
            position
            for position, value in zip(admission.positions, admission.values, strict=True)
            if value not in in_the_log
        ]

    def set_aside(self, refused: Sequence[RefusedEvent], received_at_us: int) -> None:
        """Put refused events on topic ``rejected``. Nobody waits for it; what does not get there is counted."""
        values = [
            encode_rejected(
                stage=STAGE_INGEST,
                received_at_us=received_at_us,
                reason=event.problems[0].reason,
                field=event.problems[0].field,
                detail=event.problems[0].detail,
                payload=event.payload,
                event_id=event.event_id,
                customer_id=event.customer_id,
                source=event.source,
            )
            for event in refused
        ]
        outcome = self._metrics.quarantined

        def on_done(delivery: Delivery) -> None:
            kept = len(values)
            if not delivery.complete:
                in_the_log = delivery.acknowledged_values()
                kept = sum(value in in_the_log for value in values)
                _log.error("%d refused events are not on topic %s", len(values) - kept, REJECTED)
            outcome.labels("kept").inc(kept)
            outcome.labels("lost").inc(len(values) - kept)

        try:
            self._send(REJECTED, None, values, received_at_us, on_done)
        except self._busy as error:
            _log.error("%d refused events are not on topic %s: %s", len(values), REJECTED, error)
            outcome.labels("lost").inc(len(values))

    async def missing_topics(self, timeout_s: float) -> set[str]:
        """Topics that should exist and do not; raises what the log raises when it cannot be reached."""
        return {TOUCHPOINTS, REJECTED} - await asyncio.to_thread(self._to.topics, timeout_s)

    def flush(self, timeout_s: float) -> int:
        """Wait, blocking, for everything on its way; returns how many records are left."""
        return self._to.flush(timeout_s)
