"""Partitions that stand still under a flood: told to people, and read on when an operator says so."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from services.scoring.flood import Stop

_log: Final = logging.getLogger(__name__)

LOOK_EVERY_S: Final = 2.0


class Decisions(Protocol):
    """Where stops are told and releases are read; `infra.kafka.stops.StopRegister` has this shape. Blocking."""

    def announce(self, partition: int, offset: int, *, rejected: int, records: int, released_until: int) -> None:
        """Tell a stop, unless it is told already or was released."""
        ...

    def released_until(self, partition: int) -> int:
        """Below this offset an operator lets everything through; 0 if none did."""
        ...


class Halts:
    """All methods belong to one event loop."""

    def __init__(
        self,
        decisions: Decisions,
        halt: Callable[[int, int], None],
        go_on: Callable[[int, int], Awaitable[None]],
        transient: type[Exception] | tuple[type[Exception], ...],
        look_every_s: float = LOOK_EVERY_S,
    ) -> None:
        """``halt``: do not read a partition from an offset on. ``go_on``: read it again, count nothing below an offset.
        ``transient``: what ``decisions`` raise while they cannot be reached.
        """
        self._decisions = decisions
        self._halt = halt
        self._go_on = go_on
        self._transient = transient
        self._look_every_s = look_every_s
        self._stops: dict[int, Stop] = {}
        self._some = asyncio.Event()

    def __len__(self) -> int:
        """Partitions that stand still."""
        return len(self._stops)

    def stop(self, stop: Stop) -> None:
        """A flood has begun."""
        self._halt(stop.partition, stop.offset)
        self._stops[stop.partition] = stop
        self._some.set()
        _log.error(
            "partition %d stopped at offset %d: %d of %d records in a row were rejected; nothing after it is lost. "
            "Look: touchstone rejected --stage log. Mend the sender, then: touchstone rejected resume %d",
            stop.partition,
            stop.offset,
            stop.rejected,
            stop.records,
            stop.partition,
        )

    def forget_all(self) -> None:
        """The partitions are no longer ours; whoever reads them meets the flood again."""
        self._stops.clear()

    async def run(self) -> None:
        """Announce stops and look for releases, for ever."""
        while True:
            if not self._stops:
                self._some.clear()
                await self._some.wait()
            for stop in list(self._stops.values()):
                try:
                    until = await asyncio.to_thread(self._ask, stop)
                except self._transient as error:
                    _log.warning("whether partition %d may go on cannot be learned: %s", stop.partition, error)
                    continue
                if until > stop.offset and self._stops.get(stop.partition) is stop:
                    del self._stops[stop.partition]
                    _log.warning("partition %d goes on: released up to offset %d", stop.partition, until)
                    await self._go_on(stop.partition, until)
            await asyncio.sleep(self._look_every_s)

    def _ask(self, stop: Stop) -> int:
        until = self._decisions.released_until(stop.partition)
        if until <= stop.offset:
            self._decisions.announce(
                stop.partition,
                stop.offset,
                rejected=stop.rejected,
                records=stop.records,
                released_until=stop.released_until,
            )
        return until
