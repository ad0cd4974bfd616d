"""The rule by offsets, the cut in the core, and the worker's part in it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest

from services.scoring.flood import FloodLimit, Floods, Stop
from services.scoring.halts import Halts
from services.scoring.ports import RejectedRecord
from services.scoring.record_batches.commits import CommitLedger
from services.scoring.settings import ScoringSettings
from services.scoring.shell import Shell, ShellLimits
from tests.fakes.stream import FakeTables, FakeTopics, TablesDownError, event, make_core
from tests.unit.scoring.test_shell import batch, running, until

LIMIT = FloodLimit(rejected=5, window_records=10)


def record(offset: int, partition: int = 0) -> RejectedRecord:
    return RejectedRecord(partition, offset, 0, "not_single_object", "", b"junk")


def records(offsets: Sequence[int], partition: int = 0) -> list[RejectedRecord]:
    return [record(offset, partition) for offset in offsets]


class Bench:
    """A rule over a table and an operator that the test plays."""

    def __init__(self, limit: FloodLimit = LIMIT) -> None:
        self.table: set[int] = set()
        self.released = 0
        self.asked = 0
        self.floods = Floods(limit, self._earlier, self._released)

    def _earlier(self, partition: int, first: int, before: int) -> list[int]:
        self.asked += 1
        return sorted(offset for offset in self.table if first <= offset < before)

    def _released(self, partition: int) -> int:
        return self.released


def test_it_stops_at_the_record_that_completes_the_limit() -> None:
    bench = Bench()
    assert not bench.floods.meet(records([1, 3, 5, 7]))
    assert bench.floods.meet(records([9, 11])) == {0: Stop(0, 9, 5, 9, 0)}
    assert bench.floods.untold() == [Stop(0, 9, 5, 9, 0)]
    assert not bench.floods.untold()


def test_rejections_far_apart_never_stop_it() -> None:
    bench = Bench()
    assert not bench.floods.meet(records(range(0, 10_000, 3)))
    assert not bench.floods.meet(records(range(10_000, 20_000, 5), partition=1))


def test_partitions_are_counted_apart() -> None:
    bench = Bench()
    mixed = [record(offset, partition) for offset in range(4) for partition in range(3)]
    assert not bench.floods.meet(mixed)
    assert set(bench.floods.meet([record(4, 1)])) == {1}


@pytest.mark.parametrize("seed", range(30))
def test_cuts_starts_and_repeats_change_nothing(seed: int) -> None:
    chance = random.Random(seed)
    rejected = sorted(chance.sample(range(300), 90))
    whole = Bench()
    expected = whole.floods.meet(records(rejected))
    cuts = sorted({0, len(rejected), *(chance.randrange(len(rejected)) for _ in range(12))})
    bench = Bench()
    stops: dict[int, Stop] = {}
    for low, high in pairwise(cuts):
        part = records(rejected[low:high])
        stops = dict(bench.floods.meet(part))
        assert bench.floods.meet(part) == stops, "the same again, as after a failed look-up"
        if stops:
            break
        bench.table |= set(rejected[low:high])
        if chance.random() < 0.5:  # another worker takes over, and may be handed some of it again
            bench.floods.forget_all()
            again = chance.randrange(low, high)
            assert bench.floods.meet(records(rejected[again:high])) == stops
    assert stops == expected


def test_it_asks_the_table_once_and_only_when_something_is_rejected() -> None:
    bench = Bench()
    bench.floods.meet([])
    assert bench.asked == 0
    for offset in range(0, 400, 100):
        bench.floods.meet([record(offset)])
    assert bench.asked == 1


def test_what_was_released_is_let_through_and_what_comes_after_counts_anew() -> None:
    bench = Bench()
    assert bench.floods.meet(records(range(6)))
    bench.floods.release(0, 100)
    bench.released = 100
    assert not bench.floods.meet(records(range(4, 100)))
    assert not bench.floods.meet(records(range(100, 104)))
    assert bench.floods.meet(records([104, 105])) == {0: Stop(0, 104, 5, 5, 100)}


def test_a_worker_started_anew_honours_what_was_released() -> None:
    bench = Bench()
    bench.released = 100
    assert not bench.floods.meet(records(range(100)))
    assert bench.floods.meet(records(range(100, 105)))


@pytest.mark.parametrize("wrong", [(0, 10), (11, 10)])
def test_a_limit_that_cannot_be_is_refused(wrong: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="cannot be"):
        FloodLimit(*wrong)


def test_settings_that_cannot_be_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOUCHSTONE_SCORING_FLOOD_REJECTED", "3000")
    with pytest.raises(ValueError, match="TOUCHSTONE_SCORING_FLOOD_WINDOW_RECORDS=2000"):
        ScoringSettings()


def test_a_halted_partition_gives_back_what_lies_beyond_and_commits_up_to_there() -> None:
    ledger: CommitLedger[str] = CommitLedger()
    first, second, third = (ledger.deliver("a", start, start + 10, 10) for start in (0, 10, 20))
    other = ledger.deliver("b", 0, 10, 10)
    for serial in (first, second):
        assert ledger.take(serial)
    ledger.halt("a", 15)
    assert ledger.halted() == {"a"}
    assert not ledger.take(third)
    assert ledger.open_records == 30
    late = ledger.deliver("a", 30, 40, 10)
    assert not ledger.take(late)
    assert not ledger.acknowledge(late)
    assert ledger.acknowledge(second)
    assert ledger.committable("a") is None
    assert ledger.acknowledge(first)
    assert ledger.committable("a") == 15
    assert ledger.take(other)
    assert ledger.position_of_next("a") == 15
    ledger.go_on("a")
    again = ledger.deliver("a", 15, 40, 25)
    assert ledger.take(again)
    assert ledger.acknowledge(again)
    assert ledger.committable("a") == 40
    ledger.halt("a", 40)
    ledger.forget(["a"])
    assert not ledger.halted()
    assert ledger.position_of_next("a") is None


class Decisions:
    def __init__(self) -> None:
        self.announced: list[tuple[int, int]] = []
        self.until = 0
        self.failures: list[Exception] = []

    def announce(self, partition: int, offset: int, *, rejected: int, records: int, released_until: int) -> None:
        self.announced.append((partition, offset))

    def released_until(self, partition: int) -> int:
        if self.failures:
            raise self.failures.pop()
        return self.until


async def test_the_worker_halts_tells_and_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    tables, decisions, bench = FakeTables(), Decisions(), Bench()
    core = make_core(tables)
    core.floods = bench.floods
    halted: list[tuple[int, int]] = []
    gone_on: list[tuple[int, int]] = []

    async def go_on(partition: int, released_until: int) -> None:
        await shell.release(partition, released_until)
        gone_on.append((partition, released_until))

    halts = Halts(decisions, lambda *at: halted.append(at), go_on, TablesDownError, look_every_s=0.001)
    topics = FakeTopics(tables.actions)
    limits = ShellLimits(max_unwritten_records=1000, min_write_interval_s=0.0, retry_s=0.0)
    shell = Shell(core, tables, topics, limits, TablesDownError, halting=halts)
    acknowledged: list[int] = []
    good = [event(str(number), "ada", after_s=number) for number in range(3)]
    poisoned = [*good[:2], *[b"junk"] * 7, good[2]]
    decisions.failures.append(TablesDownError())
    watching = asyncio.create_task(halts.run())
    async with running(shell) as task:
        await shell.handle(
            [batch(list(poisoned), 0, acknowledged), batch([event("b", "bob")], 50, acknowledged, partition=1)]
        )
        assert halted == [(0, 6)]
        assert len(halts) == 1
        await until(lambda: bool(acknowledged) and bool(decisions.announced), task)
        assert len(tables.events) == 3, "those before the stop, and the other partition's"
        assert sorted(tables.rejected) == [(0, offset) for offset in range(2, 6)]
        assert "partition 0 stopped at offset 6: 5 of 5 records in a row" in caplog.text
        assert not gone_on
        decisions.until = bench.released = 10
        await until(lambda: gone_on == [(0, 10)], task)
        assert len(halts) == 0
        # The consumer reads on from the stop.
        await shell.handle([batch(list(poisoned[6:]), 6, acknowledged)])
        await until(lambda: 6 in acknowledged, task)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    assert len(tables.events) == 4
    assert sorted(tables.rejected) == [(0, offset) for offset in range(2, 9)]
    assert len(topics.rejected) == 7, "none twice"
    await shell.on_partitions_revoked(set())
    assert len(halts) == 0


def test_a_cut_batch_counts_only_what_was_taken() -> None:
    core = make_core(FakeTables())
    core.floods = Bench().floods
    values: list[bytes | None] = [b"junk"] * 8
    effects = core.take(0, np.arange(8), values, [0] * 8, ())
    assert effects.records == 4
    assert [record.log_offset for record in effects.rejected] == [0, 1, 2, 3]
    assert core.take(0, np.arange(8, 16), values, [0] * 8, ()).records == 0
