"""A worker that stands still, is taken for dead and wakes again: what it writes then is right or too late to matter."""

from __future__ import annotations

import signal
import time

import pytest

from infra.clickhouse.client import ClickHouse
from services.scoring.record_batches.app import StreamOptions
from tests.e2e.checker import Expected, check
from tests.e2e.scoring.load import Producing, make_load, produce
from tests.e2e.scoring.parts import DEADLINE_S, Machine

pytestmark = pytest.mark.stack

SEED = 20_260_302
SETTINGS = {"TOUCHSTONE_SCORING_REVIEW_INTERVAL_S": "2", "TOUCHSTONE_SCORING_WRITE_INTERVAL_MS": "20"}
SESSION_S = StreamOptions("", "", "").session_timeout_s


def test_a_worker_that_wakes_after_another_took_over_changes_nothing(
    stage: Machine, tables: ClickHouse, expected: Expected
) -> None:
    load = make_load(SEED, 6_000, "paused-", time.time_ns() // 1000)
    asleep, meanwhile, afterwards = (load.records[start::3] for start in range(3))
    paused, other = stage.start_worker(**SETTINGS), stage.start_worker(**SETTINGS)
    stage.until(lambda: stage.members() == 2, "both workers share the log", 2 * DEADLINE_S)

    before = stage.committed()
    with Producing(stage.bootstrap, asleep, per_s=2_000):
        stage.until(lambda: stage.committed() > before, "both are at work")
        paused.send(signal.SIGSTOP)
    # The session ends, the other takes over, and gets through all of it.
    stage.until(lambda: stage.members() == 1, "the paused worker is taken for dead", SESSION_S + DEADLINE_S)
    produce(stage.bootstrap, meanwhile)
    stage.until_quiet()

    paused.send(signal.SIGCONT)
    with Producing(stage.bootstrap, afterwards, per_s=2_000):
        stage.until(lambda: stage.members() == 2, "the paused worker is back in its group")
    assert stage.workers == [paused, other]
    stage.settle()
    check(stage.bootstrap, tables, expected)
    assert load.event_ids <= expected.stored_ids
