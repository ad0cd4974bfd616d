"""The dispatcher on a clock that is moved by hand."""

from __future__ import annotations

import asyncio

import pytest

from services.alerting.alert import Attempt, Call, Outcome
from services.alerting.delivery.circuit import Mode
from services.alerting.delivery.dispatcher import Dispatcher, UnknownCallError
from services.alerting.delivery.limits import Limits
from services.alerting.delivery.ports import Sender
from services.alerting.delivery.retry import Answer, Verdict
from tests.unit.alerting.delivery.world import (
    START_US,
    HandClock,
    MemoryStore,
    Scripted,
    delivered,
    failing,
    make_call,
    run_until,
    running,
)

DAY_US = 86_400_000_000
LIMITS = Limits(linger_s=0)


def make(clock: HandClock, store: MemoryStore, senders: dict[str, Sender], limits: Limits = LIMITS) -> Dispatcher:
    return Dispatcher(senders, store, clock=clock, draw=lambda: 0.0, limits=limits)


async def test_a_call_is_sent_once_and_recorded(clock: HandClock, store: MemoryStore) -> None:
    desk = Scripted(delivered)
    dispatcher = make(clock, store, {"desk": desk})
    call = make_call("a")
    async with running(dispatcher):
        dispatcher.submit([call])
        dispatcher.submit([call])
        await dispatcher.drain()
        dispatcher.submit([call])
        await dispatcher.drain()
    assert [call_id for call_id, _ in desk.got] == [call.call_id]
    assert store.rows == [Attempt(call.call_id, "desk", 1, START_US, 0, Outcome.DELIVERED, 200, "", 0)]
    assert desk.closed


async def test_a_receiver_that_is_down_for_a_day_gets_every_call_once(clock: HandClock, store: MemoryStore) -> None:
    up_us = START_US + DAY_US
    desk = Scripted(lambda call, now_us: delivered(call, now_us) if now_us >= up_us else failing(call, now_us))
    dispatcher = make(clock, store, {"desk": desk})
    calls = [make_call(f"c{number}") for number in range(50)]
    async with running(dispatcher):
        dispatcher.submit(calls)
        await run_until(dispatcher, clock, START_US + 5 * DAY_US)
    assert sorted(store.ends(Outcome.DELIVERED)) == sorted(call.call_id for call in calls)
    assert not store.ends(Outcome.DEAD)
    # The circuit held them back: far fewer tries than 50 calls' schedules would have made in a day.
    assert sum(row.outcome is Outcome.FAILED for row in store.rows) < 50 * 6
    assert dispatcher.circuits() == {"desk": Mode.CLOSED}


async def test_a_call_dies_after_three_days_at_least_and_goes_again_by_hand(
    clock: HandClock, store: MemoryStore
) -> None:
    well = False
    desk = Scripted(lambda call, now_us: delivered(call, now_us) if well else failing(call, now_us))
    dispatcher = make(clock, store, {"desk": desk})
    call = make_call("a")
    store.calls[call.call_id] = call
    async with running(dispatcher):
        dispatcher.submit([call])
        await run_until(dispatcher, clock, START_US + 30 * DAY_US)
        rows = store.of(call.call_id)
        assert [row.number for row in rows] == list(range(1, 11))
        assert rows[-1].outcome is Outcome.DEAD
        assert rows[-1].at_us - rows[0].at_us >= 3 * DAY_US
        well = True
        await dispatcher.resend(call.call_id)
        await run_until(dispatcher, clock, clock.now_us() + DAY_US)
    assert [(row.number, row.outcome) for row in store.of(call.call_id)[10:]] == [
        (11, Outcome.FAILED),
        (12, Outcome.DELIVERED),
    ]
    assert store.of(call.call_id)[10].detail == "sent again by hand"


async def test_resending_an_unknown_call_says_so(clock: HandClock, store: MemoryStore) -> None:
    with pytest.raises(UnknownCallError, match="no call nope"):
        await make(clock, store, {"desk": Scripted(delivered)}).resend("nope")


async def test_a_waiting_call_is_sent_at_once_by_hand(clock: HandClock, store: MemoryStore) -> None:
    desk = Scripted(delivered)
    dispatcher = make(clock, store, {"desk": desk})
    call = make_call("a", not_before_us=START_US + DAY_US)
    async with running(dispatcher):
        dispatcher.submit([call])
        await dispatcher.drain()
        assert desk.got == []
        assert dispatcher.next_us() == START_US + DAY_US
        await dispatcher.resend(call.call_id)
        await dispatcher.drain()
    assert len(desk.got) == 1


async def test_a_hanging_receiver_keeps_no_other_waiting(clock: HandClock, store: MemoryStore) -> None:
    opened = asyncio.Event()

    async def hang(_call: Call, _now_us: int) -> Answer:
        await opened.wait()
        return Answer(Verdict.RETRY)

    dead, desk = Scripted(hang), Scripted(delivered)
    dispatcher = make(clock, store, {"dead": dead, "desk": desk})
    calls = [make_call(f"c{number}", ("dead", "desk")[number % 2]) for number in range(10_000)]
    async with running(dispatcher):
        dispatcher.submit(calls)
        async with asyncio.timeout(60):
            while len(store.rows) < 5_000:
                await asyncio.sleep(0)
        assert len(dead.got) == LIMITS.at_once
        assert len(desk.got) == 5_000
        assert dispatcher.waiting() == {"dead": 5_000, "desk": 0}
        opened.set()


async def test_an_open_circuit_burns_no_attempts(clock: HandClock, store: MemoryStore) -> None:
    desk = Scripted(failing)
    dispatcher = make(clock, store, {"desk": desk}, Limits(at_once=1, linger_s=0))
    async with running(dispatcher):
        dispatcher.submit([make_call(f"c{number}") for number in range(100)])
        await dispatcher.drain()
        assert len(desk.got) == 5
        assert dispatcher.circuits() == {"desk": Mode.OPEN}
        await run_until(dispatcher, clock, START_US + 3_600_000_000)
    # 10, 20, 40, ..., 300 s apart.
    assert len(desk.got) < 5 + 5 + 12


async def test_the_gravest_goes_first(clock: HandClock, store: MemoryStore) -> None:
    desk = Scripted(delivered)
    dispatcher = make(clock, store, {"desk": desk}, Limits(at_once=1, linger_s=0))
    calls = [make_call(severity, severity=severity) for severity in ("info", "warning", "critical", "error")]
    dispatcher.submit(calls)
    async with running(dispatcher):
        await dispatcher.drain()
    assert [call_id for call_id, _ in desk.got] == [calls[index].call_id for index in (2, 3, 1, 0)]


async def test_a_resolved_notice_waits_for_its_firing_call(clock: HandClock, store: MemoryStore) -> None:
    fails = 2
    firing = make_call("a")
    resolved = make_call("a-resolved", about=firing.call_id)

    def answer(call: Call, now_us: int) -> Answer:
        nonlocal fails
        if call is firing and fails:
            fails -= 1
            return failing(call, now_us)
        return delivered(call, now_us)

    desk = Scripted(answer)
    dispatcher = make(clock, store, {"desk": desk})
    async with running(dispatcher):
        dispatcher.submit([firing, resolved])
        await dispatcher.drain()
        assert dispatcher.waiting() == {"desk": 2}
        await run_until(dispatcher, clock, START_US + DAY_US)
    assert [call_id for call_id, _ in desk.got] == [firing.call_id] * 3 + [resolved.call_id]


async def test_a_resolved_notice_of_a_dead_call_is_dropped(clock: HandClock, store: MemoryStore) -> None:
    desk = Scripted(lambda _call, _now_us: Answer(Verdict.NEVER, 413, "HTTP 413"))
    dispatcher = make(clock, store, {"desk": desk})
    firing = make_call("a")
    early, late = make_call("early", about=firing.call_id), make_call("late", about=firing.call_id)
    async with running(dispatcher):
        dispatcher.submit([early, firing])
        await dispatcher.drain()
        dispatcher.submit([late])
        await dispatcher.drain()
    assert [call_id for call_id, _ in desk.got] == [firing.call_id]
    assert set(store.ends(Outcome.DEAD)) == {firing.call_id, early.call_id, late.call_id}
    assert "never delivered" in store.of(late.call_id)[0].detail


async def test_how_an_old_call_ended_is_looked_up(clock: HandClock, store: MemoryStore) -> None:
    desk = Scripted(delivered)
    firing = make_call("old")
    store.calls[firing.call_id] = firing
    store.rows.append(Attempt(firing.call_id, "desk", 1, START_US - DAY_US, 0, Outcome.DELIVERED, 200, "", 0))
    resolved = make_call("resolved", about=firing.call_id)
    dispatcher = make(clock, store, {"desk": desk})
    async with running(dispatcher):
        dispatcher.submit([resolved])
        await dispatcher.drain()
    assert [call_id for call_id, _ in desk.got] == [resolved.call_id]
    assert store.asked == [[firing.call_id]]


async def test_gone_disables_the_receiver_until_somebody_sends_again(clock: HandClock, store: MemoryStore) -> None:
    gone = True
    desk = Scripted(lambda call, now_us: Answer(Verdict.GONE, 410, "HTTP 410") if gone else delivered(call, now_us))
    dispatcher = make(clock, store, {"desk": desk}, Limits(at_once=1, linger_s=0))
    calls = [make_call(f"c{number}") for number in range(5)]
    store.calls = {call.call_id: call for call in calls}
    async with running(dispatcher):
        dispatcher.submit(calls[:4])
        await dispatcher.drain()
        dispatcher.submit(calls[4:])
        await dispatcher.drain()
        assert len(desk.got) == 1
        assert len(store.ends(Outcome.DEAD)) == 5
        assert dispatcher.circuits() == {"desk": Mode.DISABLED}
        gone = False
        for call in calls:
            await dispatcher.resend(call.call_id)
        await run_until(dispatcher, clock, START_US + DAY_US)
    assert len(store.ends(Outcome.DELIVERED)) == 5


async def test_retry_after_holds_back_the_whole_receiver(clock: HandClock, store: MemoryStore) -> None:
    until_us = START_US + 900_000_000

    def answer(call: Call, now_us: int) -> Answer:
        if now_us < until_us:
            return Answer(Verdict.SLOW_DOWN, 429, "HTTP 429", retry_after_s=(until_us - now_us) / 1e6)
        return delivered(call, now_us)

    desk = Scripted(answer)
    dispatcher = make(clock, store, {"desk": desk}, Limits(at_once=1, linger_s=0))
    async with running(dispatcher):
        dispatcher.submit([make_call(f"c{number}") for number in range(20)])
        await run_until(dispatcher, clock, START_US + DAY_US)
    assert len(desk.got) == 21
    assert all(now_us >= until_us for _, now_us in desk.got[1:])


async def test_a_restart_takes_up_where_attempts_left_off(clock: HandClock, store: MemoryStore) -> None:
    ids = ("fresh", "waits", "done", "dead")
    calls = {name: make_call(name) for name in ids} | {"about": make_call("about", about=make_call("dead").call_id)}
    attempts = [
        Attempt(calls["waits"].call_id, "desk", 2, START_US - 5, 1, Outcome.FAILED, 500, "", START_US + 300_000_000),
        Attempt(calls["waits"].call_id, "desk", 1, START_US - 9, 1, Outcome.FAILED, 500, "", START_US - 5),
        Attempt(calls["done"].call_id, "desk", 1, START_US - 9, 1, Outcome.DELIVERED, 200, "", 0),
        Attempt(calls["dead"].call_id, "desk", 10, START_US - 9, 1, Outcome.DEAD, 500, "", 0),
    ]
    desk = Scripted(delivered)
    dispatcher = make(clock, store, {"desk": desk})
    async with running(dispatcher):
        dispatcher.resume(list(calls.values()), attempts)
        await dispatcher.drain()
        assert [call_id for call_id, _ in desk.got] == [calls["fresh"].call_id]
        await run_until(dispatcher, clock, START_US + DAY_US)
    assert desk.got[1] == (calls["waits"].call_id, START_US + 300_000_000)
    assert store.of(calls["waits"].call_id)[-1].number == 3
    assert store.of(calls["about"].call_id)[-1].outcome is Outcome.DEAD
    assert len(desk.got) == 2


async def test_a_crash_between_send_and_record_repeats_the_same_call(clock: HandClock, store: MemoryStore) -> None:
    store.refusals = 10_000
    call = make_call("a")
    first = Scripted(delivered)
    task = asyncio.create_task((dispatcher := make(clock, store, {"desk": first})).run())
    dispatcher.submit([call])
    async with asyncio.timeout(30):
        while store.refusals == 10_000:
            await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    store.refusals = 0
    second = Scripted(delivered)
    again = make(clock, store, {"desk": second})
    async with running(again):
        again.resume([call], store.rows)
        await again.drain()
    assert [call_id for call_id, _ in first.got] == [call_id for call_id, _ in second.got] == [call.call_id]
    assert len(store.rows) == 1


async def test_nothing_is_sent_while_attempts_cannot_be_recorded(clock: HandClock, store: MemoryStore) -> None:
    store.refusals = 1_000_000
    desk = Scripted(delivered)
    dispatcher = make(clock, store, {"desk": desk}, Limits(at_once=2, unrecorded=10, linger_s=0))
    async with running(dispatcher):
        dispatcher.submit([make_call(f"c{number}") for number in range(100)])
        async with asyncio.timeout(30):
            while len(desk.got) < 10:
                await asyncio.sleep(0)
        for _ in range(100):
            await asyncio.sleep(0)
        assert len(desk.got) <= 11
        store.refusals = 0
        async with asyncio.timeout(30):
            await dispatcher.drain()
    assert len(store.rows) == 100


async def test_a_fault_in_a_sender_is_a_failure_and_stops_nothing(
    clock: HandClock, store: MemoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    address = "https://hooks.example/" + "-".join(["secret", "token"])

    def fault(_call: Call, _now_us: int) -> Answer:
        raise RuntimeError(address)

    dispatcher = make(clock, store, {"desk": Scripted(fault), "other": Scripted(delivered)})
    async with running(dispatcher):
        dispatcher.submit([make_call("a"), make_call("a", "other")])
        await dispatcher.drain()
    assert {row.receiver: row.outcome for row in store.rows} == {"desk": Outcome.FAILED, "other": Outcome.DELIVERED}
    assert "RuntimeError" in caplog.text
    assert "secret-token" not in caplog.text + "".join(row.detail for row in store.rows)


async def test_a_call_to_a_receiver_that_is_not_there_is_a_dead_letter(clock: HandClock, store: MemoryStore) -> None:
    dispatcher = make(clock, store, {"desk": Scripted(delivered)})
    call = make_call("a", "nobody")
    async with running(dispatcher):
        dispatcher.submit([call])
        await dispatcher.drain()
    assert store.ends(Outcome.DEAD) == [call.call_id]
    assert "nobody" in store.rows[0].detail


async def test_calls_that_wait_a_week_behind_an_open_circuit_are_given_up(clock: HandClock, store: MemoryStore) -> None:
    dispatcher = make(clock, store, {"desk": Scripted(failing)}, Limits(at_once=1, linger_s=0))
    calls = [make_call(f"c{number}") for number in range(7)]
    async with running(dispatcher):
        dispatcher.submit(calls)
        await dispatcher.drain()
        assert dispatcher.waiting() == {"desk": 7}
        clock.move_to(START_US + 7 * DAY_US + 1)
        await dispatcher.drain()
        assert len(store.rows) == 5 + 1 + 6
        assert calls[5].call_id not in store.ends(Outcome.DEAD)  # the probe
        assert dispatcher.waiting() == {"desk": 1}
    assert "7 days" in store.of(calls[6].call_id)[0].detail
