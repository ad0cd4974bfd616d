"""A clock that is moved by hand, a store in memory, a sender that answers by the book, and calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from services.alerting.alert import Attempt, Call, Outcome, Turn, stable_id
from services.alerting.delivery.dispatcher import Dispatcher
from services.alerting.delivery.ports import Stored
from services.alerting.delivery.retry import Answer, Verdict
from services.alerting.document import Document

START_US = 1_790_000_000_000_000


class HandClock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self._now_us = START_US
        self._sleepers: list[tuple[int, asyncio.Future[None]]] = []

    def now_us(self) -> int:
        return self._now_us

    async def sleep(self, seconds: float) -> None:
        woken = asyncio.get_running_loop().create_future()
        self._sleepers.append((self._now_us + round(seconds * 1e6), woken))
        await woken

    def move_to(self, now_us: int) -> None:
        self._now_us = max(self._now_us, now_us)
        for _, woken in self._sleepers:
            if not woken.done():
                woken.set_result(None)
        self._sleepers.clear()


class MemoryStore:
    """Tables as lists; refuses as often as it is told to."""

    def __init__(self, calls: Sequence[Call] = ()) -> None:
        self.calls = {call.call_id: call for call in calls}
        self.rows: list[Attempt] = []
        self.refusals = 0
        self.asked: list[list[str]] = []

    async def record(self, attempts: Sequence[Attempt]) -> None:
        if self.refusals:
            self.refusals -= 1
            raise ConnectionError("not now")
        self.rows.extend(attempts)

    async def find(self, call_ids: Sequence[str]) -> Sequence[Stored]:
        self.asked.append(list(call_ids))
        return [
            Stored(self.calls[call_id], [row for row in self.rows if row.call_id == call_id])
            for call_id in call_ids
            if call_id in self.calls
        ]

    def ends(self, outcome: Outcome) -> list[str]:
        return [row.call_id for row in self.rows if row.outcome is outcome]

    def of(self, call_id: str) -> list[Attempt]:
        return [row for row in self.rows if row.call_id == call_id]


class Scripted:
    """A receiver: notes what it gets, and answers what `answer` says."""

    def __init__(self, answer: Callable[[Call, int], Answer | Awaitable[Answer]]) -> None:
        self.got: list[tuple[str, int]] = []
        self._answer = answer
        self.closed = False

    async def send(self, call: Call, now_us: int) -> Answer:
        self.got.append((call.call_id, now_us))
        answer = self._answer(call, now_us)
        return answer if isinstance(answer, Answer) else await answer

    async def close(self) -> None:
        self.closed = True


def delivered(_call: Call, _now_us: int) -> Answer:
    return Answer(Verdict.DELIVERED, 200)


def failing(_call: Call, _now_us: int) -> Answer:
    return Answer(Verdict.RETRY, 500, "HTTP 500")


def make_call(
    name: str, receiver: str = "desk", *, about: str = "", severity: str = "warning", not_before_us: int = 0
) -> Call:
    turn = Turn.RESOLVED if about else Turn.FIRING
    call_id = stable_id("call", name, receiver)
    document = Document(
        call_id=call_id,
        about=about,
        status=turn.value,
        rule="leaving",
        severity="warning",
        owner="retention",
        summary="one customer is leaving",
        made_at="2026-09-21T14:13:20Z",
        alerts_total=0,
        value_at_risk_total=0.0,
        alerts=(),
    )
    return Call(
        call_id=call_id,
        turn=turn,
        about=about,
        rule="leaving",
        severity=severity,
        receiver=receiver,
        made_us=START_US,
        not_before_us=not_before_us,
        alert_ids=(stable_id(name),),
        document=document.model_dump_json(),
    )


@asynccontextmanager
async def running(dispatcher: Dispatcher) -> AsyncIterator[None]:
    task = asyncio.create_task(dispatcher.run())
    try:
        yield
    finally:
        dispatcher.stop()
        async with asyncio.timeout(30):
            await task


async def run_until(dispatcher: Dispatcher, clock: HandClock, until_us: int) -> None:
    """Move the clock from one due time to the next."""
    while True:
        async with asyncio.timeout(30):
            await dispatcher.drain()
        due_us = dispatcher.next_us()
        if due_us is None or due_us > until_us:
            return
        # Whoever has worked out how long to wait must have begun to before the clock moves: some turns of the loop, as
        # the waits of before are ended first.
        for _ in range(40):
            await asyncio.sleep(0)
        clock.move_to(due_us)
