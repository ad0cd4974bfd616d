"""Attempts on their way into their table, in batches. What follows from an attempt happens once it is written."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from services.alerting.alert import Attempt
from services.alerting.delivery.ports import Observer, Store

_log: Final = logging.getLogger(__name__)

MOST_ROWS: Final = 1_000
"""In one write."""
FIRST_PAUSE_S: Final = 0.5
MOST_PAUSE_S: Final = 30.0


class Recorder:
    """Writes what is added, in order; an unwritten batch is tried again, identical, until it is written."""

    def __init__(self, store: Store, observer: Observer, *, most_unrecorded: int, linger_s: float) -> None:
        self._store = store
        self._observer = observer
        self._most_unrecorded = most_unrecorded
        self._linger_s = linger_s
        self._rows: list[tuple[Attempt, Callable[[], None]]] = []
        self._added = asyncio.Event()
        self._written = asyncio.Event()
        self._closing = asyncio.Event()
        self._stopping = False

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def full(self) -> bool:
        """No further call may start: a crash now would repeat this many."""
        return len(self._rows) >= self._most_unrecorded

    async def room(self) -> None:
        """Wait until there is room, or until no more will be started anyway."""
        while self.full and not self._stopping:
            self._written.clear()
            await self._written.wait()

    def add(self, attempt: Attempt, then: Callable[[], None]) -> None:
        """Write it some time soon, and then do ``then``, which must neither block nor fail."""
        self._rows.append((attempt, then))
        self._observer.unrecorded(len(self._rows))
        self._added.set()

    def release(self) -> None:
        """Let go who waits for room: nothing more is started."""
        self._stopping = True
        self._written.set()

    def close(self) -> None:
        """What has been added is still written; an error from now on ends it."""
        self._closing.set()
        self._added.set()

    async def run(self) -> None:
        """Until `close`."""
        while True:
            await self._added.wait()
            self._added.clear()
            if not self._closing.is_set() and self._linger_s:
                await _either(self._closing, self._linger_s)
            while self._rows:
                if not await self._write(self._rows[:MOST_ROWS]):
                    _log.error("%d attempts are not recorded: their calls are repeated at the next start", len(self))
                    return
            if self._closing.is_set():
                return

    async def _write(self, batch: list[tuple[Attempt, Callable[[], None]]]) -> bool:
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                await self._store.record([attempt for attempt, _ in batch])
                break
            except Exception as error:
                _log.warning("%d attempts cannot be recorded yet: %s", len(batch), error)
                if self._closing.is_set():
                    return False
                await _either(self._closing, pause_s)
                pause_s = min(2 * pause_s, MOST_PAUSE_S)
        del self._rows[: len(batch)]
        self._observer.unrecorded(len(self._rows))
        for _, then in batch:
            then()
        self._written.set()
        return True


async def _either(event: asyncio.Event, seconds: float) -> None:
    """Wait for the event, or for that long."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
