"""How far a worker is behind, per partition: records, and the age of the oldest that is not acknowledged. Pure."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

__all__ = ["Lag", "LagWatch"]

P = TypeVar("P", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Lag:
    """``records`` up to the end of the log; ``oldest_s`` since the first of them was received, 0 without any."""

    records: int
    oldest_s: float


@dataclass(slots=True)
class LagWatch(Generic[P]):
    """Told again and again what is seen; remembers since when records wait that have not been fetched yet."""

    _waiting_since_s: dict[P, tuple[int, float]] = field(default_factory=dict)

    def observe(
        self,
        monotonic_s: float,
        utc_ms: int,
        positions: Mapping[P, int],
        ends: Mapping[P, int],
        oldest_ms: Mapping[P, int],
    ) -> dict[P, Lag]:
        """The lag of each partition in ``positions``.

        ``oldest_ms``: Kafka's timestamp of the oldest record in hand that is not acknowledged. Where there is none,
        what waits is at least as old as the time for which the position was seen standing before records.
        """
        lags: dict[P, Lag] = {}
        waiting: dict[P, tuple[int, float]] = {}
        for partition, position in positions.items():
            records = max(0, ends.get(partition, position) - position)
            oldest_s = 0.0
            if records:
                before = self._waiting_since_s.get(partition)
                since_s = before[1] if before is not None and before[0] == position else monotonic_s
                waiting[partition] = (position, since_s)
                oldest_s = monotonic_s - since_s
                if partition in oldest_ms:
                    oldest_s = max(oldest_s, (utc_ms - oldest_ms[partition]) / 1000)
            lags[partition] = Lag(records, oldest_s)
        self._waiting_since_s = waiting
        return lags
