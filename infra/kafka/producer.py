"""Records into the log, acknowledged by all in-sync replicas; each request learns what became of its own.

Nothing here waits: `LogProducer.send` queues, `LogProducer.poll` reports. One thread does both, the event loop's,
so a report is a plain method call: no lock and no future for each record.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from itertools import repeat
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from infra.kafka.clock import SetBack
from infra.kafka.errors import ClusterUnreachableError, KafkaInfraError

_log: Final = logging.getLogger(__name__)

ANY_PARTITION: Final = -1
_MAX_RECORD_BYTES: Final = 2 << 20
"""As the largest topic takes it; the topics themselves hold the finer limit."""
_MAX_QUEUED_KIB: Final = 256 << 10
_SAY_AGAIN_S: Final = 30.0
_CRITICAL: Final = 2
"""The client's own log is read from here on only; what it says below comes as errors too."""


class QueueFullError(KafkaInfraError):
    """Too many records wait for Kafka already; none of these was queued."""


class Delivery:
    """The records of one request on their way. ``on_done`` is called once, when each has been reported."""

    __slots__ = ("_expected", "_on_done", "_reported", "_unqueued", "error", "failed")

    def __init__(self, expected: int, on_done: Callable[[Delivery], None]) -> None:
        self._expected = expected
        self._unqueued = 0
        self._on_done = on_done
        self._reported: list[Message] = []
        self.failed: list[Message] = []
        self.error: KafkaError | None = None
        """The last error, if a record was not acknowledged."""

    def report(self, error: KafkaError | None, message: Message) -> None:
        """Called by the client for each record. Messages are kept: they tell the records apart if some fail."""
        reported = self._reported
        reported.append(message)
        if error is not None:
            self.failed.append(message)
            self.error = error
        if len(reported) == self._expected:
            self._on_done(self)

    def give_up(self, count: int, error: KafkaError) -> None:
        """``count`` records could not be queued and will never be reported."""
        self._unqueued += count
        self._expected -= count
        self.error = error
        if len(self._reported) == self._expected:
            self._on_done(self)

    @property
    def complete(self) -> bool:
        """Every record is in the log."""
        return self.error is None and len(self._reported) == self._expected

    def acknowledged_values(self) -> set[bytes | None]:
        """Values of the records that are in the log by now. Records with the same bytes share their fate."""
        failed = {message.value() for message in self.failed}
        return {message.value() for message in self._reported} - failed


def client_config(bootstrap: str, *, linger_ms: int, delivery_timeout_ms: int, max_records: int) -> dict[str, Any]:
    """Settings of the client: idempotent, acknowledged by all in-sync replicas, bounded in memory."""
    return {
        "bootstrap.servers": bootstrap,
        "client.id": "touchstone-ingest",
        "acks": "all",
        "enable.idempotence": True,
        # As Java clients do it, so that a key has one partition whoever sends it.
        "partitioner": "murmur2_random",
        "linger.ms": linger_ms,
        "delivery.timeout.ms": delivery_timeout_ms,
        "message.max.bytes": _MAX_RECORD_BYTES,
        "queue.buffering.max.messages": max_records,
        "queue.buffering.max.kbytes": _MAX_QUEUED_KIB,
        "reconnect.backoff.max.ms": 1_000,
        "socket.keepalive.enable": True,
        "log_level": _CRITICAL,
    }


class LogProducer:
    """An idempotent producer, replaced when its client says that it cannot go on (a fatal error), or when the clock
    was set back, which makes it wait for a moment long after.

    Records of a replaced client that were not acknowledged are reported as failed: their senders send them
    again, and the same event id makes that harmless.
    """

    def __init__(
        self,
        bootstrap: str,
        *,
        linger_ms: int = 2,
        delivery_timeout_ms: int = 10_000,
        max_records: int = 100_000,
        make_client: Callable[[dict[str, Any]], Producer] = Producer,
        set_back: SetBack | None = None,
    ) -> None:
        self.bootstrap = bootstrap
        self.replaced = 0
        """How often a client had to be replaced."""
        self._config = client_config(
            bootstrap, linger_ms=linger_ms, delivery_timeout_ms=delivery_timeout_ms, max_records=max_records
        )
        self._max_records = max_records
        self._make_client = make_client
        self._set_back = set_back or SetBack()
        self._fatal: KafkaError | None = None
        self._said_s: dict[str, float] = {}
        self._old_clients: list[Producer] = []
        self._client = self._new_client()

    def _new_client(self) -> Producer:
        generation = self.replaced

        def note(error: KafkaError) -> None:
            if error.fatal() and generation == self.replaced:
                self._fatal = error
            else:
                self._say(error)

        return self._make_client({**self._config, "error_cb": note, "logger": _log})

    def _say(self, error: KafkaError) -> None:
        """Log an error of the connection, but not each of a thousand attempts to connect."""
        now_s = time.monotonic()
        if now_s - self._said_s.get(error.name(), -_SAY_AGAIN_S) >= _SAY_AGAIN_S:
            self._said_s[error.name()] = now_s
            _log.warning("kafka: %s: %s", error.name(), error.str())

    def __len__(self) -> int:
        """Records that wait for Kafka, or whose report waits for `poll`."""
        return len(self._client) + sum(map(len, self._old_clients))

    def send(
        self,
        topic: str,
        keys: Sequence[str] | None,
        values: Sequence[bytes],
        timestamp_ms: int,
        on_done: Callable[[Delivery], None],
    ) -> Delivery:
        """Queue records; a later `poll` calls ``on_done``, or this call itself if none could be queued.

        Raises `QueueFullError` before any is queued.
        """
        if len(self) + len(values) > self._max_records:
            raise QueueFullError(f"{len(self)} records wait for Kafka at {self.bootstrap}; send again later")
        delivery = Delivery(len(values), on_done)
        produce, report = self._client.produce, delivery.report
        queued = 0
        try:
            for key, value in zip(keys or repeat(None), values, strict=False):
                produce(topic, value, key, ANY_PARTITION, report, None, timestamp_ms)
                queued += 1
        except BufferError:
            delivery.give_up(len(values) - queued, KafkaError(KafkaError._QUEUE_FULL))
        except KafkaException as exception:
            error: KafkaError = exception.args[0]
            if error.fatal():
                self._fatal = error
            delivery.give_up(len(values) - queued, error)
        return delivery

    def poll(self) -> int:
        """Deliver the reports that have come, without waiting; returns how many."""
        reports = self._client.poll(0)
        if self._fatal is not None:
            self._replace(self._fatal.str())
        elif self._set_back.happened():
            self._replace("the clock was set back")
        if self._old_clients:
            reports += sum(client.poll(0) for client in self._old_clients)
            self._old_clients = [client for client in self._old_clients if len(client)]
        return reports

    def _replace(self, why: str) -> None:
        _log.error("kafka producer cannot go on and is replaced: %s", why)
        self._fatal = None
        self.replaced += 1
        self._client.purge()
        self._old_clients.append(self._client)
        self._client = self._new_client()

    def flush(self, timeout_s: float) -> int:
        """Wait until every record is reported, or time is up; returns how many are not."""
        return sum(client.flush(timeout_s) for client in (self._client, *self._old_clients))

    def topics(self, timeout_s: float) -> set[str]:
        """Names of the cluster's topics. Blocks up to ``timeout_s``: call it in a thread.

        Raises `ClusterUnreachableError`.
        """
        try:
            return set(self._client.list_topics(timeout=timeout_s).topics)
        except KafkaException as exception:
            why = exception.args[0].str()
            raise ClusterUnreachableError(f"no answer from Kafka at {self.bootstrap}: {why}") from exception
