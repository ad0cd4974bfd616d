"""A log in memory for ingest: it does with records what a test says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any


class BusyError(Exception):
    """The fake log has no room."""


class FakeDelivery:
    """Records handed to `FakeLog`; reported by hand or by `FakeLog.poll`."""

    def __init__(self, topic: str, keys: Sequence[str] | None, values: Sequence[bytes], timestamp_ms: int) -> None:
        self.topic, self.keys, self.values, self.timestamp_ms = topic, keys, list(values), timestamp_ms
        self.acknowledged: list[bytes] = []
        self.error: object = None
        self.done: Callable[[Any], None] = lambda _: None

    @property
    def complete(self) -> bool:
        return self.error is None and len(self.acknowledged) == len(self.values)

    def acknowledged_values(self) -> set[bytes | None]:
        return set(self.acknowledged)


class FakeLog:
    """Acknowledges at the next poll, as ``accepts`` says; ``accepts`` None: never reports."""

    def __init__(self) -> None:
        self.replaced = 0
        self.sent: list[FakeDelivery] = []
        self.open: list[FakeDelivery] = []
        self.full = False
        self.accepts: Callable[[bytes], bool] | None = lambda _: True
        self.existing: set[str] | Exception = {"touchpoints", "rejected"}
        self.flushed = False

    def __len__(self) -> int:
        return sum(len(delivery.values) for delivery in self.open)

    def send(
        self,
        topic: str,
        keys: Sequence[str] | None,
        values: Sequence[bytes],
        timestamp_ms: int,
        on_done: Callable[[Any], None],
    ) -> FakeDelivery:
        if self.full:
            raise BusyError("no room")
        delivery = FakeDelivery(topic, keys, values, timestamp_ms)
        delivery.done = on_done
        self.sent.append(delivery)
        self.open.append(delivery)
        return delivery

    def poll(self) -> int:
        if self.accepts is None:
            return 0
        done, self.open = self.open, []
        for delivery in done:
            delivery.acknowledged = [value for value in delivery.values if self.accepts(value)]
            if len(delivery.acknowledged) < len(delivery.values):
                delivery.error = "broker said no"
            delivery.done(delivery)
        return len(done)

    def flush(self, timeout_s: float) -> int:
        self.flushed = True
        self.poll()
        return len(self)

    def topics(self, timeout_s: float) -> set[str]:
        if isinstance(self.existing, Exception):
            raise self.existing
        return self.existing

    def records(self, topic: str) -> list[bytes]:
        return [value for delivery in self.sent if delivery.topic == topic for value in delivery.values]
