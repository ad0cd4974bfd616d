"""Customers' states in memory: a bounded set of slots, refilled from the table, least recently used first to go.

Memory is a cache and nothing else: a state that is not here is loaded, a slot with unwritten changes stays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import repeat
from typing import Protocol

import numpy as np
import numpy.typing as npt

from schemas.state_layout import CODES, INT_INDEX, NameList
from services.scoring.state import Days, Floats, Ints, Rows, Sets, States, Vocabulary

_PARTITION = INT_INDEX["log_partition"]
_OFFSET = INT_INDEX["log_offset"]


class StoredStates(Protocol):
    """Rows of `customer_state` as the store hands them over, any order, only customers that have one."""

    @property
    def customers(self) -> list[str]: ...
    @property
    def floats(self) -> Floats: ...
    @property
    def ints(self) -> Ints: ...
    @property
    def activity_days(self) -> Days: ...
    @property
    def cases(self) -> Sets: ...
    @property
    def recent_ids(self) -> Sets: ...
    @property
    def touchpoints(self) -> list[str]:
        """Names behind the codes in ``ints``."""
        ...

    @property
    def models(self) -> list[str]: ...


class CacheFullError(RuntimeError):
    """More customers are needed at once than there are slots without unwritten changes."""


class StateCache:
    """At most ``capacity`` customers. Not safe for threads: its owner serialises calls."""

    def __init__(self, capacity: int, touchpoints: Vocabulary, models: Vocabulary) -> None:
        if capacity < 1:
            raise ValueError("capacity must be at least 1")
        self.states = States.empty(capacity)
        self.customers: list[str] = [""] * capacity
        self._slot_of: dict[str, int] = {}
        self._used = np.zeros(capacity, dtype=np.int64)
        self._held = np.zeros(capacity, dtype=bool)
        self._free = list(range(capacity - 1, -1, -1))
        self._turn = 0
        self.evicted = 0
        """Customers that had to make room for others so far."""
        self._touchpoints, self._models = touchpoints, models

    def __len__(self) -> int:
        return len(self._slot_of)

    @property
    def capacity(self) -> int:
        """Customers that fit."""
        return len(self.customers)

    def find(self, customers: Sequence[str]) -> Rows:
        """Slot of each customer (repeats are welcome), -1 for those that are not here; marks them used."""
        slot_of = self._slot_of
        slots = np.fromiter(map(slot_of.get, customers, repeat(-1)), dtype=np.intp, count=len(customers))
        self._turn += 1
        self._used[slots[slots >= 0]] = self._turn
        return slots

    def admit(self, missing: Sequence[str], load: Callable[[Sequence[str]], StoredStates], partitions: Ints) -> None:
        """Make room for distinct customers that are not here and fill it: from the store, or empty for new ones.

        ``partitions``: where each of them lives if it is new.

        Raises `CacheFullError` when too many slots are held; what is written makes room.
        """
        if not missing:
            return
        self._make_room(len(missing))
        stored = load(missing)
        slots = np.array([self._free.pop() for _ in missing], dtype=np.intp)
        self.states.put(slots, States.empty(len(slots)))
        self.states.ints[slots, _PARTITION] = partitions
        for customer, slot in zip(missing, slots.tolist(), strict=True):
            self._slot_of[customer] = slot
            self.customers[slot] = customer
            self._used[slot] = self._turn
        if stored.customers:
            places = np.array([self._slot_of[customer] for customer in stored.customers], dtype=np.intp)
            self.states.put(
                places,
                States(
                    stored.floats,
                    self._own_codes(stored),
                    stored.activity_days,
                    stored.cases,
                    stored.recent_ids,
                ),
            )

    def _own_codes(self, stored: StoredStates) -> Ints:
        ints = stored.ints.copy()
        translate = {
            NameList.TOUCHPOINTS: self._touchpoints.codes(stored.touchpoints),
            NameList.MODELS: self._models.codes(stored.models),
        }
        for name, names in CODES.items():
            if names in translate:
                ints[:, INT_INDEX[name]] = translate[names][ints[:, INT_INDEX[name]]]
        return ints

    def hold(self, slots: Rows) -> None:
        """These have unwritten changes and must stay."""
        self._held[slots] = True

    def hold_more(self, slots: Rows) -> Rows:
        """Hold those that are not held already, and return them."""
        loose = slots[~self._held[slots]]
        self._held[loose] = True
        return np.asarray(loose)

    def release(self, slots: Rows) -> None:
        """These are written."""
        self._held[slots] = False

    def forget_all(self) -> None:
        """Drop everything, held or not: somebody else may change these customers now."""
        for slot in self._slot_of.values():
            self._free.append(slot)
        self._slot_of.clear()
        self._held[:] = False

    def partition_of(self, slots: Rows) -> Ints:
        """The partition each customer lives in."""
        return np.asarray(self.states.ints[slots, _PARTITION])

    def offset_of(self, slots: Rows) -> Ints:
        """Offset of the last event folded into each; -1 for none."""
        return np.asarray(self.states.ints[slots, _OFFSET])

    def _make_room(self, wanted: int) -> None:
        lacking = wanted - len(self._free)
        if lacking <= 0:
            return
        slots = np.fromiter(self._slot_of.values(), dtype=np.intp, count=len(self._slot_of))
        loose: npt.NDArray[np.intp] = slots[~self._held[slots]]
        if len(loose) < lacking:
            raise CacheFullError(
                f"{wanted} customers are needed and only {len(self._free) + len(loose)} of {self.capacity} slots can "
                "be used; raise TOUCHSTONE_SCORING_CACHE_CUSTOMERS"
            )
        # A tenth more than needed, so that the next batches need not look for room again.
        number = min(len(loose), max(lacking, self.capacity // 10))
        oldest = loose[np.argpartition(self._used[loose], number - 1)[:number]]
        self.evicted += number
        for slot in oldest.tolist():
            del self._slot_of[self.customers[slot]]
            self.customers[slot] = ""
            self._free.append(slot)
