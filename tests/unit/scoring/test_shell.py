"""The order of effects, and what a failure in between does."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import numpy as np
import pytest

from services.scoring.ports import StateRows
from services.scoring.record_batches.batch import RecordBatch
from services.scoring.shell import Effect, Shell, ShellLimits
from tests.fakes.stream import FakeTables, FakeTopics, TablesDownError, event, make_core


@pytest.fixture
def tables() -> FakeTables:
    return FakeTables()


@pytest.fixture
def topics(tables: FakeTables) -> FakeTopics:
    """Shares its list of actions with the tables, so that a test sees one order."""
    return FakeTopics(tables.actions)


FAST = ShellLimits(max_unwritten_records=1000, min_write_interval_s=0.0, retry_s=0.0)


def batch(values: list[bytes | None], first: int, acknowledged: list[int], partition: int = 0) -> RecordBatch:
    def acknowledge(serial: int) -> bool:
        acknowledged.append(serial)
        return True

    last = first + len(values) - 1
    return RecordBatch(
        "touchpoints",
        partition,
        first,
        last,
        np.arange(first, last + 1, dtype=np.int64),
        [None] * len(values),
        list(values),
        [1_760_000_000_000] * len(values),
        first,
        acknowledge,
    )


@asynccontextmanager
async def running(shell: Shell) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(shell.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], bool], task: asyncio.Task[None]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            if task.done():
                task.result()
            await asyncio.sleep(0.001)


def make_shell(
    tables: FakeTables, topics: FakeTopics, capacity: int = 1000, observed: list[Effect] | None = None
) -> Shell:
    seen = [] if observed is None else observed
    return Shell(
        make_core(tables, capacity), tables, topics, FAST, TablesDownError, lambda effect, _: seen.append(effect)
    )


def angry(count: int) -> list[bytes | None]:
    return [
        event(str(i), "ada", after_s=i * 10, kind="complaint_opened", outcome=None, case_id=str(i))
        for i in range(count)
    ]


TOLD = ["rejected", "rejected topic", "repeated", "signals topic", "signals table"]
"""In this order, beside the events."""


async def test_effects_come_in_their_order_and_acknowledgement_last(tables: FakeTables, topics: FakeTopics) -> None:
    observed: list[Effect] = []
    acknowledged: list[int] = []
    shell = make_shell(tables, topics, observed=observed)
    async with running(shell) as task:
        await shell.handle([batch([*angry(6), b"junk", event("0", "ada", kind="complaint_opened")], 0, acknowledged)])
        await until(lambda: Effect.ACKNOWLEDGED in observed, task)
    *beside, last = tables.actions
    assert last == "states"
    assert sorted(beside, key=["events", *TOLD].index) == ["events", *TOLD]
    assert [action for action in beside if action != "events"] == TOLD
    assert observed[-1] is Effect.ACKNOWLEDGED
    assert acknowledged == [0]


@pytest.mark.parametrize("failing", range(6))
async def test_a_table_that_fails_is_tried_until_it_works(tables: FakeTables, topics: FakeTopics, failing: int) -> None:
    acknowledged: list[int] = []
    shell = make_shell(tables, topics)
    tables.failures += [TablesDownError()] * failing
    async with running(shell) as task:
        await shell.handle([batch(angry(6), 0, acknowledged)])
        await until(lambda: bool(acknowledged), task)
    assert len(tables.events) == 6
    assert len(tables.states) == 1
    assert not shell.waiting_for_tables


async def test_reading_that_works_does_not_hide_that_writing_waits(tables: FakeTables, topics: FakeTopics) -> None:
    """The watchdog would take the worker for stuck and end it, with nothing gained."""
    acknowledged: list[int] = []
    shell = make_shell(tables, topics)
    await shell.handle([batch([event("a", "ada")], 0, acknowledged)])
    down = True

    def write_events(*_: object) -> None:
        if down:
            raise TablesDownError

    tables.write_events = write_events  # type: ignore[assignment]
    async with running(shell) as task:
        await until(lambda: shell.waiting_for_tables, task)
        await shell.handle([batch([event("b", "ada", after_s=2)], 1, acknowledged)])
        assert shell.waiting_for_tables
        down = False
        await until(lambda: acknowledged == [0, 1], task)
    assert not shell.waiting_for_tables


async def test_silence_after_a_large_write_is_no_backlog(tables: FakeTables, topics: FakeTopics) -> None:
    """Reviews wait for the end of a backlog; an import must not silence them for ever."""
    acknowledged: list[int] = []
    limits = ShellLimits(max_unwritten_records=1000, min_write_interval_s=0.0, behind_records=10, retry_s=0.0)
    shell = Shell(make_core(tables), tables, topics, limits, TablesDownError)
    behind: list[bool] = []
    async with running(shell) as task:
        await shell.handle([batch([event(str(i), "ada", after_s=i) for i in range(20)], 0, acknowledged)])
        await until(lambda: bool(acknowledged), task)
        behind.append(shell.behind)
        await shell.handle([batch([event("last", "ada", after_s=30)], 20, acknowledged)])
        behind.append(shell.behind)
        await until(lambda: len(acknowledged) == 2, task)
    assert [*behind, shell.behind] == [False, True, False]


async def test_an_unknown_error_stops_the_writing_without_acknowledgement(
    tables: FakeTables, topics: FakeTopics
) -> None:
    acknowledged: list[int] = []
    shell = make_shell(tables, topics)
    await shell.handle([batch(angry(1), 0, acknowledged)])
    tables.failures.append(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(shell.run(), 10)
    assert not acknowledged
    assert not tables.states


class CrashError(Exception):
    """The process ends here."""


async def test_a_crash_after_any_effect_leads_to_the_same_rows(tables: FakeTables, topics: FakeTopics) -> None:
    values = [*angry(6), b"junk", event("0", "ada", kind="complaint_opened", text="again"), *angry(6)]
    whole, whole_topics = FakeTables(), FakeTopics([])
    acknowledged: list[int] = []
    async with running(shell := make_shell(whole, whole_topics)) as task:
        await shell.handle([batch(values, 0, acknowledged)])
        await until(lambda: bool(acknowledged), task)
    for crash_at in range(7):
        broken, broken_topics = FakeTables(), FakeTopics([])
        shell = make_shell(broken, broken_topics)
        await shell.handle([batch(values, 0, [])])
        observed = 0

        def crash(effect: Effect, _: object, at: int = crash_at) -> None:
            nonlocal observed
            observed += 1
            if observed == at + 1:
                raise CrashError

        shell._observe = crash
        task = asyncio.create_task(_swallow(shell.run()))
        await asyncio.wait_for(task, 10) if crash_at < 8 else None
        redone: list[int] = []
        async with running(again := make_shell(broken, broken_topics)) as writer:
            await again.handle([batch(values, 0, redone)])
            await until(lambda done=redone: bool(done), writer)  # type: ignore[misc]
        assert broken.events == whole.events
        assert broken.rejected == whole.rejected
        assert broken.repeated == whole.repeated
        assert broken.signals == whole.signals
        for customer, (offset, rows, index) in whole.states.items():
            other_offset, other, place = broken.states[customer]
            assert other_offset == offset
            np.testing.assert_allclose(other.floats[place], rows.floats[index], rtol=1e-12)
            np.testing.assert_array_equal(other.ints[place], rows.ints[index])


async def _swallow(running: object) -> None:
    try:
        await running  # type: ignore[misc]
    except CrashError:
        return


async def test_revoked_work_is_forgotten(tables: FakeTables, topics: FakeTopics) -> None:
    acknowledged: list[int] = []
    shell = make_shell(tables, topics)
    await shell.handle([batch(angry(2), 0, acknowledged)])
    await shell.on_partitions_revoked(set())
    await shell.on_partitions_assigned(set())
    async with running(shell) as task:
        await shell.handle([batch([event("z", "zoe")], 0, acknowledged, partition=1)])
        await until(lambda: bool(acknowledged), task)
    assert {customer for customer, _ in tables.events} == {"zoe"}


async def test_a_revocation_does_not_wait_for_a_look_up(tables: FakeTables, topics: FakeTopics) -> None:
    """The group gives ten seconds; a look-up may hang for longer. What comes of it is dropped."""
    acknowledged: list[int] = []
    shell = make_shell(tables, topics)
    load, asked, answer = tables.load_states, threading.Event(), threading.Event()

    def hang(customers: Sequence[str]) -> StateRows:
        asked.set()
        assert answer.wait(10)
        return load(customers)

    tables.load_states = hang  # type: ignore[method-assign]
    async with running(shell) as task:
        handling = asyncio.create_task(shell.handle([batch(angry(3), 0, acknowledged)]))
        await asyncio.to_thread(asked.wait, 10)
        await asyncio.wait_for(shell.on_partitions_revoked(set()), 1)
        answer.set()
        await handling
        await shell.on_partitions_assigned(set())
        await shell.handle([batch([event("z", "zoe")], 0, acknowledged, partition=1)])
        await until(lambda: bool(acknowledged), task)
    assert {customer for customer, _ in tables.events} == {"zoe"}
    assert set(tables.states) == {"zoe"}


async def test_a_batch_of_more_customers_than_memory_is_folded_in_parts(tables: FakeTables, topics: FakeTopics) -> None:
    acknowledged: list[int] = []
    shell = make_shell(tables, topics, capacity=5)
    async with running(shell) as task:
        await shell.handle([batch([event(str(i), f"c{i}") for i in range(23)], 0, acknowledged)])
        await until(lambda: bool(acknowledged), task)
    assert len(tables.states) == len(tables.events) == 23


async def test_more_customers_than_memory_wait_for_the_writer(tables: FakeTables, topics: FakeTopics) -> None:
    acknowledged: list[int] = []
    shell = make_shell(tables, topics, capacity=5)
    async with running(shell) as task:
        for i in range(20):
            values: list[bytes | None] = [event(f"{i}-{j}", f"c{i}-{j}") for j in range(3)]
            await shell.handle([batch(values, i * 3, acknowledged)])
        await until(lambda: len(acknowledged) == 20, task)
    assert len(tables.states) == 60


async def test_history_is_told_from_live_events(tables: FakeTables, topics: FakeTopics) -> None:
    acknowledged: list[int] = []
    shell = make_shell(tables, topics)
    async with running(shell) as task:
        await shell.handle([batch(angry(3), 0, acknowledged)])
        await until(lambda: len(acknowledged) == 1, task)
        assert not shell.importing
        old: list[bytes | None] = [event(f"h{i}", "bob", received_after_s=86_400.0) for i in range(3)]
        await shell.handle([batch(old, 3, acknowledged)])
        await until(lambda: len(acknowledged) == 2, task)
        assert shell.importing
