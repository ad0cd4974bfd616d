"""The deployed process before a real Kafka: what was answered with 202 is in the log, whatever happens."""

from __future__ import annotations

import concurrent.futures
import json
import os
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from aiokafka.partitioner import murmur2
from confluent_kafka import Consumer, Message, TopicPartition

from infra.kafka.admin import KafkaAdmin
from infra.kafka.node import KafkaNode
from infra.kafka.runtime import KafkaRuntime
from schemas.decode import MARKER_BYTES, decode
from schemas.rejected import payload_of
from schemas.topics import REJECTED, TOPICS, TOUCHPOINTS

pytestmark = pytest.mark.stack

Start = Callable[..., Any]
EXAMPLES = Path(__file__).parents[3] / "schemas" / "examples" / "touchpoint" / "ok"


def ends(bootstrap: str, topic: str) -> dict[int, int]:
    with KafkaAdmin(bootstrap) as admin:
        return admin.end_offsets(topic)


def read_from(bootstrap: str, topic: str, begins: dict[int, int]) -> list[Message]:
    """All records of a topic from given offsets to its present end."""
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": f"test-{uuid.uuid4()}", "enable.auto.commit": False}
    )
    left = {part: end for part, end in ends(bootstrap, topic).items() if end > begins.get(part, 0)}
    consumer.assign([TopicPartition(topic, part, begins.get(part, 0)) for part in left])
    messages: list[Message] = []
    deadline = time.monotonic() + 30
    while left:
        assert time.monotonic() < deadline, f"records of {left} did not come"
        for message in consumer.consume(500, timeout=0.5):
            assert message.error() is None
            messages.append(message)
            part, offset = message.partition(), message.offset()
            assert part is not None
            assert offset is not None
            if part in left and offset + 1 >= left[part]:
                del left[part]
    consumer.close()
    return messages


def event(event_id: str, **members: Any) -> dict[str, Any]:
    return {
        "event_id": event_id,
        "customer_id": f"C-{event_id}",
        "occurred_at": "2026-03-02T09:14:05Z",
        "source": "test",
        "kind": "interaction",
        "touchpoint": "store",
    } | members


def test_accepted_events_are_records_of_the_log(topics: str, start: Start) -> None:
    ingest = start(topics)
    assert httpx.get(f"{ingest.url}/health/ready").status_code == 200
    events = [json.loads(path.read_text("utf-8"))["event"] for path in sorted(EXAMPLES.glob("*.json"))]
    begins = ends(topics, TOUCHPOINTS)
    before_us = time.time_ns() // 1_000
    response = httpx.post(f"{ingest.url}/v1/events", json=events)
    after_us = time.time_ns() // 1_000
    assert response.status_code == 202, response.text
    assert response.json()["accepted"] == len(events)

    messages = read_from(topics, TOUCHPOINTS, begins)
    assert len(messages) == len(events)
    partitions = len(begins)
    for message in messages:
        key, value = message.key(), message.value()
        assert isinstance(key, bytes)
        frame = decode([value], bytes(MARKER_BYTES)).frame
        if not frame.height:
            continue  # what the decoder makes of each example is tests/contract's question
        row = frame.row(0, named=True)
        assert row["customer_id"].encode() == key
        assert before_us <= row["received_at"] <= after_us
        assert message.timestamp() == (1, row["received_at"] // 1_000)
        assert message.partition() == (murmur2(key) & 0x7FFFFFFF) % partitions, "as Java clients place it"


def test_refused_events_are_on_the_topic_rejected(topics: str, start: Start) -> None:
    ingest = start(topics)
    begins = ends(topics, REJECTED)
    bad = event("r-1", score=99)
    response = httpx.post(f"{ingest.url}/v1/events", json=[bad, event("r-2")])
    assert response.status_code == 202
    deadline = time.monotonic() + 10
    while not (messages := read_from(topics, REJECTED, begins)):
        assert time.monotonic() < deadline
    (record,) = [orjson.loads(message.value() or b"") for message in messages]
    assert (record["reason"], record["field"], record["event_id"]) == ("unknown_field", "/score", "r-1")
    assert json.loads(payload_of(record)) == bad


def test_a_stop_in_the_middle_loses_nothing_that_was_acknowledged(topics: str, start: Start) -> None:
    ingest = start(topics)
    begins = ends(topics, TOUCHPOINTS)
    acknowledged: set[str] = set()
    enough = threading.Event()

    def send(worker: int) -> None:
        with httpx.Client() as client:
            for number in range(10_000):
                ids = [f"stop-{worker}-{number}-{n}" for n in range(20)]
                try:
                    response = client.post(f"{ingest.url}/v1/events", json=[event(name) for name in ids])
                except httpx.TransportError:
                    return  # the process is gone; nothing was promised
                assert response.status_code == 202
                acknowledged.update(ids)
                if len(acknowledged) > 1_000:
                    enough.set()

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        workers = [pool.submit(send, worker) for worker in range(4)]
        assert enough.wait(30)
        assert ingest.stop() == 0
        for worker in workers:
            worker.result()
    values = [message.value() for message in read_from(topics, TOUCHPOINTS, begins)]
    frame = decode(values, bytes(MARKER_BYTES)).frame
    stored = set(frame.get_column("sender_event_id").drop_nulls())
    assert acknowledged <= stored
    assert "stopped; 0 records left" in ingest.log_path.read_text()


@pytest.fixture(scope="module")
def node(kafka_runtime: KafkaRuntime) -> Iterator[KafkaNode]:
    """A broker that these tests may stop and kill, with Touchstone's topics."""
    with KafkaNode(runtime=kafka_runtime) as own:
        with KafkaAdmin(own.bootstrap) as admin:
            admin.ensure_topics(TOPICS)
        yield own


def test_a_kafka_that_stands_still_is_503_and_comes_back(node: KafkaNode, start: Start) -> None:
    ingest = start(node.bootstrap, TOUCHSTONE_INGEST_DELIVERY_TIMEOUT_S=1.5)
    url = f"{ingest.url}/v1/events"
    assert httpx.post(url, json=event("before")).status_code == 202
    os.kill(node.pid, signal.SIGSTOP)
    try:
        started = time.monotonic()
        response = httpx.post(url, json=[event("during"), event("bad", kind="x")], timeout=30)
        assert time.monotonic() - started < 10
        assert response.status_code == 503
        assert int(response.headers["retry-after"]) >= 1
        assert [result["verdict"] for result in response.json()["results"]] == ["retry", "drop"]
        assert httpx.get(f"{ingest.url}/health/ready", timeout=30).status_code == 503
        assert httpx.get(f"{ingest.url}/health/live").status_code == 200
    finally:
        os.kill(node.pid, signal.SIGCONT)
    deadline = time.monotonic() + 60
    while httpx.post(url, json=event("during"), timeout=30).status_code != 202:
        assert time.monotonic() < deadline, ingest.log_path.read_text()
    ready = httpx.get(f"{ingest.url}/health/ready", timeout=30)
    assert ready.status_code == 200


def test_a_broker_killed_under_load_loses_nothing_that_was_acknowledged(node: KafkaNode, start: Start) -> None:
    ingest = start(node.bootstrap, TOUCHSTONE_INGEST_DELIVERY_TIMEOUT_S=3)
    begins = ends(node.bootstrap, TOUCHPOINTS)
    acknowledged: list[str] = []
    sent = 0

    def send_one(client: httpx.Client) -> None:
        nonlocal sent
        ids = [f"kill-{sent + n}" for n in range(50)]
        sent += 50
        response = client.post(f"{ingest.url}/v1/events", json=[event(name) for name in ids], timeout=30)
        assert response.status_code in (202, 503)
        acknowledged.extend(result["event_id"] for result in response.json()["results"] if result["verdict"] == "ok")

    def send_until(count: int, client: httpx.Client) -> None:
        deadline = time.monotonic() + 90
        while len(acknowledged) < count:
            assert time.monotonic() < deadline, ingest.log_path.read_text()
            send_one(client)

    with httpx.Client() as client:
        send_until(500, client)
        killer = threading.Timer(0.1, node.kill)
        killer.start()
        while killer.is_alive():
            send_one(client)
        send_one(client)
        node.start()
        send_until(len(acknowledged) + 500, client)
    values = [message.value() for message in read_from(node.bootstrap, TOUCHPOINTS, begins)]
    stored = set(decode(values, bytes(MARKER_BYTES)).frame.get_column("sender_event_id").drop_nulls())
    assert set(acknowledged) <= stored
