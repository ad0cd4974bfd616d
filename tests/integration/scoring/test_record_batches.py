"""Record batches on a real Kafka: faults, holes, backpressure, stops."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

pytestmark = pytest.mark.stack

PARTITIONS = 4
WORKER = Path(__file__).with_name("batch_worker.py")
ROOT = Path(__file__).resolve().parents[3]


class Worker:
    """A child process and its journal."""

    def __init__(self, brokers: str, topic: str, group: str, folder: Path, *mode: str) -> None:
        name = uuid.uuid4().hex[:8]
        self.journal = folder / f"{name}.journal"
        self.journal.touch()
        self.log = folder / f"{name}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-W", "error", str(WORKER), brokers, topic, group, str(self.journal), *mode],
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )

    def facts(self, fact: str) -> list[str]:
        lines = self.journal.read_text().splitlines(keepends=True)
        whole = [line.rstrip("\n").split(" ", 1) for line in lines if line.endswith("\n")]
        return [detail for found, detail in whole if found == fact]

    def assigned(self) -> str | None:
        facts = self.facts("assigned")
        return facts[-1] if facts else None

    def done(self) -> Iterator[tuple[int, int]]:
        """(partition, offset) of each record whose effect took place, repetitions included."""
        for detail in self.facts("done"):
            partition, offsets = detail.split(" ")
            for offset in offsets.split(","):
                yield int(partition), int(offset)

    def exit_code(self, timeout_s: float = 20.0) -> int:
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            pytest.fail(f"the worker did not stop\n{self.log.read_text()[-4000:]}")


class Stream:
    """One topic and group of a test, with the workers started on it."""

    def __init__(self, brokers: str, folder: Path) -> None:
        self.brokers = brokers
        self.topic = f"records-{uuid.uuid4().hex[:8]}"
        self.group = f"group-{uuid.uuid4().hex[:8]}"
        self._folder = folder
        self.workers: list[Worker] = []
        admin = AdminClient({"bootstrap.servers": brokers})
        for created in admin.create_topics([NewTopic(self.topic, PARTITIONS, 1)]).values():
            created.result(20)

    def produce(self, count: int) -> None:
        producer = Producer(
            {"bootstrap.servers": self.brokers, "linger.ms": 20, "queue.buffering.max.messages": 500_000}
        )
        value = b"v" * 100
        for number in range(count):
            producer.produce(self.topic, value, b"k%d" % (number % 1000))
            if number % 5000 == 0:
                producer.poll(0)
        assert producer.flush(30) == 0

    def start(self, *mode: str) -> Worker:
        worker = Worker(self.brokers, self.topic, self.group, self._folder, *mode)
        self.workers.append(worker)
        return worker

    def ends(self) -> dict[int, int]:
        with_group = Consumer({"bootstrap.servers": self.brokers, "group.id": self.group})
        try:
            return {
                partition: with_group.get_watermark_offsets(TopicPartition(self.topic, partition), 10)[1]
                for partition in range(PARTITIONS)
            }
        finally:
            with_group.close()

    def committed(self) -> dict[int, int]:
        """Committed offsets; a partition without one is left out."""
        with_group = Consumer({"bootstrap.servers": self.brokers, "group.id": self.group})
        try:
            asked = [TopicPartition(self.topic, partition) for partition in range(PARTITIONS)]
            return {tp.partition: tp.offset for tp in with_group.committed(asked, 10) if tp.offset >= 0}
        finally:
            with_group.close()

    def until(self, condition: Callable[[], bool], what: str, timeout_s: float = 30.0) -> None:
        deadline_s = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline_s:
                logs = "\n".join(worker.log.read_text()[-2000:] for worker in self.workers)
                pytest.fail(f"not within {timeout_s:.0f} s: {what}\n{logs}")
            time.sleep(0.05)

    def until_committed_to_the_end(self, timeout_s: float = 30.0) -> None:
        ends = {partition: end for partition, end in self.ends().items() if end}
        self.until(lambda: self.committed() == ends, f"commits at {ends}, are {self.committed()}", timeout_s)


@pytest.fixture
def stream(kafka: str, tmp_path: Path) -> Iterator[Stream]:
    stream = Stream(kafka, tmp_path)
    yield stream
    for worker in stream.workers:
        if worker.process.poll() is None:
            worker.process.kill()
            worker.process.wait(10)


def test_nothing_is_lost_when_one_worker_is_killed_and_one_is_paused(stream: Stream) -> None:
    stream.produce(100_000)
    killed, paused = stream.start("late", "0.2"), stream.start("late", "0.2")
    stream.until(lambda: bool(killed.facts("done") and paused.facts("done")), "both work")
    third = stream.start("late", "0.2")
    killed.process.kill()
    paused.process.send_signal(signal.SIGSTOP)
    stream.until(lambda: third.assigned() == "0,1,2,3", "the third has all partitions")
    stream.produce(100_000)
    rounds = len(paused.facts("assigned"))
    paused.process.send_signal(signal.SIGCONT)
    stream.until(lambda: len(paused.facts("assigned")) > rounds, "the paused worker is back in the group")
    stream.until_committed_to_the_end()

    for worker in (paused, third):
        worker.process.send_signal(signal.SIGTERM)
    assert [paused.exit_code(), third.exit_code()] == [0, 0]
    done = [record for worker in stream.workers for record in worker.done()]
    ends = stream.ends()
    assert set(done) == {(partition, offset) for partition, end in ends.items() for offset in range(end)}
    assert sum(ends.values()) == 200_000
    assert stream.committed() == ends
    assert len(done) < 1.5 * 200_000, "more was repeated than was open or not yet committed at the faults"


def test_planned_joins_and_leaves_repeat_nothing(stream: Stream) -> None:
    stream.produce(40_000)
    first = stream.start("late", "0.1")
    stream.until(lambda: bool(first.facts("done")), "the first works")
    second, third = stream.start("late", "0.1"), stream.start("late", "0.1")
    stream.until(lambda: bool(second.assigned() and third.assigned()), "all have partitions")
    stream.produce(40_000)
    first.process.send_signal(signal.SIGTERM)
    assert first.exit_code() == 0
    stream.produce(40_000)
    second.process.send_signal(signal.SIGTERM)
    assert second.exit_code() == 0
    stream.until(lambda: third.assigned() == "0,1,2,3", "the last one has all")
    stream.produce(40_000)
    stream.until_committed_to_the_end()
    done = [record for worker in stream.workers for record in worker.done()]
    assert len(set(done)) == 160_000
    assert len(done) == 160_000


def test_holes_and_markers_are_committed_to_the_very_end(stream: Stream) -> None:
    producer = Producer({"bootstrap.servers": stream.brokers, "transactional.id": stream.topic})
    producer.init_transactions(20)
    for _ in range(3):  # each transaction ends with a marker, which takes an offset in the log
        producer.begin_transaction()
        for number in range(50):
            producer.produce(stream.topic, b"v", partition=number % 2)
        producer.commit_transaction(20)
    worker = stream.start("late", "0.01")
    stream.until_committed_to_the_end()
    offsets = sorted(offset for partition, offset in worker.done() if partition == 0)
    assert len(offsets) == 75
    assert offsets[-1] == stream.ends()[0] - 2
    assert stream.ends()[0] == 78

    connections = psutil.Process(worker.process.pid).net_connections("inet")
    assert not [c for c in connections if c.status == psutil.CONN_LISTEN], "no port of our own"
    assert {c.raddr.ip for c in connections if c.raddr} == {"127.0.0.1"}
    assert [path.suffix for path in worker.journal.parent.iterdir() if path.is_dir()] == [], "no folders"


def test_stop_finishes_what_is_in_work(stream: Stream) -> None:
    stream.produce(2_000)
    worker = stream.start("late", "1.0")
    stream.until(lambda: worker.assigned() is not None, "assigned")
    stream.until(lambda: bool(worker.facts("done")), "first effects")
    stream.produce(2_000)
    worker.process.send_signal(signal.SIGTERM)
    assert worker.exit_code() == 0
    done = list(worker.done())
    assert len(done) == len(set(done))
    for partition, offset in stream.committed().items():
        assert {o for p, o in done if p == partition} == set(range(offset)), "done and committed are the same"


def test_error_of_the_handler_stops_without_a_commit(stream: Stream) -> None:
    stream.produce(4_000)
    worker = stream.start("raise", "1")
    assert worker.exit_code() == 1
    assert "planted failure" in worker.log.read_text()
    assert stream.committed() == {}


def test_stuck_worker_stops_itself_and_holds_a_bounded_number_of_records(stream: Stream) -> None:
    stream.produce(60_000)
    worker = stream.start("hang")
    assert worker.exit_code(90) == 1
    assert "no progress for" in worker.log.read_text()
    held = [int(detail) for detail in worker.facts("held")]
    # One look takes what lies ready of every partition.
    most = 8_000 + PARTITIONS * 2_600
    assert 8_000 <= held[-1] <= most, "max_open_records, and a fetch of each partition beyond it"
    assert stream.committed() == {}


def test_a_stuck_worker_ends_although_a_thread_of_it_hangs(stream: Stream) -> None:
    stream.produce(1_000)
    worker = stream.start("stuck", "300")
    assert worker.exit_code(90) == 1
    assert "no progress for" in worker.log.read_text()
    assert stream.committed() == {}


def test_a_worker_that_waits_long_stays_in_its_group_and_goes_on(stream: Stream) -> None:
    stream.produce(4_000)
    worker = stream.start("wait", "8")
    stream.until_committed_to_the_end(60)
    assert len(worker.facts("assigned")) == 1, "it never left"
    assert sorted(worker.done()) == sorted(set(worker.done()))


def test_unreachable_broker_is_told_by_the_exit_code(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: refuses
        worker = Worker(f"127.0.0.1:{taken.getsockname()[1]}", "t", "g", tmp_path)
        assert worker.exit_code(30) == 3
        assert "Kafka cannot be reached" in worker.log.read_text()
