"""Real parts, started by the test session itself and ended with it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from infra.kafka.node import KafkaNode
from infra.kafka.runtime import KafkaRuntime, runtime_from_environment
from infra.kafka.startup_cache import with_startup_cache


@pytest.fixture(scope="session")
def kafka_runtime() -> KafkaRuntime:
    """Java and Kafka's jars, brought when missing."""
    return with_startup_cache(runtime_from_environment())


@pytest.fixture(scope="session")
def kafka(kafka_runtime: KafkaRuntime) -> Iterator[str]:
    """Bootstrap address of a fresh broker without topics; tests take topic and group names of their own."""
    with KafkaNode(runtime=kafka_runtime) as node:
        yield node.bootstrap
