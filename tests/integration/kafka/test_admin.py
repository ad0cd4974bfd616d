from __future__ import annotations

import uuid
from dataclasses import dataclass, field

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from infra.embedded.ports import free_port
from infra.kafka.admin import GroupState, KafkaAdmin, is_ready
from infra.kafka.errors import ClusterRefusedError, ClusterUnreachableError, TopicMismatchError
from schemas.topics import TOPICS, TOUCHPOINTS

pytestmark = pytest.mark.stack


@dataclass(frozen=True)
class Wanted:
    name: str
    partitions: int = 2
    config: dict[str, str] = field(default_factory=dict)


@pytest.fixture
def topic() -> str:
    return f"t-{uuid.uuid4().hex[:12]}"


def test_topics_are_made_once_and_kept_in_line(kafka: str, topic: str) -> None:
    with KafkaAdmin(kafka) as admin:
        first = admin.ensure_topics([Wanted(topic, 3, {"retention.ms": "-1"})])
        again = admin.ensure_topics([Wanted(topic, 3, {"retention.ms": "-1"})])
        changed = admin.ensure_topics([Wanted(topic, 3, {"retention.ms": "5000"})])
        state = admin.topics()[topic]
    assert (first.created, first.reconfigured) == ((topic,), ())
    assert (again.created, again.reconfigured) == ((), ())
    assert (changed.created, changed.reconfigured) == ((), (topic,))
    assert (state.partitions, state.replication_factor, state.config) == (3, 1, {"retention.ms": "5000"})


def test_another_number_of_partitions_is_named_and_not_changed(kafka: str, topic: str) -> None:
    with KafkaAdmin(kafka) as admin:
        admin.ensure_topics([Wanted(topic, 3)])
        with pytest.raises(TopicMismatchError, match=r"has 3 partitions, 4 are asked.*TOUCHSTONE_PARTITIONS=3"):
            admin.ensure_topics([Wanted(topic, 4)])
        assert admin.topics()[topic].partitions == 3


def test_records_of_any_age_are_taken_and_kept(kafka: str) -> None:
    """The journal keeps everything, and a sender's clock refuses nothing."""
    delivered: list[object] = []
    with KafkaAdmin(kafka) as admin:
        admin.ensure_topics(TOPICS)
        before = admin.end_offsets(TOUCHPOINTS)
        producer = Producer({"bootstrap.servers": kafka, "acks": "all"})
        year_ms = 365 * 24 * 3600 * 1000
        for timestamp_ms in (1, 40 * year_ms, 80 * year_ms, 200 * year_ms):
            producer.produce(
                TOUCHPOINTS,
                b"x",
                partition=0,
                timestamp=timestamp_ms,
                on_delivery=lambda error, _: delivered.append(error),
            )
        assert producer.flush(20) == 0
        after = admin.end_offsets(TOUCHPOINTS)
    assert delivered == [None] * 4
    assert after[0] - before[0] == 4


def test_lag_counts_what_a_group_has_not_committed(kafka: str, topic: str) -> None:
    group = f"g-{topic}"
    with KafkaAdmin(kafka) as admin:
        admin.ensure_topics([Wanted(topic, 2)])
        producer = Producer({"bootstrap.servers": kafka})
        for number in range(10):
            producer.produce(topic, b"x", partition=number % 2)
        assert producer.flush(20) == 0
        assert [(at.committed, at.end, at.lag) for at in admin.group_lag(group, topic)] == [(None, 5, 5)] * 2
        assert admin.group_state(group) == GroupState("DEAD", 0)
        consumer = Consumer({"bootstrap.servers": kafka, "group.id": group, "enable.auto.commit": False})
        try:
            consumer.commit(offsets=[TopicPartition(topic, 1, 3)], asynchronous=False)
        finally:
            consumer.close()
        assert [(at.committed, at.end, at.lag) for at in admin.group_lag(group, topic)] == [
            (None, 5, 5),
            (3, 5, 2),
        ]


def test_a_missing_topic_is_named(kafka: str) -> None:
    with KafkaAdmin(kafka) as admin, pytest.raises(ClusterRefusedError, match="no-such-topic does not exist"):
        admin.end_offsets("no-such-topic")


def test_the_cluster_answers_as_one_broker(kafka: str) -> None:
    assert is_ready(kafka)
    with KafkaAdmin(kafka) as admin:
        assert admin.cluster().brokers == (kafka,)


def test_nobody_there_is_told_with_the_remedy() -> None:
    address = f"127.0.0.1:{free_port()}"
    assert not is_ready(address, timeout_s=2)
    with pytest.raises(ClusterUnreachableError, match="touchstone up"):
        KafkaAdmin(address, timeout_s=2)


@pytest.mark.parametrize("address", ["localhost", "host:port", ":9092"])
def test_a_malformed_address_is_named(address: str) -> None:
    with pytest.raises(ClusterUnreachableError, match="host:port"):
        KafkaAdmin(address, timeout_s=1)
