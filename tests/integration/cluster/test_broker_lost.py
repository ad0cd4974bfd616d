"""Brokers of three die under load and return: ingest goes on answering, and what it answered with 202 is kept."""

from __future__ import annotations

import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient

from infra.kafka.admin import KafkaAdmin
from infra.kafka.cluster import KafkaCluster
from schemas.decode import MARKER_BYTES, decode
from schemas.identity import identify
from schemas.topics import TOUCHPOINTS
from tests.integration.cluster.ingest import ingests

pytestmark = pytest.mark.stack

DEADLINE_S = 60.0
SENDERS = 3
BATCH = 20
ANSWER_S = 15.0
"""Ingest waits 2 s for Kafka and then says so; the rest is a busy machine's."""
SETTINGS = {"TOUCHSTONE_INGEST_DELIVERY_TIMEOUT_S": "2"}
SOURCE = "test"


@dataclass
class Answers:
    """What senders were told; shared by their threads."""

    acknowledged: set[str] = field(default_factory=set)
    sent: set[str] = field(default_factory=set)
    statuses: Counter[int] = field(default_factory=Counter)
    slowest_s: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, seconds: float, response: httpx.Response) -> None:
        with self.lock:
            self.statuses[response.status_code] += 1
            self.slowest_s = max(self.slowest_s, seconds)
            results: list[dict[str, Any]] = response.json().get("results", [])
            self.acknowledged |= {result["event_id"] for result in results if result["verdict"] == "ok"}


def until(condition: Callable[[], bool], what: str, timeout_s: float = DEADLINE_S) -> None:
    started_s = time.monotonic()
    while not condition():
        assert time.monotonic() < started_s + timeout_s, f"not within {timeout_s:.0f} s: {what}"
        time.sleep(0.02)
    print(f"{time.monotonic() - started_s:6.2f} s until {what}")


@contextmanager
def senders(urls: list[str]) -> Iterator[Answers]:
    """Batches without a pause, each id used once; what is not acknowledged is not sent again."""
    answers, stop, broken = Answers(), threading.Event(), list[BaseException]()

    def send(number: int) -> None:
        with httpx.Client(base_url=urls[number % len(urls)], timeout=ANSWER_S) as client:
            while not stop.is_set():
                events = [
                    {
                        "event_id": str(uuid.uuid4()),
                        "customer_id": f"C-{uuid.uuid4().hex[:4]}",
                        "occurred_at": "2026-03-02T09:14:05Z",
                        "source": SOURCE,
                        "kind": "interaction",
                        "touchpoint": "store",
                    }
                    for _ in range(BATCH)
                ]
                with answers.lock:
                    answers.sent |= {event["event_id"] for event in events}
                started_s = time.monotonic()
                response = client.post("/v1/events", json=events)
                answers.add(time.monotonic() - started_s, response)
                stop.wait(0.02)

    def run(number: int) -> None:
        try:
            send(number)
        except BaseException as error:
            broken.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(SENDERS)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not broken, broken


def ids_in_log(bootstrap: str) -> list[bytes]:
    """Identities of all records of the log, from its beginning to its end."""
    with KafkaAdmin(bootstrap) as admin:
        ends = admin.end_offsets(TOUCHPOINTS)
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "check", "enable.auto.commit": False})
    found: dict[tuple[int, int], bytes] = {}
    try:
        consumer.assign([TopicPartition(TOUCHPOINTS, partition, 0) for partition in ends])
        deadline_s = time.monotonic() + DEADLINE_S
        while len(found) < sum(ends.values()):
            assert time.monotonic() < deadline_s, f"{len(found)} of {sum(ends.values())} records came"
            for message in consumer.consume(5_000, timeout=0.5):
                partition, offset, value = message.partition(), message.offset(), message.value()
                assert message.error() is None, message.error()
                assert partition is not None
                assert offset is not None
                assert isinstance(value, bytes)
                found[partition, offset] = value
    finally:
        consumer.close()
    decoded = decode(list(found.values()), bytes(range(MARKER_BYTES)))
    assert not decoded.rejects
    return list(decoded.frame.get_column("event_id"))


def identities(event_ids: set[str]) -> set[bytes]:
    return {identify(SOURCE, event_id)[0] for event_id in event_ids}


def leaders(bootstrap: str) -> dict[int, tuple[int, int]]:
    """Of each partition of the log: the node that leads it, and how many copies are complete."""
    found = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0}).list_topics(TOUCHPOINTS, timeout=10)
    topic = found.topics[TOUCHPOINTS]
    return {number: (partition.leader, len(partition.isrs)) for number, partition in topic.partitions.items()}


def lead(bootstrap: str, nodes: set[int]) -> bool:
    """Whether these nodes, and no others, lead the log."""
    return {node for node, _ in leaders(bootstrap).values()} <= nodes


def is_complete(bootstrap: str) -> bool:
    return all(copies == 3 for _, copies in leaders(bootstrap).values())


def test_brokers_killed_and_returned_lose_nothing_that_was_acknowledged(cluster: KafkaCluster, tmp_path: Path) -> None:
    bootstrap = cluster.bootstrap
    first, second, third = cluster.nodes
    assert {node for node, _ in leaders(bootstrap).values()} == {1, 2, 3}
    assert is_complete(bootstrap)
    with ingests(2, bootstrap, tmp_path, SETTINGS) as running, senders([ingest.url for ingest in running]) as answers:

        def until_more(events: int, when: str) -> None:
            bound = len(answers.acknowledged) + events
            until(lambda: len(answers.acknowledged) >= bound, f"{events} more events are acknowledged {when}")

        until_more(500, "by three brokers")
        second.kill()
        until(lambda: lead(bootstrap, {1, 3}), "the others lead what the dead one led")
        until_more(500, "by two")
        assert all(ingest.is_ready() for ingest in running)
        second.start()
        until(lambda: is_complete(bootstrap), "the returned broker has every record")

        # What the returned one copied must be good enough to stand in for another.
        third.kill()
        until(lambda: lead(bootstrap, {1, 2}), "it leads for the next that died")
        until_more(500, "by the other two")

        # Two copies are promised; where they cannot be had, nothing is.
        first.kill()
        refused = answers.statuses[503]
        until(lambda: answers.statuses[503] >= refused + SENDERS, "ingest says that it cannot promise")
        silent = len(answers.acknowledged)
        until(lambda: answers.statuses[503] >= refused + 2 * SENDERS, "it keeps saying so")
        assert len(answers.acknowledged) == silent
        third.launch()
        first.launch()
        until_more(500, "once the others are back")
    print(f"{len(answers.acknowledged)} acknowledged, slowest answer {answers.slowest_s:.2f} s, {answers.statuses}")

    stored = ids_in_log(bootstrap)
    assert not identities(answers.acknowledged) - set(stored), "acknowledged and lost"
    assert not set(stored) - identities(answers.sent), "never sent"
    # A producer that never heard an answer may have sent twice; scoring drops the repeat by its event id.
    print(f"{len(stored)} records in the log, {len(stored) - len(set(stored))} of them repeats")
    assert len(stored) - len(set(stored)) <= BATCH * SENDERS * 4
    assert set(answers.statuses) == {202, 503}
    assert answers.slowest_s < ANSWER_S
