"""The office over a fake store and receivers that answer by the book: plans, timers, and crashes at every write."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest

from schemas.review import encode_review
from services.alerting.alert import Alert, Call, Fate, Told, Turn
from services.alerting.delivery.dispatcher import Dispatcher, Limits
from services.alerting.delivery.retry import Answer, Verdict
from services.alerting.metrics import AlertingMetrics
from services.alerting.office import Intervals, Office
from services.alerting.rules.model import RuleSet
from services.alerting.sweep import Candidate
from tests.fakes.alerting import MINUTE_US, START_US, alert, rule, rule_set
from tests.fakes.alerting_store import FakeAlertStore, StoreDownError
from tests.unit.alerting.delivery.world import Scripted, delivered

RARELY = Intervals(3600, 3600)
AT_ONCE = {"above": 1000, "within": "10m", "wait": "0s"}
RULES = rule_set(rule(group=AT_ONCE))


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.alerting.office.RETRY_S", 0.001)
    monkeypatch.setattr("services.alerting.delivery.recorder.FIRST_PAUSE_S", 0.001)


class World:
    """A store, a receiver, a clock that is moved by hand, and offices one after the other."""

    def __init__(self, rules: RuleSet = RULES, answer: Callable[[Call, int], object] = delivered) -> None:
        self.rules = rules
        self.store = FakeAlertStore()
        self.desk = Scripted(answer)  # type: ignore[arg-type]
        self.pager = Scripted(delivered)
        self.now_us = START_US
        self.transient: tuple[type[Exception], ...] = (StoreDownError,)
        self.appended: list[tuple[str, bytes]] = []
        self.metrics = AlertingMetrics()

    def append(self, customers: Sequence[str], values: Sequence[bytes], timestamp_ms: int) -> None:
        assert timestamp_ms == self.now_us // 1000
        self.appended += zip(customers, values, strict=True)

    def office(self, intervals: Intervals = RARELY) -> Office:
        dispatcher = Dispatcher({"desk": self.desk, "pager": self.pager}, self.store, limits=Limits(linger_s=0.0))
        return Office(
            self.rules,
            self.store,
            self.append,
            dispatcher,
            intervals,
            lambda alerts: Told(),
            lambda: self.now_us,
            self.transient,
            self.metrics,
        )

    @asynccontextmanager
    async def open(self, intervals: Intervals = RARELY) -> AsyncIterator[Office]:
        office = self.office(intervals)
        term = asyncio.ensure_future(office.run())
        try:
            yield office
        finally:
            term.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await term

    def told(self) -> list[str]:
        """Customers the desk was told of, once for each call."""
        ids = [call_id for call_id, _ in self.desk.got]
        by_alert = {key[0]: each.customer_id for key, each in self.store.alerts.items()}
        return sorted(by_alert[i] for call_id in ids for i in self.store.calls[call_id].alert_ids)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


def ended(world: World) -> bool:
    return not world.store.waiting() and not world.store.unfinished()[0]


async def test_what_waits_when_it_opens_and_what_comes_is_told() -> None:
    world = World()
    world.store.write_alerts([alert("ann")])
    async with world.open() as office:
        await until(lambda: len(world.desk.got) == 1)
        world.store.write_alerts([alert("bob")])
        office.take([alert("bob")])
        await until(lambda: ended(world) and len(world.desk.got) == 2)
        assert office.waiting == 0
    assert world.told() == ["ann", "bob"]
    assert {each.fate for each in world.store.alerts.values()} == {Fate.CALLED}


async def test_calls_are_kept_before_fates_and_attempts() -> None:
    world = World()
    world.store.write_alerts([alert("ann")])
    async with world.open():
        await until(lambda: ended(world))
    assert world.store.effects[:3] == ["alerts", "rules", "calls"]
    assert {"fates", "attempts"} == set(world.store.effects[3:])


async def test_the_first_waits_for_company_by_the_clock() -> None:
    world = World(rule_set(rule(group={"above": 0, "within": "10m", "wait": "1s"})))
    async with world.open() as office:
        world.store.write_alerts([alert("ann"), alert("bob")])
        office.take([alert("ann")])
        office.take([alert("bob")])
        for _ in range(50):
            await asyncio.sleep(0)
        assert not world.desk.got
        world.now_us += 1_000_000
        office.take([])
        await until(lambda: ended(world))
    assert [call.alert_ids for call in world.store.calls.values()] == [
        tuple(each.alert_id for each in (alert("ann"), alert("bob")))
    ]


async def test_a_resolved_turn_is_told_to_who_was_called() -> None:
    world = World()
    world.store.write_alerts([alert("ann")])
    async with world.open() as office:
        await until(lambda: ended(world))
        over = alert("ann", START_US + 5, Turn.RESOLVED)
        world.store.write_alerts([over])
        office.take([over])
        await until(lambda: ended(world) and len(world.desk.got) == 2)
    first, second = world.store.calls.values()
    assert (second.turn, second.about) == (Turn.RESOLVED, first.call_id)


EFFECTS = ("rules", "calls", "fates", "attempts")


@pytest.mark.parametrize("effect", EFFECTS)
@pytest.mark.parametrize("written", [False, True])
@pytest.mark.parametrize("transient", [False, True])
async def test_a_failure_at_any_write_loses_and_doubles_nothing(effect: str, written: bool, transient: bool) -> None:
    world = World()
    everybody = [alert(f"c{number}") for number in range(5)]
    world.store.write_alerts(everybody)
    (world.store.broken if written else world.store.refusals)[effect] = 1
    if not transient:
        world.transient = ()
        term = asyncio.ensure_future(world.office().run())
        await until(lambda: term.done() or ended(world))
        term.cancel()
        await asyncio.wait({term})
        assert term.cancelled() or term.exception() is not None
    async with world.open():
        await until(lambda: ended(world))
    assert sorted({*world.told()}) == sorted(each.customer_id for each in everybody)
    assert len(world.store.calls) == len(everybody)
    assert {each.fate for each in world.store.alerts.values()} == {Fate.CALLED}
    if effect != "attempts":
        assert len(world.told()) == len(everybody), "only an attempt that was not recorded may be repeated"


async def test_what_was_kept_and_said_to_have_failed_is_not_told_in_another_company() -> None:
    """Calls are in the table although the write raised; meanwhile another alert comes that would join them."""
    world = World(rule_set(rule(group={"above": 0, "within": "10m", "wait": "0s"})))
    world.store.broken["calls"] = 1
    world.store.write_alerts([alert("ann"), alert("bob"), alert("cem")])
    late, write = alert("late"), world.store.write_calls

    def writing(calls: Sequence[Call]) -> None:
        first = not world.store.calls
        try:
            write(calls)
        finally:
            if first:
                world.store.write_alerts([late])
                loop.call_soon_threadsafe(office.take, [late])

    loop = asyncio.get_running_loop()
    world.store.write_calls = writing  # type: ignore[method-assign,assignment]
    async with world.open() as office:
        await until(lambda: len(world.desk.got) == 1)
        for _ in range(20):
            await asyncio.sleep(0.001)
    assert [len(call.alert_ids) for call in world.store.calls.values()] == [3]
    assert [each.customer_id for each in world.store.waiting()] == ["late"]


async def test_closing_while_the_tables_are_away_does_not_wait_for_them() -> None:
    world = World()
    world.store.write_alerts([alert("ann")])
    world.store.refusals["calls"] = 10**9
    async with asyncio.timeout(10):
        async with world.open():
            await until(lambda: world.store.refusals["calls"] < 10**9 - 2)
    world.store.refusals.clear()
    async with world.open():
        await until(lambda: ended(world))
    assert world.told() == ["ann"]


async def test_closing_waits_for_calls_under_way_however_often_it_is_told() -> None:
    answer = asyncio.Event()

    async def slowly(call: Call, now_us: int) -> Answer:
        del call, now_us
        await answer.wait()
        return Answer(Verdict.DELIVERED, 200)

    world = World(answer=slowly)
    world.store.write_alerts([alert("ann")])
    term = asyncio.ensure_future(world.office().run())
    await until(lambda: len(world.desk.got) == 1)
    for _ in range(3):
        term.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert not term.done()
    answer.set()
    with contextlib.suppress(asyncio.CancelledError):
        await term
    assert not world.store.unfinished()[0], "the attempt under way is recorded"


async def test_closing_waits_for_a_plan_that_is_being_kept() -> None:
    """Else the next office could read what waits before these calls are there, and call again."""
    world = World()
    world.store.write_alerts([alert("ann")])
    loop, begun, go_on = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
    write = world.store.write_calls

    def slowly(calls: Sequence[Call]) -> None:
        loop.call_soon_threadsafe(begun.set)
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(10)
        write(calls)

    world.store.write_calls = slowly  # type: ignore[method-assign,assignment]
    term = asyncio.ensure_future(world.office().run())
    await begun.wait()
    term.cancel()
    for _ in range(20):
        await asyncio.sleep(0)
    assert not term.done()
    go_on.set()
    with contextlib.suppress(asyncio.CancelledError):
        await term
    assert len(world.store.calls) == 1
    assert {each.fate for each in world.store.alerts.values()} == {Fate.CALLED}


async def test_the_sweep_asks_for_those_who_are_due() -> None:
    world = World()
    world.store.due = [Candidate("ann", 3, 7, [1], [0]), Candidate("bob", 3, 8, [0], [1])]
    async with world.open():
        await until(lambda: bool(world.appended))
    assert [customer for customer, _ in world.appended] == ["ann"]
    assert world.appended[0][1] == encode_review("ann", 3, 7, START_US)
    assert world.metrics.registry.get_sample_value("touchstone_alerting_reviews_total") == 1


async def test_a_sweep_in_vain_is_repeated_ever_more_rarely() -> None:
    world = World()
    world.store.due = [Candidate("ann", 3, 7, [1], [0])]
    office = world.office(Intervals(60, 3600))
    for _ in range(16):
        office.sweep()
        world.now_us += MINUTE_US
    assert len(world.appended) == 5  # minutes 0, 1, 3, 7 and 15


def of_rule(name: str, customer: str) -> Alert:
    return alert(f"{name}-{customer}", rule=name, customer_id=customer)


async def test_alerts_of_a_rule_that_is_gone_are_untold() -> None:
    world = World()
    world.store.write_alerts([of_rule("gone", "ann")])
    async with world.open():
        await until(lambda: not world.store.waiting())
    assert {each.fate for each in world.store.alerts.values()} == {Fate.UNTOLD}
    assert not world.desk.got
