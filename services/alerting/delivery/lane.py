"""The queue of one receiver: what is due first, the gravest before the others. No I/O."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from services.alerting.alert import Attempt, Call, Outcome
from services.alerting.delivery.circuit import Circuit, Mode

_GRAVEST_FIRST: Final = {"critical": 0, "error": 1, "warning": 2, "info": 3}


@dataclass(slots=True)
class Pending:
    """A call that is still to be delivered."""

    call: Call
    number: int = 0
    """Of the last attempt."""
    ended: int = 0
    """Of the last attempt that ended it before it was sent again by hand: the schedule begins anew there."""
    wanted_us: int = 0
    """When it was first to be tried."""
    taken_us: int = 0
    """When this process took it."""


@dataclass(slots=True)
class Lane:
    """Calls of one receiver, its circuit, and how many are under way."""

    receiver: str
    most_at_once: int
    circuit: Circuit = field(default_factory=Circuit)
    sending: int = 0
    recording: int = 0
    """Sent, and to be scheduled again or ended once the attempt is recorded."""
    _later: list[tuple[int, int, Pending]] = field(default_factory=list)
    _ready: list[tuple[int, int, Pending]] = field(default_factory=list)
    _counter: int = 0

    def __len__(self) -> int:
        return len(self._later) + len(self._ready) + self.sending + self.recording

    def put(self, pending: Pending, due_us: int) -> None:
        self._counter += 1
        heapq.heappush(self._later, (due_us, self._counter, pending))

    def starts_us(self, now_us: int) -> int | None:
        """When the next call can start; at or before now: at once; None: not before something changes."""
        while self._later and self._later[0][0] <= now_us:
            _, counter, pending = heapq.heappop(self._later)
            heapq.heappush(self._ready, (_GRAVEST_FIRST.get(pending.call.severity, 3), counter, pending))
        admits_us = self.circuit.admits_from_us()
        if admits_us is None or self.sending >= self.most_at_once or not (self._ready or self._later):
            return None
        due_us = 0 if self._ready else self._later[0][0]
        return max(due_us, admits_us)

    def take(self) -> Pending:
        """The next of those that are due."""
        pending = heapq.heappop(self._ready)[2]
        self.sending += 1
        self.circuit = self.circuit.started()
        return pending

    def take_all(self) -> list[Pending]:
        """Every call in the queue; those under way are not in it."""
        everything = [entry[2] for entry in (*self._ready, *sorted(self._later, key=lambda entry: entry[:2]))]
        self._ready.clear()
        self._later.clear()
        return everything

    def take_older(self, before_us: int) -> list[Pending]:
        """Calls that could go and were taken before then."""
        older = [entry[2] for entry in self._ready if entry[2].taken_us < before_us]
        if older:
            self._ready = [entry for entry in self._ready if entry[2].taken_us >= before_us]
            heapq.heapify(self._ready)
        return older

    def hasten(self, wanted: Pending, now_us: int) -> bool:
        """Make a call in the queue due now; False: it is under way, or not here."""
        for index, (due_us, counter, pending) in enumerate(self._later):
            if pending is wanted:
                self._later[index] = (min(due_us, now_us), counter, pending)
                heapq.heapify(self._later)
                return True
        return any(pending is wanted for _, _, pending in self._ready)

    @property
    def disabled(self) -> bool:
        return self.circuit.mode is Mode.DISABLED


def pending_of(call: Call, attempts: Sequence[Attempt]) -> Pending:
    """Where a stored call stands, by its attempts in order of number."""
    ended = max((attempt.number for attempt in attempts if attempt.outcome is not Outcome.FAILED), default=0)
    number = attempts[-1].number if attempts else 0
    return Pending(call, number=number, ended=ended, wanted_us=max(call.made_us, call.not_before_us))
