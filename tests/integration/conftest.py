"""Real parts, started by the test session itself and ended with it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from infra.clickhouse.client import ClickHouse, connect
from infra.clickhouse.migrate import migrate
from infra.clickhouse.settings import ClickHouseSettings
from infra.kafka.node import KafkaNode
from infra.kafka.runtime import KafkaRuntime, runtime_from_environment
from infra.kafka.startup_cache import with_startup_cache
from schemas.tables import DATABASE, TABLES


@pytest.fixture(scope="session")
def kafka_runtime() -> KafkaRuntime:
    """Java and Kafka's jars, brought when missing."""
    return with_startup_cache(runtime_from_environment())


@pytest.fixture(scope="session")
def kafka(kafka_runtime: KafkaRuntime) -> Iterator[str]:
    """Bootstrap address of a fresh broker without topics; tests take topic and group names of their own."""
    with KafkaNode(runtime=kafka_runtime) as node:
        yield node.bootstrap


@pytest.fixture(scope="session")
def migrated(clickhouse_address: ClickHouseSettings) -> ClickHouseSettings:
    """The folder's own server with all tables and views."""
    with connect(clickhouse_address) as client:
        migrate(client)
    return clickhouse_address


@pytest.fixture
def clickhouse(migrated: ClickHouseSettings) -> Iterator[ClickHouse]:
    """A client of that server, its tables empty."""
    with connect(migrated) as client:
        for table in TABLES:
            client.query(f"TRUNCATE TABLE {DATABASE}.{table.name}")
        yield client
