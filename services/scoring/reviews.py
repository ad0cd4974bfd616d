"""Time as an event: a review for each customer whose risk band is another by now, in silence.

The tables say who (the same formulas, evaluated as of now); a review is an event in the log like any other, so a replay
gives the same bands at the same offsets. Its id is made from the customer and the state it was due for: two timers
that see the same state make the same event, and the second one is dropped as a repeat.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from schemas.review import encode_review

_log: Final = logging.getLogger(__name__)

MOST_AT_ONCE: Final = 20_000
"""Reviews in one round: after a long silence the rest comes in the next."""
SHARE_OF_TIME: Final = 0.1
"""The look may take this share of the time at most; a large table is looked at less often."""
_REMEMBERED: Final = 1_000_000


class Crossings(Protocol):
    """Customers of some partitions whose band as of now differs: (customer_id, log_partition, log_offset). Blocking."""

    def __call__(self, partitions: Sequence[int], limit: int) -> Sequence[tuple[str, int, int]]: ...


class Publish(Protocol):
    """Append records to topic ``touchpoints``, keyed by customer. Blocking."""

    def __call__(self, customers: Sequence[str], values: Sequence[bytes], timestamp_ms: int) -> None: ...


class Reviews:
    """The timer of one worker, for the partitions it owns."""

    def __init__(
        self,
        crossings: Crossings,
        publish: Publish,
        partitions: Callable[[], frozenset[int]],
        busy: Callable[[], bool],
        now_us: Callable[[], int],
        interval_s: float,
        transient: tuple[type[Exception], ...],
    ) -> None:
        self._crossings = crossings
        self._publish = publish
        self._partitions = partitions
        self._busy = busy
        self._now_us = now_us
        self._interval_s = interval_s
        self._transient = transient
        self._asked: dict[str, int] = {}
        self.appended = 0
        """Reviews put into the log so far."""

    async def run(self) -> None:
        """Look and append, for ever. Errors that may pass are logged and waited out."""
        while True:
            started = time.monotonic()
            try:
                await asyncio.to_thread(self.once)
            except self._transient as error:
                _log.warning("no reviews this time: %s", error)
            took_s = time.monotonic() - started
            await asyncio.sleep(max(self._interval_s, took_s / SHARE_OF_TIME))

    def once(self) -> int:
        """One round; returns how many reviews were appended."""
        partitions = sorted(self._partitions())
        # Behind a backlog the tables show the past: the events that wait judge these customers themselves.
        if not partitions or self._busy():
            return 0
        due = [
            (customer, partition, offset)
            for customer, partition, offset in self._crossings(partitions, MOST_AT_ONCE)
            if self._asked.get(customer) != offset
        ]
        if not due:
            return 0
        now_us = self._now_us()
        values = [encode_review(customer, partition, offset, now_us) for customer, partition, offset in due]
        self._publish([customer for customer, _, _ in due], values, now_us // 1000)
        if len(self._asked) > _REMEMBERED:
            self._asked.clear()
        self._asked.update((customer, offset) for customer, _, offset in due)
        self.appended += len(due)
        return len(due)
