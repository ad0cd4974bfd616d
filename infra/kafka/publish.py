"""Records into the log from code that may wait: returns when all are acknowledged, or raises."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from infra.kafka.errors import ClusterUnreachableError
from infra.kafka.producer import Delivery, LogProducer

_SLICE: Final = 20_000
"""Records under way at once: bounds the producer's queue."""


class Publisher:
    """A producer for one thread at a time."""

    def __init__(self, bootstrap: str, *, timeout_s: float = 15.0) -> None:
        """``timeout_s``: longest wait for the acknowledgement of one slice of records."""
        self._producer = LogProducer(bootstrap, linger_ms=0, delivery_timeout_ms=int(timeout_s * 1000))
        self._timeout_s = timeout_s

    def publish(self, topic: str, keys: Sequence[str], values: Sequence[bytes], timestamp_ms: int) -> None:
        """Send records and wait. Raises ClusterUnreachableError; some may be in the log then: send them all again."""
        for start in range(0, len(values), _SLICE):
            part = slice(start, start + _SLICE)
            self._publish(topic, keys[part], values[part], timestamp_ms)

    def _publish(self, topic: str, keys: Sequence[str], values: Sequence[bytes], timestamp_ms: int) -> None:
        done: list[Delivery] = []
        self._producer.send(topic, keys, values, timestamp_ms, done.append)
        # A little longer than the client itself waits, so that its own report comes first.
        deadline = time.monotonic() + self._timeout_s + 5.0
        while not done and time.monotonic() < deadline:
            if not self._producer.poll():
                time.sleep(0.002)
        if not done or not done[0].complete:
            error = done[0].error if done else None
            why = error.str() if error is not None else "no answer in time"
            raise ClusterUnreachableError(f"Kafka did not take {len(values)} records for topic {topic}: {why}")

    def close(self) -> None:
        """Wait shortly for what is under way."""
        self._producer.flush(self._timeout_s)
