"""Where the whole stream runs: as processes on this machine, or as containers; tests see no difference."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import SecretStr

from infra.clickhouse.client import ClickHouse, connect
from infra.clickhouse.migrate import migrate
from infra.clickhouse.settings import ClickHouseSettings
from infra.embedded.ports import LOOPBACK, free_port
from infra.embedded.probes import http_ok
from infra.kafka.admin import KafkaAdmin, is_ready
from schemas.topics import TOPICS
from tests.e2e.scoring.parts import Machine, Part

if TYPE_CHECKING:
    # At work only where there is an engine: the library looks for one when it is imported.
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.network import Network

START_S: Final = 180.0
OWNER: Final = "touchstone"
PASSWORD: Final = "owner of the tables"
KEY: Final = "a key for the tests"
KAFKA_ENVIRONMENT: Final = {
    "KAFKA_NODE_ID": "1",
    "KAFKA_PROCESS_ROLES": "broker,controller",
    "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
    "KAFKA_LISTENERS": "INSIDE://:19092,OUTSIDE://:9092,CONTROLLER://:9093",
    "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "INSIDE:PLAINTEXT,OUTSIDE:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "KAFKA_INTER_BROKER_LISTENER_NAME": "INSIDE",
    "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
    "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
    "KAFKA_OFFSETS_TOPIC_NUM_PARTITIONS": "4",
    "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
    "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
    "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
    "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
    "KAFKA_LOG_DIRS": "/var/lib/kafka/data",
    "KAFKA_HEAP_OPTS": "-Xmx256m",
}


class ContainerPart(Part):
    """A scoring worker in a container, used as a process is."""

    def __init__(self, name: str, container: DockerContainer) -> None:
        self.name = name
        self._container = container

    @property
    def _wrapped(self) -> Any:
        wrapped = self._container.get_wrapped_container()
        wrapped.reload()
        return wrapped

    @property
    def alive(self) -> bool:
        return bool(self._wrapped.status == "running")

    def send(self, number: signal.Signals) -> None:
        self._wrapped.kill(number.name)

    def kill(self) -> None:
        if self.alive:
            self._wrapped.kill()
        self._container.stop()

    def exit_code(self) -> int:
        code = int(self._wrapped.wait(timeout=60)["StatusCode"])
        self._container.stop()
        return code

    def tail(self) -> str:
        return f"--- {self.name}\n{self._wrapped.logs(tail=40).decode(errors='replace')}"


class ContainerMachine(Machine):
    """The stream in containers. ``images``: of ingest and scoring."""

    def __init__(self, folder: Path, network: Network, images: dict[str, str], bootstrap: str, ports: tuple[int, int]):
        self.folder = folder
        self.ports = ports
        self._network = network
        self._images = images
        self._bootstrap = bootstrap
        self.__post_init__()

    @property
    def bootstrap(self) -> str:
        return self._bootstrap

    def client(self) -> ClickHouse:
        return connect(container_tables(self.ports))

    def environment(self) -> dict[str, str]:
        return {
            "TOUCHSTONE_KAFKA_BOOTSTRAP": "kafka:19092",
            "TOUCHSTONE_CLICKHOUSE_HOST": "clickhouse",
            "TOUCHSTONE_CLICKHOUSE_USER": OWNER,
            "TOUCHSTONE_CLICKHOUSE_PASSWORD": PASSWORD,
        }

    def container(self, image: str, environment: dict[str, str], *ports: int) -> DockerContainer:
        """One of ours, as docs/deploy.md runs it: no root, nothing to write to but memory, no capabilities."""
        return (
            new_container(self._images[image])
            .with_network(self._network)
            .with_envs(**self.environment(), **environment)
            .with_exposed_ports(*ports)
            .with_tmpfs_mount("/tmp", "size=64m")
            .with_tmpfs_mount("/run/touchstone", "size=1m,mode=1777")
            .with_kwargs(
                read_only=True,
                cap_drop=["ALL"],
                security_opt=["no-new-privileges"],
            )
        )

    def start_worker(self, **settings: str) -> Part:
        container = self.container("scoring", settings)
        container.start()
        self._started += 1
        worker = ContainerPart(f"worker-{self._started}", container)
        self.workers.append(worker)
        return worker


def new_container(image: str) -> DockerContainer:
    """A container that was not started."""
    from testcontainers.core.container import DockerContainer

    return DockerContainer(image)


def container_tables(ports: tuple[int, int]) -> ClickHouseSettings:
    """Where a ClickHouse container answers this machine."""
    password = SecretStr(PASSWORD)
    return ClickHouseSettings(port=ports[0], http_port=ports[1], user=OWNER, password=password, retry_s=0, timeout_s=30)


def until(condition: Any, what: str, container: DockerContainer) -> None:
    """Wait until a container does what it is for."""
    deadline_s = time.monotonic() + START_S
    while not condition():
        out, err = container.get_logs()
        assert time.monotonic() < deadline_s, f"{what}: {(out + err)[-3000:].decode(errors='replace')}"
        container.reload()
        assert container.get_wrapped_container().status != "exited", (out + err)[-3000:].decode(errors="replace")
        time.sleep(0.1)


@contextmanager
def kafka_container(image: str, network: Network) -> Iterator[str]:
    """A broker; its address for this machine. Inside the network it is kafka:19092."""
    port = free_port()
    told = {**KAFKA_ENVIRONMENT, "KAFKA_ADVERTISED_LISTENERS": f"INSIDE://kafka:19092,OUTSIDE://{LOOPBACK}:{port}"}
    container = new_container(image).with_envs(**told).with_bind_ports(9092, port)
    with container.with_network(network).with_network_aliases("kafka") as running:
        until(lambda: is_ready(f"{LOOPBACK}:{port}", timeout_s=2), "Kafka answers", running)
        yield f"{LOOPBACK}:{port}"


@contextmanager
def clickhouse_container(image: str, network: Network) -> Iterator[tuple[int, int]]:
    """A ClickHouse without tables; its ports on this machine, native and HTTP."""
    container = (
        new_container(image)
        .with_envs(CLICKHOUSE_USER=OWNER, CLICKHOUSE_PASSWORD=PASSWORD, CLICKHOUSE_DEFAULT_ACCESS_MANAGEMENT="1")
        .with_exposed_ports(9000, 8123)
    )
    with container.with_network(network).with_network_aliases("clickhouse") as running:
        ports = (running.get_exposed_port(9000), running.get_exposed_port(8123))
        until(lambda: http_ok(LOOPBACK, ports[1], "/ping"), "ClickHouse answers", running)
        yield ports


@contextmanager
def container_stream(machine: ContainerMachine) -> Iterator[str]:
    """Tables, topics, and ingest in containers; the address of ingest."""
    with connect(container_tables(machine.ports)) as client:
        migrate(client)
    with KafkaAdmin(machine.bootstrap, timeout_s=60) as admin:
        admin.ensure_topics(replace(topic, config={**topic.config, "retention.ms": "-1"}) for topic in TOPICS)
    with ExitStack() as held:
        ingest = held.enter_context(machine.container("ingest", {"TOUCHSTONE_API_KEYS": KEY}, 8080))
        port = ingest.get_exposed_port(8080)
        until(lambda: http_ok(LOOPBACK, port, "/health/ready"), "ingest is ready", ingest)
        try:
            yield f"http://{LOOPBACK}:{port}"
        finally:
            for worker in machine.workers:
                worker.kill()
