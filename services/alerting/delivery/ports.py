"""What the dispatcher needs from outside: time, a place for attempts, a way to each receiver, one who counts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from services.alerting.alert import Attempt, Call, Outcome
from services.alerting.delivery.circuit import Mode
from services.alerting.delivery.retry import Answer


class Clock(Protocol):
    def now_us(self) -> int:
        """Integer UTC microseconds."""
        ...

    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The machine's own."""

    def now_us(self) -> int:
        return time.time_ns() // 1_000

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


@dataclass(frozen=True, slots=True)
class Stored:
    """A call as the tables know it."""

    call: Call
    attempts: Sequence[Attempt]
    """By number."""


class Store(Protocol):
    """Tables ``alert_calls`` and ``alert_attempts``. Any exception counts as passing: the same is asked for again."""

    async def record(self, attempts: Sequence[Attempt]) -> None:
        """Write attempts, all or none. Asked again after an error, with the identical sequence."""
        ...

    async def find(self, call_ids: Sequence[str]) -> Sequence[Stored]:
        """Those of the calls that are stored, with their attempts, in any order."""
        ...


class Sender(Protocol):
    """The way to one receiver."""

    async def send(self, call: Call, now_us: int) -> Answer:
        """Try once; bounded in time. What goes wrong outside is an answer, never an exception."""
        ...

    async def close(self) -> None:
        """Give back connections and threads."""
        ...


class Observer(Protocol):
    """Counts. Called from the event loop: must not block."""

    def attempted(self, receiver: str, outcome: Outcome, took_us: int) -> None: ...

    def first_attempt(self, receiver: str, waited_us: int) -> None:
        """A call's first attempt began this long after it was made or its quiet hours ended."""
        ...

    def queued(self, receiver: str, calls: int) -> None:
        """Calls that wait for this receiver, in whatever way."""
        ...

    def circuit(self, receiver: str, mode: Mode) -> None: ...

    def unrecorded(self, attempts: int) -> None:
        """Attempts made whose rows are not written yet."""
        ...


class Unobserved:
    """Counts nothing."""

    def attempted(self, receiver: str, outcome: Outcome, took_us: int) -> None: ...

    def first_attempt(self, receiver: str, waited_us: int) -> None: ...

    def queued(self, receiver: str, calls: int) -> None: ...

    def circuit(self, receiver: str, mode: Mode) -> None: ...

    def unrecorded(self, attempts: int) -> None: ...
