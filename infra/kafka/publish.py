"""Records into the log from code that may wait: returns when all are acknowledged, or raises."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from infra.kafka.clock import SetBack
from infra.kafka.errors import ClusterUnreachableError
from infra.kafka.producer import ANY_PARTITION, client_config

_log: Final = logging.getLogger(__name__)

_SLICE: Final = 20_000
"""Records under way at once: bounds the producer's queue."""
_LINGER_MS: Final = 5
"""Records travel together for so long."""
_LOOK_S: Final = 0.002


class Publisher:
    """A producer for one thread at a time.

    Nobody is called for a record that is acknowledged, which would take the interpreter's lock from other threads
    thousands of times: no record left in the queue and no error is the acknowledgement of all.
    """

    def __init__(
        self,
        bootstrap: str,
        *,
        timeout_s: float = 15.0,
        make_client: Callable[[dict[str, Any]], Producer] = Producer,
        set_back: SetBack | None = None,
    ) -> None:
        """``timeout_s``: longest wait for the acknowledgement of one slice of records."""
        self._bootstrap = bootstrap
        self._config = client_config(
            bootstrap, linger_ms=_LINGER_MS, delivery_timeout_ms=int(timeout_s * 1000), max_records=2 * _SLICE
        ) | {"delivery.report.only.error": True, "logger": _log}
        self._timeout_s = timeout_s
        self._make_client = make_client
        self._set_back = set_back or SetBack()
        self._client = make_client(self._config)

    def publish(
        self,
        topic: str,
        keys: Sequence[str],
        values: Sequence[bytes],
        timestamp_ms: int,
        partitions: Sequence[int] | None = None,
    ) -> None:
        """Send records and wait. Raises ClusterUnreachableError; some may be in the log then: send them all again.

        ``partitions``: of each record; None: as their keys say.
        """
        where = [ANY_PARTITION] * len(values) if partitions is None else partitions
        if self._set_back.happened():
            self._renew()
        for start in range(0, len(values), _SLICE):
            part = slice(start, start + _SLICE)
            error = self._publish(topic, keys[part], values[part], timestamp_ms, where[part])
            if error is not None:
                self._renew()
                why = f"{len(values)} records for topic {topic}: {error.str()}"
                raise ClusterUnreachableError(f"Kafka at {self._bootstrap} did not take {why}")

    def _publish(
        self, topic: str, keys: Sequence[str], values: Sequence[bytes], timestamp_ms: int, partitions: Sequence[int]
    ) -> KafkaError | None:
        """The first error; None if every record is in the log."""
        failed: list[KafkaError] = []

        def report(error: KafkaError | None, _: Message) -> None:
            if error is not None:
                failed.append(error)

        # A little longer than the client itself waits, so that its own report comes first.
        deadline_s = time.monotonic() + self._timeout_s + 5.0
        produce = self._client.produce
        for key, value, partition in zip(keys, values, partitions, strict=True):
            try:
                produce(topic, value, key, partition, report, None, timestamp_ms)
            except BufferError:  # large records fill the queue before a slice is through
                self._wait(deadline_s)
                try:
                    produce(topic, value, key, partition, report, None, timestamp_ms)
                except BufferError:
                    return KafkaError(KafkaError._QUEUE_FULL)
            except KafkaException as exception:
                error: KafkaError = exception.args[0]
                return error
        left = self._wait(deadline_s)
        if failed:
            return failed[0]
        return KafkaError(KafkaError._MSG_TIMED_OUT) if left else None

    def _wait(self, deadline_s: float) -> int:
        """Until nothing is under way or a moment of the monotonic clock; returns how many records are left.

        `flush` would wait for a moment of the wall clock, however often that is moved away.
        """
        while (left := len(self._client)) and time.monotonic() < deadline_s and not self._set_back.happened():
            if not self._client.poll(0):
                time.sleep(_LOOK_S)
        return left

    def _renew(self) -> None:
        """Begin anew without what is left of the records that failed: they are sent again, or given up, by the caller.

        An idempotent client cannot go on after some errors, and this one is rid of them all.
        """
        self._client.purge()
        self._client.flush(0)
        self._client = self._make_client(self._config)

    def close(self) -> None:
        """Wait shortly for what is under way."""
        self._wait(time.monotonic() + self._timeout_s)
