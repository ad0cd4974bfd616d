"""A fresh fold of one partition's log for some of its customers, from offset 0, by the stream's own core.

It knows repeats by a memory of its own, so it needs no table: what the tables hold cannot mislead it. Memory is bounded
by the share of customers; one that turns out too large says so, and its halves are folded one after the other.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, cast

import numpy as np
import polars as pl

from schemas.activation import KIND, Activation
from schemas.decode import COLUMNS, decode
from services.scoring.cache import CacheFullError, StateCache
from services.scoring.core import Core, Effects
from services.scoring.ports import StateRows, Tables
from services.scoring.readings import ReadingTable
from services.scoring.risk.model import RiskModel
from services.scoring.state import Ints, Rows, States
from services.scoring.step import Scorer

MOST_CUSTOMERS: Final = 50_000
"""States of one share: about 2 kB each while they are folded and compared."""
MOST_EVENTS: Final = 4_000_000
"""Events whose ids one share remembers: 28 bytes each."""
_FINEST: Final = 1 << 20
_NOT_WANTED: Final = -1


class ShareTooLargeError(RuntimeError):
    """More customers or events than one share may hold."""


@dataclass(frozen=True, slots=True)
class Share:
    """The customers whose CRC-32 leaves ``remainder`` when divided by ``modulus``. SQL has the same function."""

    modulus: int = 1
    remainder: int = 0

    def has(self, customer: str) -> bool:
        return zlib.crc32(customer.encode()) % self.modulus == self.remainder

    def sql(self) -> str:
        """The same as a condition."""
        return "1" if self.modulus == 1 else f"CRC32(customer_id) % {self.modulus} = {self.remainder}"

    def halves(self) -> tuple[Share, Share]:
        """Two shares that make up this one. ShareTooLargeError when there is no dividing any more."""
        if self.modulus >= _FINEST:
            raise ShareTooLargeError("a single customer has more events than fit into memory")
        return Share(2 * self.modulus, self.remainder), Share(2 * self.modulus, self.remainder + self.modulus)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Whose events are folded, and up to which offset of the partition, itself included.

    ``upto``: by customer. ``others_upto``: of all others in ``share``; None leaves them out.
    """

    upto: Mapping[str, int]
    others_upto: int | None = None
    share: Share = field(default_factory=Share)

    def of(self, customers: Sequence[str]) -> Ints:
        """The last offset wanted of each, -1 for none."""
        get = self.upto.get
        found = np.fromiter((get(name, -2) for name in customers), dtype=np.int64, count=len(customers))
        unknown = np.flatnonzero(found == -2)
        if unknown.size:
            others = _NOT_WANTED if self.others_upto is None else self.others_upto
            has = self.share.has
            found[unknown] = [others if has(customers[place]) else _NOT_WANTED for place in unknown.tolist()]
        return found


class _Memory:
    """Every event that was new, by customer and id."""

    def __init__(self) -> None:
        self.cache: StateCache | None = None
        self.events = 0
        self._parts: list[pl.DataFrame] = []

    def remember(self, slots: Rows, event_ids: pl.Series, offsets: pl.Series) -> None:
        """Keep new events of customers in ``slots``."""
        self._parts.append(_keyed(slots, event_ids.to_list()).with_columns(offsets.alias("log_offset")))
        self.events += len(offsets)

    def load_states(self, _customers: Sequence[str]) -> StateRows:
        """Nobody has a state before offset 0."""
        none = States.empty(0)
        return StateRows([], none.floats, none.ints, none.activity_days, none.cases, none.recent_ids, [""], [""])

    def load_activations(self, _partition: int, _before: int) -> Sequence[Activation]:
        """None before offset 0."""
        return ()

    def find_earlier(self, keys: Sequence[tuple[str, bytes]]) -> pl.DataFrame:
        """`ports.Tables.find_earlier` without contents: whether a repeat says something else is not asked here."""
        assert self.cache is not None
        asked = _keyed(self.cache.find([customer for customer, _ in keys]), [event_id for _, event_id in keys])
        asked = asked.with_columns(
            pl.Series("customer_id", [customer for customer, _ in keys], dtype=pl.String),
            pl.Series("event_id", [event_id for _, event_id in keys], dtype=pl.Binary),
        )
        if self._parts:
            known = pl.concat(self._parts).join(asked, on=("slot", "low", "high"), how="inner")
        else:
            known = asked.clear().with_columns(pl.lit(0, pl.Int64).alias("log_offset"))
        contents = [
            pl.lit(None).cast(dtype).alias(name) for name, dtype in COLUMNS.items() if name not in known.columns
        ]
        return known.with_columns(pl.lit(0, pl.UInt16).alias("log_partition"), *contents).select(
            *COLUMNS, "log_partition", "log_offset"
        )


def _keyed(slots: Rows, event_ids: Sequence[bytes]) -> pl.DataFrame:
    words = np.frombuffer(b"".join(event_ids), dtype="<u8").reshape(-1, 2)
    return pl.DataFrame(
        {
            "slot": slots.astype(np.uint32),
            "low": np.ascontiguousarray(words[:, 0]),
            "high": np.ascontiguousarray(words[:, 1]),
        }
    )


class Refold:
    """Folds the records of one partition, given in order; then has the states."""

    def __init__(
        self,
        partition: int,
        wanted: Wanted,
        model: RiskModel,
        readings: ReadingTable,
        new_marker: Callable[[], bytes],
        *,
        most_customers: int = MOST_CUSTOMERS,
        most_events: int = MOST_EVENTS,
    ) -> None:
        """``new_marker``: random bytes for `schemas.decode.decode`, new at each call."""
        self._partition = partition
        self._wanted = wanted
        self._new_marker = new_marker
        self._most_events = most_events
        self._memory = _Memory()
        scorer = Scorer.of(model)
        # Twice as many as were meant to come: some are in the log alone. Room that nobody takes costs little.
        cache = StateCache(max(1, 2 * most_customers), scorer.touchpoints, scorer.models)
        self._memory.cache = cache
        # The core looks up and never writes: these three questions are all it asks of tables.
        tables = cast("Tables", self._memory)
        self._core = Core(cache, scorer, readings, tables, new_marker)

    def take(self, offsets: Ints, values: Sequence[bytes | None], timestamps_ms: Sequence[int]) -> None:
        """Fold what is wanted of records that follow those taken before, and all activations of risk models, which are
        nobody's. ShareTooLargeError when they are too many."""
        decoded = decode(values, self._new_marker())
        rows = decoded.rows.to_numpy().astype(np.intp)
        upto = self._wanted.of(decoded.frame.get_column("customer_id").to_list())
        activations = (decoded.frame.get_column("kind") == KIND).to_numpy()
        chosen = rows[(offsets[rows] <= upto) | activations]
        if not chosen.size:
            return
        at = self._partition
        try:
            effects = self._core.take(
                at,
                offsets[chosen],
                [values[row] for row in chosen.tolist()],
                [timestamps_ms[row] for row in chosen.tolist()],
                (),
            )
        except CacheFullError as error:
            raise ShareTooLargeError(f"partition {at}: {error}") from error
        self._remember(effects)
        if self._memory.events > self._most_events and len(self._core.cache) > 1:
            raise ShareTooLargeError(f"partition {at}: more than {self._most_events} events")

    def _remember(self, effects: Effects) -> None:
        for written in effects.events:
            frame = written.frame
            slots = self._core.cache.find(frame.get_column("customer_id").to_list())
            self._memory.remember(slots, frame.get_column("event_id"), frame.get_column("log_offset"))

    def states(self) -> StateRows:
        """All states, in the order of the customers' names."""
        customers = sorted(name for name in self._core.cache.customers if name)
        return self._core.snapshot(self._core.cache.find(customers))
