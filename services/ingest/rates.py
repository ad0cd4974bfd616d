"""How many events may come in: token buckets, one per sender and one for all. Pure: the time is an argument.

A bucket holds up to a burst of events and fills at a rate; a request takes as many as it brings, or none at all. So
within any t seconds never more than rate x t + burst events pass. Counted in whole billionths of an event against
nanoseconds, which makes the sums exact: who waits as long as told finds room.

Our own, because none of the libraries fits what a request may cost here (two checks in a few us): `limits` takes 7 to
13 us a check, 127 for a batch of 500 in its exact strategy, and its cheap one lets twice the rate through where two
windows meet; `pyrate-limiter` 15 to 33 us, as it keeps an entry per event; `aiolimiter` 2.5 us, but it waits where an
answer is due, does not say for how long, reads a clock of its own and is a single bucket.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

_UNITS: Final = 1_000_000_000
"""Per event; a rate in events per second is then units per nanosecond."""

MAX_SENDERS: Final = 10_000
"""Buckets kept, some 300 bytes each."""


class Scope(StrEnum):
    """Whose limit it is."""

    KEY = "key"
    OVERALL = "overall"


@dataclass(frozen=True, slots=True)
class Rate:
    """``events_per_s`` and ``burst_events``, both at least 1."""

    events_per_s: int
    burst_events: int

    def __post_init__(self) -> None:
        if self.events_per_s < 1 or self.burst_events < 1:
            raise ValueError(f"a rate needs at least one event a second and a burst of one, not {self}")


@dataclass(frozen=True, slots=True)
class Excess:
    """What did not pass: whose limit, and after how many whole seconds (at least 1) it will."""

    scope: Scope
    rate: Rate
    retry_after_s: int


class _Bucket:
    __slots__ = ("at_ns", "units")

    def __init__(self, units: int, at_ns: int) -> None:
        self.units, self.at_ns = units, at_ns

    def fill(self, rate: Rate, now_ns: int) -> int:
        """Bring it to now and return what it holds. A clock that went back fills nothing."""
        if now_ns > self.at_ns:
            self.units = min(rate.burst_events * _UNITS, self.units + (now_ns - self.at_ns) * rate.events_per_s)
            self.at_ns = now_ns
        return self.units


class Rates:
    """The buckets of one process. ``now_ns`` is any clock in nanoseconds that does not go back."""

    def __init__(self, per_key: Rate | None, overall: Rate | None, *, max_senders: int = MAX_SENDERS) -> None:
        """None: no limit. Beyond ``max_senders`` the sender heard of longest ago is forgotten, which fills its bucket:
        by then it is full anyway, unless thousands of others came in the meantime; ``overall`` holds those.
        """
        self._per_key = per_key
        self._overall = overall
        self._max_senders = max_senders
        self._senders: OrderedDict[Hashable, _Bucket] = OrderedDict()
        self._all: _Bucket | None = None

    @property
    def on(self) -> bool:
        """Something is limited."""
        return self._per_key is not None or self._overall is not None

    def __len__(self) -> int:
        """Senders remembered."""
        return len(self._senders)

    def excess(self, sender: Hashable, events: int, now_ns: int) -> Excess | None:
        """Why so many events of a sender may not pass now; None if they may. Takes nothing.

        More events than a burst never pass: whoever calls must have refused them.
        """
        return _missing(self._buckets(sender, now_ns), events, now_ns)

    def take(self, sender: Hashable, events: int, now_ns: int) -> Excess | None:
        """Let events of a sender pass, or say why not; then nothing is taken."""
        buckets = self._buckets(sender, now_ns)
        found = _missing(buckets, events, now_ns)
        if found is None:
            for _, bucket, _ in buckets:
                bucket.units -= events * _UNITS
        return found

    def _buckets(self, sender: Hashable, now_ns: int) -> list[tuple[Rate, _Bucket, Scope]]:
        found: list[tuple[Rate, _Bucket, Scope]] = []
        if self._per_key is not None:
            bucket = self._senders.get(sender)
            if bucket is None:
                bucket = self._senders[sender] = _Bucket(self._per_key.burst_events * _UNITS, now_ns)
                if len(self._senders) > self._max_senders:
                    self._senders.popitem(last=False)
            else:
                self._senders.move_to_end(sender)
            found.append((self._per_key, bucket, Scope.KEY))
        if self._overall is not None:
            if self._all is None:
                self._all = _Bucket(self._overall.burst_events * _UNITS, now_ns)
            found.append((self._overall, self._all, Scope.OVERALL))
        return found


def _missing(buckets: list[tuple[Rate, _Bucket, Scope]], events: int, now_ns: int) -> Excess | None:
    """The first limit that does not let them pass, and when the slowest will."""
    found: Excess | None = None
    for rate, bucket, scope in buckets:
        missing = events * _UNITS - bucket.fill(rate, now_ns)
        if missing > 0:
            wait_s = max(1, -(-missing // (rate.events_per_s * 1_000_000_000)))
            if found is None:
                found = Excess(scope, rate, wait_s)
            elif wait_s > found.retry_after_s:
                found = Excess(found.scope, found.rate, wait_s)
    return found
