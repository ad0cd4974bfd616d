"""Kills at any moment, workers that come and go, senders that repeat themselves: every number stays exact."""

from __future__ import annotations

import random
import time

import pytest

from infra.clickhouse.client import ClickHouse
from tests.e2e.checker import Fate, check
from tests.e2e.scoring.load import Producing, make_load
from tests.e2e.scoring.parts import Machine

pytestmark = pytest.mark.stack

SEED = 20_260_301
EVENTS = 20_000
PER_S = 2_000
SETTINGS = {
    # Reviews are part of the load: what the clock appends must be as exact as the rest.
    "TOUCHSTONE_SCORING_REVIEW_INTERVAL_S": "2",
    # Small sets, so that a kill finds many of them in every stage.
    "TOUCHSTONE_SCORING_WRITE_INTERVAL_MS": "20",
}


def stored(tables: ClickHouse) -> int:
    [(rows,)] = tables.query("SELECT count() FROM touchstone.touchpoints")
    return int(rows)


def test_workers_killed_at_any_moment_leave_every_number_exact(stage: Machine, tables: ClickHouse) -> None:
    chance = random.Random(SEED)
    load = make_load(SEED, EVENTS, "exact-", time.time_ns() // 1000)
    done = stored(tables)
    worker = stage.start_worker(**SETTINGS)
    with Producing(stage.bootstrap, load.records, PER_S):
        for kill in range(3):
            # Just after events were written: what follows them may be there or not.
            wanted = stored(tables) + chance.randint(1, 1_500)
            stage.until(lambda wanted=wanted: stored(tables) >= wanted, f"events are stored for kill {kill}")
            successor = stage.start_worker(**SETTINGS)
            if kill == 1:
                stage.until(lambda: stage.members() == 2, "the second worker has joined")
                wanted = stored(tables) + chance.randint(1, 1_500)
                stage.until(lambda wanted=wanted: stored(tables) >= wanted, "two workers store events")
            stage.kill_worker(worker)
            worker = successor
    stage.until_quiet()
    stage.end_workers()

    expected = check(stage.bootstrap, tables, seed=SEED)
    assert stored(tables) - done >= len(load.event_ids)
    assert load.event_ids <= expected.stored_ids
    assert expected.count(Fate.CONFLICTING) >= load.conflicts
    assert expected.count(Fate.REPEATED) >= load.exact_repeats
    assert expected.count(Fate.REJECTED) >= load.poison
    assert expected.signals()
    assert expected.reviews
