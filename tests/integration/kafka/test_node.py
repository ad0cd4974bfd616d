from __future__ import annotations

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
