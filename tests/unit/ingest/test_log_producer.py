"""The producer around a client that fails in every way a client can."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer

from infra.kafka.clock import SetBack
from infra.kafka.errors import ClusterUnreachableError
from infra.kafka.producer import Delivery, LogProducer, QueueFullError, client_config

FATAL = KafkaError(KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, "sequence", fatal=True)


class Sent:
    """A message as a client reports it."""

    def __init__(self, value: bytes, report: Callable[[KafkaError | None, Any], None]) -> None:
        self._value = value
        self.report = report

    def value(self) -> bytes:
        return self._value


class FakeClient:
    """Keeps what it is given; reports when told."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.on_error = config["error_cb"]
        self.queue: list[Sent] = []
        self.room = 1_000
        self.refusal: Exception = BufferError("full")
        self.purged = False

    def __len__(self) -> int:
        return len(self.queue)

    def produce(
        self, topic: str, value: bytes, key: str | None, partition: int, report: Any, _: None, timestamp: int
    ) -> None:
        if len(self.queue) >= self.room:
            raise self.refusal
        self.queue.append(Sent(value, report))

    def acknowledge(self, count: int, error: KafkaError | None = None) -> None:
        done, self.queue = self.queue[:count], self.queue[count:]
        for message in done:
            message.report(error, message)

    def poll(self, _: float) -> int:
        if self.purged:
            count = len(self.queue)
            self.acknowledge(count, KafkaError(KafkaError._PURGE_QUEUE))
            return count
        return 0

    def purge(self) -> None:
        self.purged = True

    def flush(self, _: float) -> int:
        return len(self.queue)

    def list_topics(self, timeout: float) -> Any:
        raise KafkaException(KafkaError(KafkaError._TRANSPORT, "no broker"))


class Rig:
    def __init__(self, max_records: int = 100) -> None:
        self.clients: list[FakeClient] = []
        self.done: list[Delivery] = []
        self.wall_s = 1e9
        set_back = SetBack(lambda: self.wall_s, lambda: 0.0)
        self.producer = LogProducer("nowhere:1", max_records=max_records, make_client=self._make, set_back=set_back)

    def _make(self, config: dict[str, Any]) -> Producer:
        self.clients.append(FakeClient(config))
        return cast(Producer, self.clients[-1])

    def send(self, *values: bytes) -> Delivery:
        return self.producer.send("t", [f"k{n}" for n in range(len(values))], values, 1, self.done.append)


def test_done_once_each_record_is_reported() -> None:
    rig = Rig()
    delivery = rig.send(b"1", b"2", b"3")
    rig.clients[0].acknowledge(2)
    assert (rig.done, delivery.complete) == ([], False)
    assert delivery.acknowledged_values() == {b"1", b"2"}
    rig.clients[0].acknowledge(1)
    assert (rig.done, delivery.complete) == ([delivery], True)


def test_records_that_fail_are_told_apart() -> None:
    rig = Rig()
    delivery = rig.send(b"1", b"2", b"2", b"3")
    rig.clients[0].acknowledge(2)
    rig.clients[0].acknowledge(1, KafkaError(KafkaError._MSG_TIMED_OUT))
    rig.clients[0].acknowledge(1)
    assert rig.done == [delivery]
    assert not delivery.complete
    assert delivery.acknowledged_values() == {b"1", b"3"}, "records with the same bytes share their fate"


def test_more_than_the_queue_holds_is_refused_before_any_is_queued() -> None:
    rig = Rig(max_records=3)
    rig.send(b"1", b"2")
    with pytest.raises(QueueFullError, match="nowhere:1"):
        rig.send(b"3", b"4")
    assert len(rig.producer) == 2


@pytest.mark.parametrize("refusal", [BufferError("full"), KafkaException(KafkaError(KafkaError.MSG_SIZE_TOO_LARGE))])
def test_a_client_that_stops_taking_halfway(refusal: Exception) -> None:
    rig = Rig()
    rig.clients[0].room, rig.clients[0].refusal = 1, refusal
    delivery = rig.send(b"1", b"2")
    assert rig.done == []
    rig.clients[0].acknowledge(1)
    assert rig.done == [delivery]
    assert not delivery.complete
    assert delivery.acknowledged_values() == {b"1"}
    rig.clients[0].room = 0
    assert not rig.send(b"3").complete
    assert len(rig.done) == 2


def test_a_fatal_error_replaces_the_client_and_fails_what_it_held() -> None:
    rig = Rig()
    delivery = rig.send(b"1", b"2")
    rig.clients[0].acknowledge(1)
    rig.clients[0].on_error(FATAL)
    rig.producer.poll()
    rig.clients[0].on_error(FATAL)  # the old client says it again
    rig.producer.poll()
    assert (rig.producer.replaced, len(rig.clients)) == (1, 2)
    assert rig.done == [delivery]
    assert delivery.acknowledged_values() == {b"1"}
    again = rig.send(b"2")
    rig.clients[1].acknowledge(1)
    assert again.complete
    assert len(rig.producer) == 0


def test_a_clock_that_was_set_back_replaces_the_client_and_fails_what_it_held() -> None:
    rig = Rig()
    rig.wall_s += 3600
    delivery = rig.send(b"1")
    rig.producer.poll()
    assert rig.producer.replaced == 0, "ahead does no harm"
    rig.wall_s -= 3600
    rig.producer.poll()
    rig.producer.poll()
    assert (rig.producer.replaced, len(rig.clients), rig.done) == (1, 2, [delivery])
    assert not delivery.complete


def test_a_fatal_error_out_of_produce_counts_too() -> None:
    rig = Rig()
    rig.clients[0].room, rig.clients[0].refusal = 0, KafkaException(FATAL)
    assert not rig.send(b"1").complete
    rig.producer.poll()
    assert rig.producer.replaced == 1


def test_other_errors_replace_nothing(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig()
    rig.clients[0].on_error(KafkaError(KafkaError._ALL_BROKERS_DOWN))
    rig.producer.poll()
    assert rig.producer.replaced == 0
    assert "_ALL_BROKERS_DOWN" in caplog.text
    with pytest.raises(ClusterUnreachableError, match="nowhere:1"):
        rig.producer.topics(0.1)


def test_settings_that_the_promises_rest_on() -> None:
    config = client_config("b", linger_ms=1, delivery_timeout_ms=2, max_records=3)
    assert config["acks"] == "all"
    assert config["enable.idempotence"] is True
    assert config["partitioner"] == "murmur2_random"
