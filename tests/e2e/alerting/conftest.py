"""One machine for all tests of alerting: real Kafka and tables; alerting processes as each test wants them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from infra.clickhouse.client import ClickHouse
from infra.kafka.runtime import runtime_from_environment
from infra.kafka.startup_cache import with_startup_cache
from services.alerting.receive import serving
from tests.e2e.alerting.desk import Desk, Noted
from tests.e2e.scoring.parts import Machine, machine


@pytest.fixture(scope="session")
def alerting_machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with machine(with_startup_cache(runtime_from_environment()), tmp_path_factory.mktemp("alerting")) as made:
        yield made


@pytest.fixture
def tables(alerting_machine: Machine) -> Iterator[ClickHouse]:
    """A client of the machine's tables."""
    with alerting_machine.client() as client:
        yield client


@pytest.fixture
def desk(alerting_machine: Machine) -> Iterator[Desk]:
    """The machine without processes of ours, and a receiver; what a test leaves running is killed."""
    assert not alerting_machine.workers
    inbox = Noted()
    with serving(inbox) as url:
        desk = Desk(alerting_machine, inbox, url)
        try:
            yield desk
        finally:
            for part in list(alerting_machine.workers):
                alerting_machine.kill_worker(part)
            desk.forget_members()
