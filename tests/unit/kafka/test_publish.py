"""Publishing around a client that reports nothing but errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer

from infra.kafka.clock import SetBack
from infra.kafka.errors import ClusterUnreachableError
from infra.kafka.producer import ANY_PARTITION
from infra.kafka.publish import Publisher

Report = Callable[[KafkaError | None, Any], None]


class FakeClient:
    """Takes ``room`` records until it is flushed; fails those whose value is in ``bad``, keeps those in ``stuck``."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        self.queue: list[tuple[str, bytes, Report]] = []
        self.sent: list[tuple[str, bytes, int]] = []
        self.partitions: list[int] = []
        self.room = 100_000
        self.bad: set[bytes] = set()
        self.stuck: set[bytes] = set()
        self.refusal: Exception = BufferError("full")
        self.purged = False

    def produce(
        self, topic: str, value: bytes, key: str, partition: int, report: Report, _: None, timestamp_ms: int
    ) -> None:
        if len(self.queue) >= self.room:
            raise self.refusal
        self.queue.append((key, value, report))
        self.sent.append((key, value, timestamp_ms))
        self.partitions.append(partition)

    def __len__(self) -> int:
        return len(self.queue)

    def poll(self, _: float) -> int:
        before = len(self.queue)
        return before - self.flush(0)

    def flush(self, timeout_s: float) -> int:
        kept = [entry for entry in self.queue if entry[1] in self.stuck]
        for _, value, report in self.queue:
            if value in self.bad:
                report(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED), None)
        self.queue = kept
        return len(kept)

    def purge(self) -> None:
        self.purged = True


IMPATIENT_S = -4.9
"""A publisher gives the client five seconds more than itself."""


class Rig:
    def __init__(self, timeout_s: float = 60.0) -> None:
        self.clients: list[FakeClient] = []
        self.wall_s = 1e9
        set_back = SetBack(lambda: self.wall_s, lambda: 0.0)
        self.publisher = Publisher("nowhere:1", timeout_s=timeout_s, make_client=self._make, set_back=set_back)

    def _make(self, config: dict[str, Any]) -> Producer:
        self.clients.append(FakeClient(config))
        return cast(Producer, self.clients[-1])

    def publish(self, *values: bytes) -> None:
        self.publisher.publish("t", [f"k{n}" for n in range(len(values))], values, 7)


def test_returns_when_all_are_acknowledged() -> None:
    rig = Rig()
    rig.publish(b"1", b"2")
    assert rig.clients[0].sent == [("k0", b"1", 7), ("k1", b"2", 7)]
    assert rig.clients[0].config["acks"] == "all"
    assert rig.clients[0].config["enable.idempotence"] is True
    assert rig.clients[0].config["delivery.report.only.error"] is True


def test_records_go_where_their_keys_say_or_where_they_are_told_to() -> None:
    rig = Rig()
    rig.publish(b"1", b"2")
    rig.publisher.publish("t", ["same"] * 3, [b"3", b"4", b"5"], 7, [2, 0, 1])
    assert rig.clients[0].partitions == [ANY_PARTITION, ANY_PARTITION, 2, 0, 1]


def test_one_record_that_fails_is_an_error_of_all_and_the_next_client_is_another() -> None:
    rig = Rig()
    rig.clients[0].bad = {b"2"}
    with pytest.raises(ClusterUnreachableError, match="nowhere:1 did not take 3 records for topic t"):
        rig.publish(b"1", b"2", b"3")
    assert rig.clients[0].purged
    rig.publish(b"1", b"2", b"3")
    assert [value for _, value, _ in rig.clients[1].sent] == [b"1", b"2", b"3"]


def test_a_record_without_an_answer_is_an_error() -> None:
    rig = Rig(IMPATIENT_S)
    rig.clients[0].stuck = {b"1"}
    with pytest.raises(ClusterUnreachableError):
        rig.publish(b"1")


def test_a_full_queue_is_emptied_and_filled_again() -> None:
    rig = Rig()
    rig.clients[0].room = 2
    rig.publish(b"1", b"2", b"3", b"4", b"5")
    assert len(rig.clients[0].sent) == 5


def test_a_queue_that_stays_full_is_an_error() -> None:
    rig = Rig()
    rig.clients[0].room = 0
    with pytest.raises(ClusterUnreachableError):
        rig.publish(b"1")


def test_a_client_that_cannot_go_on_is_replaced() -> None:
    rig = Rig()
    rig.clients[0].room = 0
    rig.clients[0].refusal = KafkaException(KafkaError(KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, "seq", fatal=True))
    with pytest.raises(ClusterUnreachableError, match="seq"):
        rig.publish(b"1")
    rig.publish(b"1")
    assert len(rig.clients) == 2


def test_more_than_a_slice() -> None:
    rig = Rig()
    values = [b"%d" % n for n in range(45_000)]
    rig.publish(*values)
    assert [value for _, value, _ in rig.clients[0].sent] == values


def test_a_client_from_before_the_clock_was_set_back_is_not_used() -> None:
    rig = Rig()
    rig.publish(b"1")
    rig.wall_s -= 3600
    rig.publish(b"2")
    assert [value for _, value, _ in rig.clients[1].sent] == [b"2"]
    rig.publish(b"3")
    assert len(rig.clients) == 2


def test_a_clock_that_is_set_back_ends_the_wait() -> None:
    rig = Rig()
    publisher = Publisher(
        "nowhere:1", timeout_s=600, make_client=rig._make, set_back=SetBack(lambda: rig.wall_s, lambda: 0.0)
    )
    stuck = rig.clients[-1]
    stuck.stuck = {b"1"}
    stuck.poll = lambda _: setattr(rig, "wall_s", 0.0) or 0  # type: ignore[func-returns-value]
    with pytest.raises(ClusterUnreachableError):
        publisher.publish("t", ["k"], [b"1"], 7)
    assert stuck.purged
