"""Tables that are killed, and tables that stand still: the worker waits, loses nothing and catches up by itself."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from infra.clickhouse.client import ClickHouse
from tests.e2e.checker import Expected, check
from tests.e2e.scoring.load import Producing, Sent, make_load
from tests.e2e.scoring.parts import DEADLINE_S, NO_REVIEWS, Machine, Part

pytestmark = pytest.mark.stack

SEED = 20_260_303
SETTINGS = {
    **NO_REVIEWS,
    "TOUCHSTONE_SCORING_WRITE_INTERVAL_MS": "20",
    # The pause is longer than a statement may take, so that statements fail with their outcome unknown.
    "TOUCHSTONE_CLICKHOUSE_TIMEOUT_S": "2",
    "TOUCHSTONE_CLICKHOUSE_CONNECT_TIMEOUT_S": "1",
    "TOUCHSTONE_CLICKHOUSE_RETRY_S": "1",
}
SAYS_SO = "trying again until it works"


def said(worker: Part) -> int:
    """How often the worker has said that it waits for the tables."""
    return worker.log_path.read_text().count(SAYS_SO)


@contextmanager
def under_load(stage: Machine, records: list[Sent]) -> Iterator[None]:
    """While records come; entered once the first of them are done with."""
    before = stage.committed()
    with Producing(stage.bootstrap, records, per_s=1_000):
        stage.until(lambda: stage.committed() > before, "the load is being scored")
        yield


def test_tables_that_go_and_come_back_cost_time_and_nothing_else(
    stage: Machine, tables: ClickHouse, expected: Expected
) -> None:
    load = make_load(SEED, 6_000, "outage-", time.time_ns() // 1000)
    killed, still = load.records[::2], load.records[1::2]
    worker = stage.start_worker(**SETTINGS)
    stage.until(lambda: stage.members() == 1, "the worker reads the log", 2 * DEADLINE_S)

    with under_load(stage, killed):
        assert stage.tables_server is not None
        stage.tables_server.kill()
        stage.until(lambda: said(worker) > 0, "the worker says that the tables are away")
    stage.start_tables()
    stage.until_quiet()

    waited = said(worker)
    with under_load(stage, still):
        stage.tables_server.send(signal.SIGSTOP)
        try:
            stage.until(lambda: said(worker) > waited, "the worker says that the tables do not answer")
        finally:
            stage.tables_server.send(signal.SIGCONT)
    assert stage.workers == [worker]
    stage.settle()
    check(stage.bootstrap, tables, expected)
    assert load.event_ids <= expected.stored_ids
