"""Kills at any moment, workers that come and go, senders that repeat themselves: every number stays exact."""

from __future__ import annotations

import random
import time
from functools import partial

import pytest

from infra.clickhouse.client import ClickHouse
from tests.e2e.checker import Expected, Fate, check
from tests.e2e.scoring.load import Producing, Sent, make_load
from tests.e2e.scoring.parts import DEADLINE_S, Machine

pytestmark = pytest.mark.stack

SEED = 20_260_301
EVENTS = 20_000
PER_S = 3_000
TURNS = 4
SHARED = 1
"""At this turn nobody is killed: a second worker joins, and two are at work when the next one is."""
SETTINGS = {
    # Reviews are part of the load: what the clock appends must be as exact as the rest.
    "TOUCHSTONE_SCORING_REVIEW_INTERVAL_S": "2",
    # Small sets, so that a kill finds many of them in every stage.
    "TOUCHSTONE_SCORING_WRITE_INTERVAL_MS": "20",
}


def stored(tables: ClickHouse) -> int:
    [(rows,)] = tables.query("SELECT count() FROM touchstone.touchpoints")
    return int(rows)


def has_stored(tables: ClickHouse, wanted: int) -> bool:
    return stored(tables) >= wanted


def parts(records: list[Sent], number: int) -> list[list[Sent]]:
    size = -(-len(records) // number)
    return [records[start : start + size] for start in range(0, len(records), size)]


def test_workers_killed_at_any_moment_leave_every_number_exact(
    stage: Machine, tables: ClickHouse, expected: Expected
) -> None:
    chance = random.Random(SEED)
    load = make_load(SEED, EVENTS, "exact-", time.time_ns() // 1000)
    before = stored(tables)
    workers = [stage.start_worker(**SETTINGS)]
    for number, records in enumerate(parts(load.records, TURNS + 1)):
        stage.until(lambda: stage.members() == len(workers), f"{len(workers)} workers share the log", 2 * DEADLINE_S)
        with Producing(stage.bootstrap, records, PER_S):
            if number < TURNS:
                # Just after events were written: what follows them may be there or not.
                wanted = stored(tables) + chance.randint(1, len(records) // 2)
                successor = stage.start_worker(**SETTINGS)
                stage.until(partial(has_stored, tables, wanted), f"events are stored in turn {number}")
                if number != SHARED:
                    stage.kill_worker(workers.pop(0))
                workers.append(successor)
    stage.until_quiet()
    stage.end_workers()

    check(stage.bootstrap, tables, expected)
    assert stored(tables) - before >= len(load.event_ids)
    assert load.event_ids <= expected.stored_ids
    assert expected.count(Fate.CONFLICTING) >= load.conflicts
    assert expected.count(Fate.REPEATED) >= load.exact_repeats
    assert expected.count(Fate.REJECTED) >= load.poison
    assert expected.signals
    assert expected.reviews
