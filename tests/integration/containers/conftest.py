"""Kafka and ClickHouse in containers under the names that the tests of ports use, so that they run against both."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import docker
import pytest

from infra.clickhouse.client import connect
from infra.clickhouse.settings import ClickHouseSettings
from infra.kafka.runtime import KafkaRuntime
from schemas.tables import DATABASE
from tests.e2e.scoring.parts import Machine, machine
from tests.integration.cluster.ingest import ingests
from tests.integration.containers import images
from tests.integration.containers.places import (
    KEY,
    OWNER,
    PASSWORD,
    ContainerMachine,
    clickhouse_container,
    container_stream,
    container_tables,
    kafka_container,
)

BUILD_TEST_S = 1_800

if TYPE_CHECKING:
    from testcontainers.core.network import Network


@pytest.fixture(scope="session")
def docker_engine() -> Iterator[docker.DockerClient]:
    """The engine; tests that need one are left out, with the reason, where none answers."""
    try:
        client = images.engine()
    except images.NoContainersError as error:
        pytest.skip(str(error))
    from testcontainers.core.config import testcontainers_config

    # Containers end with the fixtures; a container that watches this process would be one more image to bring.
    testcontainers_config.ryuk_disabled = True
    yield client
    client.close()


@pytest.fixture(scope="session")
def network(docker_engine: docker.DockerClient) -> Iterator[Network]:
    from testcontainers.core.network import Network

    with Network() as made:
        yield made


@pytest.fixture(scope="session")
def touchstone_images(docker_engine: docker.DockerClient) -> dict[str, str]:
    """By target, built from this tree."""
    try:
        return images.build_touchstone(docker_engine)
    except images.NoContainersError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def kafka(docker_engine: docker.DockerClient, network: Network, kafka_runtime: KafkaRuntime) -> Iterator[str]:
    """Bootstrap address of a broker in a container."""
    try:
        image = images.kafka_image(docker_engine, kafka_runtime)
    except images.NoContainersError as error:
        pytest.skip(str(error))
    with kafka_container(image, network) as bootstrap:
        yield bootstrap


@pytest.fixture(scope="session")
def clickhouse_ports(
    docker_engine: docker.DockerClient, network: Network, request: pytest.FixtureRequest
) -> Iterator[tuple[int, int]]:
    try:
        built = images.CLICKHOUSE_IMAGE == images.BUILT
        tools = request.getfixturevalue("touchstone_images")["tools"] if built else ""
        image = images.clickhouse_image(docker_engine, tools)
    except images.NoContainersError as error:
        pytest.skip(str(error))
    with clickhouse_container(image, network) as ports:
        yield ports


@pytest.fixture(scope="session")
def clickhouse_address(clickhouse_ports: tuple[int, int]) -> ClickHouseSettings:
    """A server in a container."""
    return container_tables(clickhouse_ports)


@pytest.fixture(autouse=True)
def _logins(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs that a test starts find the login of the container in their environment."""
    if "migrated" in request.fixturenames:
        monkeypatch.setenv("TOUCHSTONE_CLICKHOUSE_USER", OWNER)
        monkeypatch.setenv("TOUCHSTONE_CLICKHOUSE_PASSWORD", PASSWORD)


@pytest.fixture(params=["embedded", "containers"])
def stream(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Machine, str]]:
    """The whole stream with empty tables and an empty log, and the address of its ingest."""
    if request.param == "embedded":
        with machine(request.getfixturevalue("kafka_runtime"), tmp_path) as made:
            settings = {"TOUCHSTONE_API_KEYS": KEY}
            with ingests(1, made.bootstrap, tmp_path, settings) as [ingest]:
                yield made, ingest.url
        return
    docker_engine: docker.DockerClient = request.getfixturevalue("docker_engine")
    network: Network = request.getfixturevalue("network")
    built: dict[str, str] = request.getfixturevalue("touchstone_images")
    ports: tuple[int, int] = request.getfixturevalue("clickhouse_ports")
    with connect(container_tables(ports)) as client:
        client.query(f"DROP DATABASE IF EXISTS {DATABASE} SYNC")
    runtime: KafkaRuntime = request.getfixturevalue("kafka_runtime")
    with kafka_container(images.kafka_image(docker_engine, runtime), network) as bootstrap:
        made = ContainerMachine(tmp_path, network, built, bootstrap, ports)
        with container_stream(made) as url:
            yield made, url


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first test that asks for an image waits until it is built."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(BUILD_TEST_S))
