"""Whatever receivers, the store and crashes do: every call ends once, is told as one thing, and in its order."""

from __future__ import annotations

import asyncio
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from services.alerting.alert import Call, Outcome, Turn
from services.alerting.delivery.dispatcher import Dispatcher
from services.alerting.delivery.limits import Limits
from services.alerting.delivery.retry import Answer, Verdict
from tests.unit.alerting.delivery.world import START_US, HandClock, MemoryStore, Scripted, make_call, run_until

DAY_US = 86_400_000_000
MOST_CRASHES = 5


async def play(seed: int) -> tuple[list[Call], MemoryStore, list[tuple[str, int]]]:
    chance = random.Random(seed)
    clock = HandClock()
    calls: list[Call] = []
    for number in range(chance.randrange(1, 25)):
        receiver = chance.choice(("desk", "pager"))
        firing = make_call(f"c{number}", receiver, not_before_us=chance.choice((0, 0, START_US + 3_600_000_000)))
        calls.append(firing)
        if chance.random() < 0.5:
            calls.append(make_call(f"r{number}", receiver, about=firing.call_id))
    chance.shuffle(calls)
    store = MemoryStore(calls)
    got: list[tuple[str, int]] = []

    async def answer(_call: Call, _now_us: int) -> Answer:
        for _ in range(chance.randrange(3)):
            await asyncio.sleep(0)
        weights = (6, 5, 2, 1, 0.2)
        verdict = chance.choices(list(Verdict), weights)[0]
        return Answer(verdict, 1, "", chance.choice((None, 5.0, 7_200.0)) if verdict is Verdict.SLOW_DOWN else None)

    for crash in range(MOST_CRASHES + 1):
        senders = {name: Scripted(answer) for name in ("desk", "pager")}
        dispatcher = Dispatcher(
            senders, store, clock=clock, draw=chance.random, limits=Limits(at_once=3, unrecorded=5, linger_s=0)
        )
        task = asyncio.create_task(dispatcher.run())
        dispatcher.resume(calls, store.rows)
        if crash < MOST_CRASHES:
            for _ in range(chance.randrange(60)):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            clock.move_to(clock.now_us() + chance.randrange(7_200_000_000))
        else:
            await run_until(dispatcher, clock, START_US + 60 * DAY_US)
            dispatcher.stop()
            await task
        for sender in senders.values():
            got.extend(sender.got)
    return calls, store, got


@settings(max_examples=40)
@given(st.integers(0, 2**32))
def test_every_call_ends_once_and_in_order(seed: int) -> None:
    calls, store, got = asyncio.run(play(seed))
    delivered = {row.call_id: place for place, row in enumerate(store.rows) if row.outcome is Outcome.DELIVERED}
    sent = {call_id for call_id, _ in got}
    for call in calls:
        rows = store.of(call.call_id)
        assert [row.number for row in rows] == list(range(1, len(rows) + 1))
        assert [row.outcome is Outcome.FAILED for row in rows] == [True] * (len(rows) - 1) + [False]
        # An attempt whose row a crash took with it was made all the same.
        tries = sum(call_id == call.call_id for call_id, _ in got)
        assert tries >= sum(row.status == 1 for row in rows)
        if call.turn is Turn.RESOLVED and call.call_id in delivered:
            assert delivered[call.about] < delivered[call.call_id]
        if call.turn is Turn.RESOLVED and call.about not in delivered:
            assert call.call_id not in sent
    assert all(now_us >= call.not_before_us for call in calls for call_id, now_us in got if call_id == call.call_id)
