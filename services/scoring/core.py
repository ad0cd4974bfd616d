"""From records of one partition to effects: decode, de-duplicate, fold, judge. No I/O but the look-ups it is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import polars as pl

from schemas.decode import decode
from schemas.identity import signal_id
from schemas.reasons import Reason
from schemas.signal import Crossing
from services.scoring.cache import StateCache
from services.scoring.duplicates import candidates, id_keys, remember
from services.scoring.events import prepare
from services.scoring.judge import Signal
from services.scoring.ports import RejectedRecord, RepeatedEvent, StateRows, Tables
from services.scoring.readings import ReadingTable
from services.scoring.refusals import plausible_us
from services.scoring.repeats import NEEDED, NONE, Repeats, find_repeats
from services.scoring.state import Ints, Rows
from services.scoring.step import LIVE_WITHIN_US, Scorer, step

PAYLOAD_KEPT_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Written:
    """New events of one partition, on their way to the table."""

    partition: int
    frame: pl.DataFrame
    """`schemas.decode.COLUMNS` and ``log_offset``."""
    valence: npt.NDArray[np.float32]
    weight: npt.NDArray[np.float32]


@dataclass(slots=True)
class Effects:
    """What folding some records asks for. Everything is repeatable; the order is the writer's business."""

    events: list[Written] = field(default_factory=list)
    rejected: list[RejectedRecord] = field(default_factory=list)
    repeated: list[RepeatedEvent] = field(default_factory=list)
    signals: list[Crossing] = field(default_factory=list)
    slots: list[Rows] = field(default_factory=list)
    """Slots whose states changed."""
    records: int = 0
    history: int = 0
    """Events among them that had happened long before they were received."""

    def add(self, other: Effects) -> None:
        """Take over what ``other`` asks for."""
        self.events += other.events
        self.rejected += other.rejected
        self.repeated += other.repeated
        self.signals += other.signals
        self.slots += other.slots
        self.records += other.records
        self.history += other.history

    def dirty(self) -> Rows:
        """Distinct changed slots."""
        return np.unique(np.concatenate(self.slots)) if self.slots else np.empty(0, dtype=np.intp)


class Core:
    """The states in memory and the rules over them. One call at a time."""

    def __init__(
        self, cache: StateCache, scorer: Scorer, readings: ReadingTable, tables: Tables, new_marker: Callable[[], bytes]
    ) -> None:
        self.cache = cache
        self._scorer = scorer
        self._readings = readings
        self._tables = tables
        self._new_marker = new_marker

    def take(
        self,
        partition: int,
        offsets: Ints,
        values: Sequence[bytes | None],
        timestamps_ms: Sequence[int],
        unwritten: Sequence[Effects],
    ) -> Effects:
        """Fold records of one partition (offsets ascending) and return what follows.

        ``unwritten``: effects that the tables may not show yet: a repeat of one of their events has to be found
        there. Raises what the tables raise, and `cache.CacheFullError`, before any state changes.
        """
        effects = Effects(records=len(values))
        decoded = decode(values, self._new_marker())
        for reject in decoded.rejects:
            self._reject(effects, partition, offsets, values, timestamps_ms, reject.index, reject.reason, reject.detail)
        rows = decoded.rows.to_numpy().astype(np.intp)
        frame = decoded.frame.with_columns(pl.Series("log_offset", offsets[rows], dtype=pl.Int64))
        names = frame.get_column("customer_id").to_list()
        slots = self._slots(names, partition)

        misplaced = self.cache.partition_of(slots) != partition
        if misplaced.any():
            for place in np.flatnonzero(misplaced).tolist():
                home = int(self.cache.partition_of(slots[place : place + 1])[0])
                detail = f"customer lives in partition {home}; key records by customer_id, partition by murmur2"
                index = int(rows[place])
                self._reject(effects, partition, offsets, values, timestamps_ms, index, Reason.WRONG_PARTITION, detail)
        wanted = ~misplaced & (offsets[rows] > self.cache.offset_of(slots))
        if not wanted.all():
            kept = np.flatnonzero(wanted)
            frame, slots = frame[kept], slots[kept]
        if frame.height:
            self._fold(partition, frame, slots, unwritten, effects)
        return effects

    def _slots(self, names: list[str], partition: int) -> Rows:
        slots = self.cache.find(names)
        absent = np.flatnonzero(slots < 0)
        if absent.size:
            missing = list(dict.fromkeys(names[place] for place in absent.tolist()))
            # What this batch needs must not make room for what it lacks.
            here = slots[slots >= 0]
            held = self.cache.hold_more(here)
            try:
                self.cache.admit(missing, self._tables.load_states, partition)
            finally:
                self.cache.release(held)
            slots[absent] = self.cache.find([names[place] for place in absent.tolist()])
        return slots

    def _fold(
        self, partition: int, frame: pl.DataFrame, slots: Rows, unwritten: Sequence[Effects], effects: Effects
    ) -> None:
        states = self.cache.states
        keys = id_keys(frame.get_column("event_id"), frame.get_column("occurred_at").to_numpy())
        maybe = candidates(states, slots, keys)
        if maybe.any():
            repeats = self._look_up(partition, frame, np.flatnonzero(maybe), unwritten)
            if repeats.offsets:
                repeated = frame.get_column("log_offset").is_in(list(repeats.offsets)).to_numpy()
                effects.repeated += _repeated(frame.filter(repeated), partition, repeats)
                kept = np.flatnonzero(~repeated)
                frame, slots, keys = frame[kept], slots[kept], keys[kept]
        if not frame.height:
            return
        offsets = frame.get_column("log_offset").to_numpy()
        events = prepare(frame, slots, offsets, self._readings, self._scorer.touchpoints)
        effects.events.append(
            Written(
                partition,
                frame,
                events.readings.valence.astype(np.float32),
                events.readings.weight.astype(np.float32),
            )
        )
        effects.history += int(np.count_nonzero(events.received_us - events.occurred_us > LIVE_WITHIN_US))
        order = np.argsort(slots, kind="stable")
        slots, events = slots[order], events.select(order)
        remember(states, slots, keys[order])
        for signal in step(states, events, self._scorer):
            effects.signals.append(_crossing(self.cache.customers[signal.row], partition, signal))
        touched = slots[np.flatnonzero(np.r_[True, slots[1:] != slots[:-1]])]
        effects.slots.append(touched)
        self.cache.hold(touched)

    def _look_up(self, partition: int, frame: pl.DataFrame, rows: Rows, unwritten: Sequence[Effects]) -> Repeats:
        asked = frame[rows]
        keys = asked.select("customer_id", "event_id").unique()
        known = [frame, *(w.frame for e in unwritten for w in e.events if w.partition == partition)]
        earlier = [part.select(NEEDED).join(keys, on=("customer_id", "event_id"), how="semi") for part in known]
        stored = self._tables.find_earlier(keys.rows())
        earlier.append(stored.filter(pl.col("log_partition") == partition).select(NEEDED))
        return find_repeats(asked, pl.concat(earlier)) if asked.height else NONE

    def snapshot(self, slots: Rows) -> StateRows:
        """Copies of some states, ready to be written: in the order of their names, as the table keeps them."""
        names = pl.Series([self.cache.customers[slot] for slot in slots.tolist()], dtype=pl.String)
        order = names.arg_sort()
        states = self.cache.states.take(slots[order.to_numpy()])
        return StateRows(
            names.gather(order).to_list(),
            states.floats,
            states.ints,
            states.activity_days,
            states.cases,
            states.recent_ids,
            list(self._scorer.touchpoints.names),
            list(self._scorer.models.names),
        )

    @staticmethod
    def _reject(
        effects: Effects,
        partition: int,
        offsets: Ints,
        values: Sequence[bytes | None],
        timestamps_ms: Sequence[int],
        index: int,
        reason: Reason,
        detail: str,
    ) -> None:
        effects.rejected.append(
            RejectedRecord(
                log_partition=partition,
                log_offset=int(offsets[index]),
                rejected_at_us=plausible_us(timestamps_ms[index] * 1000),
                reason=reason.value,
                detail=detail,
                payload=(values[index] or b"")[:PAYLOAD_KEPT_BYTES],
            )
        )


def _crossing(customer: str, partition: int, signal: Signal) -> Crossing:
    return Crossing(
        signal_id(customer, partition, signal.log_offset),
        customer,
        signal.judged_at_us,
        signal.from_band,
        signal.to_band,
        signal.risk,
        signal.score,
        signal.trend,
        signal.confidence,
        signal.value_at_risk,
        signal.reasons,
        signal.model_version,
        partition,
        signal.log_offset,
    )


def _repeated(frame: pl.DataFrame, partition: int, repeats: Repeats) -> list[RepeatedEvent]:
    rows = frame.select("log_offset", "received_at", "customer_id", "event_id").iter_rows()
    return [
        RepeatedEvent(partition, offset, received, customer, event_id, offset in repeats.conflicting)
        for offset, received, customer, event_id in rows
    ]
