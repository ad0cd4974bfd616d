"""Customers' states side by side in matrices, and names as small codes.

The columns are those of table `customer_state` (`schemas.state_layout`). Rows are customers; nothing here reads a
clock or talks to anything.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from schemas.state_layout import FLOATS, INTS
from schemas.tables import ACTIVITY_DAYS, RECENT_CASES, RECENT_IDS

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Sets = npt.NDArray[np.uint64]
Days = npt.NDArray[np.uint16]
Rows = npt.NDArray[np.intp]


@dataclass(slots=True)
class States:
    """n states: ``floats`` (n, F) and ``ints`` (n, I) in the order of `FLOATS` and `INTS`, and the bounded sets.

    Numbers lie column by column in memory (Fortran order): rules and tables read columns of many customers. The
    bounded sets lie customer by customer.
    """

    floats: Floats
    ints: Ints
    activity_days: Days
    cases: Sets
    recent_ids: Sets

    @classmethod
    def empty(cls, n: int) -> States:
        """n customers of whom nothing is known; `log_offset` is -1."""
        states = cls(
            floats=np.zeros((n, len(FLOATS)), order="F"),
            ints=np.zeros((n, len(INTS)), dtype=np.int64, order="F"),
            activity_days=np.zeros((n, ACTIVITY_DAYS), dtype=np.uint16),
            cases=np.zeros((n, RECENT_CASES), dtype=np.uint64),
            recent_ids=np.zeros((n, RECENT_IDS), dtype=np.uint64),
        )
        states.ints[:, INTS.index("log_offset")] = -1
        return states

    def __len__(self) -> int:
        return len(self.floats)

    def take(self, rows: Rows) -> States:
        """A copy of some rows."""
        return States(
            self.floats.T[:, rows].T,
            self.ints.T[:, rows].T,
            self.activity_days[rows],
            self.cases[rows],
            self.recent_ids[rows],
        )

    def numbers(self, rows: Rows) -> States:
        """What judging reads: as `take`, with cases and recent ids left out (no columns)."""
        none = np.empty((len(rows), 0), dtype=np.uint64)
        return States(self.floats.T[:, rows].T, self.ints.T[:, rows].T, self.activity_days[rows], none, none)

    def put(self, rows: Rows, states: States) -> None:
        """Overwrite rows with ``states``, in order."""
        self.floats.T[:, rows] = states.floats.T
        self.ints.T[:, rows] = states.ints.T
        self.activity_days[rows] = states.activity_days
        self.cases[rows] = states.cases
        self.recent_ids[rows] = states.recent_ids


@dataclass(slots=True)
class Vocabulary:
    """Names as codes: 0 is the empty name, others in the order they were first seen. Codes mean nothing outside."""

    names: list[str] = field(default_factory=lambda: [""])
    hashes: list[int] = field(default_factory=lambda: [0])
    _codes: dict[str, int] = field(default_factory=lambda: {"": 0})

    def codes(self, names: Sequence[str]) -> Ints:
        """The codes of names, new ones added."""
        return np.fromiter((self.code(name) for name in names), dtype=np.int64, count=len(names))

    def code(self, name: str) -> int:
        """The code of one name."""
        code = self._codes.get(name)
        if code is None:
            code = self._codes[name] = len(self.names)
            self.names.append(name)
            # Order of equals must not depend on who was seen first: CRC-32 is the same here and in SQL.
            self.hashes.append(zlib.crc32(name.encode()))
        return code

    def hash_of(self, codes: Ints) -> Ints:
        """CRC-32 of the names behind codes."""
        return np.asarray(self.hashes, dtype=np.int64)[codes]

    def of(self, codes: Iterable[int]) -> list[str]:
        """The names behind codes."""
        return [self.names[code] for code in codes]
