"""One machine for all tests of this folder: real Kafka, real tables, workers as each test wants them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from infra.clickhouse.client import ClickHouse
from infra.kafka.runtime import runtime_from_environment
from infra.kafka.startup_cache import with_startup_cache
from tests.e2e.checker import Expected
from tests.e2e.scoring.parts import Machine, machine


@pytest.fixture(scope="session")
def shared_machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with machine(with_startup_cache(runtime_from_environment()), tmp_path_factory.mktemp("machine")) as made:
        yield made


@pytest.fixture(scope="session")
def expected() -> Expected:
    """What the machine's log leads to; reads on from test to test."""
    return Expected(seed=20_260_300)


@pytest.fixture
def stage(shared_machine: Machine) -> Iterator[Machine]:
    """The machine without workers; those that a test leaves behind are killed."""
    assert not shared_machine.workers
    yield shared_machine
    for worker in list(shared_machine.workers):
        shared_machine.kill_worker(worker)


@pytest.fixture
def tables(stage: Machine) -> Iterator[ClickHouse]:
    """A client of the machine's tables."""
    with stage.client() as client:
        yield client
