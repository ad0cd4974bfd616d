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
EVENTS_STORED = "SELECT count() FROM touchstone.touchpoints"
STATES_STORED = "SELECT sum(log_offset) FROM touchstone.customer_state FINAL"
TURNS = (EVENTS_STORED, None, STATES_STORED, STATES_STORED)
"""What has just been written when a worker is killed; what follows it may be there or not. Once nobody is: a second
worker joins, and two are at work at the next kill."""
SETTINGS = {
    # Reviews are part of the load: what the clock appends must be as exact as the rest.
    "TOUCHSTONE_SCORING_REVIEW_INTERVAL_S": "2",
    # Small sets, so that a kill finds many of them in every stage.
    "TOUCHSTONE_SCORING_WRITE_INTERVAL_MS": "20",
}


def number(tables: ClickHouse, query: str) -> int:
    [(found,)] = tables.query(query)
    return int(found)


def is_above(tables: ClickHouse, query: str, bound: int) -> bool:
    return number(tables, query) > bound


def parts(records: list[Sent], count: int) -> list[list[Sent]]:
    size = -(-len(records) // count)
    return [records[start : start + size] for start in range(0, len(records), size)]


def test_workers_killed_at_any_moment_leave_every_number_exact(
    stage: Machine, tables: ClickHouse, expected: Expected
) -> None:
    chance = random.Random(SEED)
    load = make_load(SEED, EVENTS, "exact-", time.time_ns() // 1000, case_steps=True)
    before = number(tables, EVENTS_STORED)
    workers = [stage.start_worker(**SETTINGS)]
    for written, records in zip((*TURNS, None), parts(load.records, len(TURNS) + 1), strict=True):
        stage.until(lambda: stage.members() == len(workers), f"{len(workers)} workers share the log", 2 * DEADLINE_S)
        # Counted before: a busy machine may notice the first events when the last of this part are written.
        already = 0 if written is None else number(tables, written)
        with Producing(stage.bootstrap, records, PER_S):
            if len(workers) < 2:
                workers.append(stage.start_worker(**SETTINGS))
            enough = number(tables, EVENTS_STORED) + chance.randint(1, len(records) // 2)
            stage.until(partial(is_above, tables, EVENTS_STORED, enough), "events are stored")
            if written is not None:
                stage.until(partial(is_above, tables, written, already), "more is stored")
                stage.kill_worker(workers.pop(0))
    stage.settle()

    check(stage.bootstrap, tables, expected)
    assert number(tables, EVENTS_STORED) - before >= len(load.event_ids)
    assert load.event_ids <= expected.stored_ids
    assert expected.count(Fate.CONFLICTING) >= load.conflicts
    assert expected.count(Fate.REPEATED) >= load.exact_repeats
    assert expected.count(Fate.REJECTED) >= load.poison
    assert expected.signals
    assert expected.reviews
