"""The rule by which a worker calls itself stuck. Pure: told what is seen and when.

A Kafka consumer can stop consuming for hours without dying, and its own idea of the log's end is as old as
its last fetch. So the rule compares positions acknowledged with ends asked of the broker.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

__all__ = ["Observation", "ProgressRule"]

P = TypeVar("P", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Observation(Generic[P]):
    """Per assigned partition: how far all is acknowledged, and the end of the log by the broker.

    `ends` is None when it could not be learned, or a rebalance was under way. `excused`: the worker
    waits for something whose restart would not help (a store that is down) and says so itself.
    """

    positions: Mapping[P, int]
    ends: Mapping[P, int] | None
    excused: bool = False


@dataclass(slots=True)
class ProgressRule(Generic[P]):
    """Calls a worker stuck after `stall_s` without progress on a partition where records wait, or after
    `blind_s` in which the ends could not be learned. All in seconds.

    An interval between two observations counts `max_step_s` at most: a process that was paused, or a
    machine that slept, must not be taken for stuck when it wakes.
    """

    stall_s: float = 30.0
    blind_s: float = 120.0
    max_step_s: float = 10.0
    _last_s: float | None = None
    _blind_for_s: float = 0.0
    _seen: dict[P, int] = field(default_factory=dict)
    _still_for_s: dict[P, float] = field(default_factory=dict)

    @property
    def still_for_s(self) -> float:
        """For how long the stillest partition with records waiting has stood."""
        return max(self._still_for_s.values(), default=0.0)

    @property
    def blind_for_s(self) -> float:
        """For how long the ends have not been learned."""
        return self._blind_for_s

    def observe(self, now_s: float, seen: Observation[P]) -> str | None:
        """The reason to give up, or None. `now_s` is a monotonic clock."""
        step_s = 0.0 if self._last_s is None else min(max(now_s - self._last_s, 0.0), self.max_step_s)
        self._last_s = now_s
        if seen.excused:
            self._blind_for_s = 0.0
            self._seen, self._still_for_s = {}, {}
            return None
        if seen.ends is None:
            self._blind_for_s += step_s
            if self._blind_for_s >= self.blind_s:
                return f"the ends of the log could not be learned for {self._blind_for_s:.0f} s"
            return None
        self._blind_for_s = 0.0
        still_for_s: dict[P, float] = {}
        for partition, position in seen.positions.items():
            lag = seen.ends.get(partition, position) - position
            if lag > 0 and self._seen.get(partition) == position:
                still_for_s[partition] = self._still_for_s.get(partition, 0.0) + step_s
        self._seen = dict(seen.positions)
        self._still_for_s = still_for_s
        for partition, still_s in still_for_s.items():
            if still_s >= self.stall_s:
                position = seen.positions[partition]
                return (
                    f"{partition}: no progress for {still_s:.0f} s at position {position}, "
                    f"{seen.ends[partition] - position} records behind the end"
                )
        return None
