from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from infra.embedded.ports import free_port
from infra.kafka.admin import KafkaAdmin
from infra.kafka.errors import KafkaInfraError, NodeStartError
from infra.kafka.node import KafkaNode
from infra.kafka.runtime import KafkaRuntime

pytestmark = pytest.mark.stack


class _Topic:
    name = "kept"
    partitions = 1
    config: dict[str, str] = {}  # noqa: RUF012


def _read_all(bootstrap: str, count: int) -> list[bytes | None]:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "reader", "enable.auto.commit": False})
    try:
        consumer.assign([TopicPartition(_Topic.name, 0, 0)])
        return [message.value() for message in consumer.consume(count, timeout=20)]
    finally:
        consumer.close()


def test_what_was_acknowledged_survives_a_kill(tmp_path: Path, kafka_runtime: KafkaRuntime) -> None:
    node = KafkaNode(tmp_path / "kafka", runtime=kafka_runtime)
    try:
        node.start()
        with KafkaAdmin(node.bootstrap) as admin:
            admin.ensure_topics([_Topic()])
        producer = Producer({"bootstrap.servers": node.bootstrap, "acks": "all"})
        for number in range(100):
            producer.produce(_Topic.name, str(number).encode())
        assert producer.flush(20) == 0
        node.kill()
        node.start()
        assert _read_all(node.bootstrap, 100) == [str(number).encode() for number in range(100)]
        node.stop()
        assert not psutil.pid_exists(node.pid)
        node.start()
        with KafkaAdmin(node.bootstrap) as admin:
            assert admin.end_offsets(_Topic.name) == {0: 100}
    finally:
        node.stop()
    assert (tmp_path / "kafka").is_dir()


class _IndexedTopic(_Topic):
    # Each batch has its entry in the index, so that the next one meets the fault.
    config = {"index.interval.bytes": "0"}  # noqa: RUF012


def test_a_fault_in_a_mapped_index_ends_the_broker_before_a_place_is_given_twice(
    tmp_path: Path, kafka_runtime: KafkaRuntime
) -> None:
    """A cut file faults as one on a full disk does; alive, the broker would give A's place to B too."""
    node = KafkaNode(tmp_path / "kafka", runtime=kafka_runtime)
    sent = [str(number).encode() for number in range(6)]
    try:
        node.start()
        with KafkaAdmin(node.bootstrap) as admin:
            admin.ensure_topics([_IndexedTopic()])
        first, second = (
            Producer({"bootstrap.servers": node.bootstrap, "acks": "all", "linger.ms": 0, "log_level": 0})
            for _ in range(2)
        )
        for value in sent[:4]:
            first.produce(_Topic.name, value)
            assert first.flush(20) == 0
        for index in (node.data_dir / "log" / f"{_Topic.name}-0").glob("*index"):
            os.truncate(index, 0)
        told: list[object] = []
        first.produce(_Topic.name, sent[4], on_delivery=lambda error, _: told.append(error))
        gone, _ = psutil.wait_procs([psutil.Process(node.pid)], timeout=30)
        first.poll(0)
        assert (len(gone), told) == (1, [])
        second.produce(_Topic.name, sent[5])
        assert "Saw java.lang.InternalError" in node.log_path.read_text(encoding="utf-8", errors="replace")
        node.start()
        assert (first.flush(30), second.flush(30), told) == (0, 0, [None])
        with KafkaAdmin(node.bootstrap) as admin:
            end = admin.end_offsets(_Topic.name)[0]
        found = _read_all(node.bootstrap, end)
        # Whose acknowledgement was lost may stand there twice, at two places.
        assert (len(found), found[:4], set(found)) == (end, sent[:4], set(sent))
    finally:
        node.stop()


def test_it_listens_on_loopback_alone(kafka: str) -> None:
    port = int(kafka.rpartition(":")[2])
    [pid] = {
        connection.pid
        for connection in psutil.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port
    }
    listening = [
        connection.laddr.ip
        for connection in psutil.Process(pid).net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN and connection.laddr
    ]
    assert len(listening) == 2
    assert {address.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}


def test_a_taken_port_is_named(tmp_path: Path, kafka_runtime: KafkaRuntime) -> None:
    with socket.create_server(("127.0.0.1", free_port())) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(NodeStartError, match=f"port {port} is taken"):
            KafkaNode(tmp_path, port=port, runtime=kafka_runtime).start()


def test_a_broken_folder_fails_with_the_brokers_words(tmp_path: Path, kafka_runtime: KafkaRuntime) -> None:
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "meta.properties").write_text("version=1\nnode.id=7\ncluster.id=x\n")
    with pytest.raises(NodeStartError, match=r"ended with code 1:[\s\S]*node"):
        KafkaNode(tmp_path, runtime=kafka_runtime).start()


def test_a_node_not_started_has_no_pid(tmp_path: Path) -> None:
    with pytest.raises(KafkaInfraError, match="not been started"):
        _ = KafkaNode(tmp_path).pid


def test_it_ends_with_the_process_that_started_it(tmp_path: Path, kafka_runtime: KafkaRuntime) -> None:
    if sys.platform != "linux":
        pytest.skip("the parent-death signal is Linux's")
    program = (
        "import os, sys, pathlib\n"
        "from infra.kafka.node import KafkaNode\n"
        "node = KafkaNode(pathlib.Path(sys.argv[1])).start()\n"
        "print(node.pid, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "kafka")], capture_output=True, text=True, check=False
    )
    assert run.returncode == -9, run.stderr
    pid = int(run.stdout)
    if psutil.pid_exists(pid):
        psutil.wait_procs([psutil.Process(pid)], timeout=20)
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
