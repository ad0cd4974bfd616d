"""A worker killed between each pair of effects: whoever comes after leaves the tables the same to the last row."""

from __future__ import annotations

import signal
import time

import pytest

from infra.clickhouse.client import ClickHouse
from services.scoring.shell import Effect
from tests.e2e.checker import Expected, Fate, check, check_rows
from tests.e2e.scoring.load import make_load, produce
from tests.e2e.scoring.parts import NO_REVIEWS, Machine

pytestmark = pytest.mark.stack

SEED = 20_260_304
POINTS = (
    (Effect.EVENTS, 1),
    (Effect.REJECTED, 1),  # in the table, not yet in the topic
    (Effect.REJECTED, 2),
    (Effect.REPEATED, 1),
    (Effect.SIGNALS, 1),  # in the topic, not yet in the table
    (Effect.SIGNALS, 2),
    (Effect.STATES, 1),
    (Effect.ACKNOWLEDGED, 1),  # and not yet committed
)
STORED = "SELECT count() FROM touchstone.touchpoints WHERE startsWith(customer_id, 'crash-')"


@pytest.mark.timeout(600)
def test_a_kill_between_any_two_effects_leaves_the_same_tables(
    stage: Machine, tables: ClickHouse, expected: Expected
) -> None:
    load = make_load(SEED, 3_000, "crash-", time.time_ns() // 1000)
    for number, (effect, report) in enumerate(POINTS):
        # Something new for each; what earlier ones left undone or uncommitted comes again before it.
        produce(stage.bootstrap, load.records[number :: len(POINTS)])
        worker = stage.start_crash_worker(effect.value, report, **NO_REVIEWS)
        assert worker.exit_code() == -signal.SIGKILL, worker.tail()
        [(stored,)] = tables.query(STORED)
        assert stored, "a kill after an effect leaves what was done before"

    stage.start_worker(**NO_REVIEWS)
    stage.settle()
    check(stage.bootstrap, tables, expected)
    check_rows(tables, expected)
    assert load.event_ids <= expected.stored_ids
    assert expected.count(Fate.REPEATED) >= load.exact_repeats
    assert expected.count(Fate.REJECTED) >= load.poison
    assert any(crossing.customer_id.startswith("crash-") for crossing in expected.signals.values())
