"""From records to effects: decode, de-duplicate, fold, judge. No I/O but the look-ups it is given."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import polars as pl

from schemas.activation import KIND, PARAMETERS, VERSION, Activation
from schemas.decode import decode
from schemas.identity import signal_id
from schemas.kinds import KINDS
from schemas.reasons import Reason
from schemas.signal import SIGNALS
from services.scoring.cache import StateCache
from services.scoring.duplicates import candidates, id_keys, remember
from services.scoring.events import prepare
from services.scoring.flood import Floods, Stop
from services.scoring.ports import RejectedRecord, RepeatedEvent, StateRows, Tables
from services.scoring.readings import ReadingTable
from services.scoring.refusals import plausible_us
from services.scoring.repeats import NEEDED, Repeats, find_repeats
from services.scoring.risk.model import ModelError, RiskModel
from services.scoring.state import Ints, Rows
from services.scoring.step import LIVE_WITHIN_US, Scorer, step
from services.scoring.timeline import OtherKindsError, Timeline, present, usable_model

PAYLOAD_KEPT_BYTES = 65_536
MOST_SAID = 500
"""Characters of why a model cannot be used: some of them are whoever wrote it's own."""
_KEY = ("customer_id", "event_id")
_ACTIVATION = KINDS.index(KIND)


@dataclass(frozen=True, slots=True)
class Written:
    """New events on their way to the table."""

    frame: pl.DataFrame
    """`schemas.decode.COLUMNS`, ``log_partition`` and ``log_offset``."""
    valence: npt.NDArray[np.float32]
    weight: npt.NDArray[np.float32]


@dataclass(slots=True)
class Effects:
    """What folding some records asks for. Everything is repeatable; the order is the writer's business."""

    events: list[Written] = field(default_factory=list)
    rejected: list[RejectedRecord] = field(default_factory=list)
    repeated: list[RepeatedEvent] = field(default_factory=list)
    signals: list[pl.DataFrame] = field(default_factory=list)
    """Frames of `schemas.signal.SIGNALS`, none of them empty."""
    activations: list[Activation] = field(default_factory=list)
    """Risk models that judge from there on."""
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
        self.activations += other.activations
        self.slots += other.slots
        self.records += other.records
        self.history += other.history

    def dirty(self) -> Rows:
        """Distinct changed slots."""
        return np.unique(np.concatenate(self.slots)) if self.slots else np.empty(0, dtype=np.intp)


class Core:
    """The states in memory and the rules over them. One call at a time."""

    def __init__(
        self,
        cache: StateCache,
        scorer: Scorer,
        readings: ReadingTable,
        tables: Tables,
        new_marker: Callable[[], bytes],
        floods: Floods | None = None,
    ) -> None:
        """``floods`` None: any number of records may be rejected."""
        self.cache = cache
        self.floods = floods
        self.timeline = Timeline(scorer.model)
        self._parsed: dict[str, RiskModel] = {}
        self._scorer = scorer
        self._readings = readings
        self._tables = tables
        self._new_marker = new_marker

    def take(
        self,
        partitions: int | Ints,
        offsets: Ints,
        values: Sequence[bytes | None],
        timestamps_ms: Sequence[int],
        unwritten: Sequence[Effects],
    ) -> Effects:
        """Fold n records, offsets ascending within each partition, and return what follows.

        ``partitions``: of each record (n,), or one for all. ``unwritten``: effects that the tables may not show yet:
        a repeat of one of their events has to be found there. Raises what the tables raise, and
        `cache.CacheFullError`, before any state changes. ModelError: an activation that the table has cannot be read
        by this version, so nothing that follows it can be judged.
        """
        effects = Effects(records=len(values))
        partitions = np.broadcast_to(np.asarray(partitions, dtype=np.int64), len(values))

        def reject(index: int, reason: Reason, detail: str) -> None:
            effects.rejected.append(
                RejectedRecord(
                    log_partition=int(partitions[index]),
                    log_offset=int(offsets[index]),
                    rejected_at_us=plausible_us(timestamps_ms[index] * 1000),
                    reason=reason.value,
                    detail=detail,
                    payload=(values[index] or b"")[:PAYLOAD_KEPT_BYTES],
                )
            )

        firsts = self._begin_timeline(partitions, offsets)
        decoded = decode(values, self._new_marker())
        for refused in decoded.rejects:
            reject(refused.index, refused.reason, refused.detail)
        rows = decoded.rows.to_numpy().astype(np.intp)
        frame, activated = decoded.frame, []
        kinds = frame.get_column("kind").to_physical()
        if (kinds == _ACTIVATION).any():
            places = np.flatnonzero(kinds == _ACTIVATION)
            activated = self._activations(frame[places], rows[places], partitions, offsets, reject)
            kept = np.flatnonzero(kinds != _ACTIVATION)
            frame, rows = frame[kept], rows[kept]
        home = partitions[rows]
        frame = frame.with_columns(pl.Series("log_partition", home), pl.Series("log_offset", offsets[rows]))
        slots = self._slots(frame.get_column("customer_id").to_list(), home)

        misplaced = self.cache.partition_of(slots) != home
        if misplaced.any():
            for place in np.flatnonzero(misplaced).tolist():
                lives = int(self.cache.partition_of(slots[place : place + 1])[0])
                detail = f"customer lives in partition {lives}; key records by customer_id, partition by murmur2"
                reject(int(rows[place]), Reason.WRONG_PARTITION, detail)
        wanted = ~misplaced & (offsets[rows] > self.cache.offset_of(slots))
        for stop in self.floods.meet(effects.rejected).values() if self.floods else ():
            beyond = (partitions == stop.partition) & (offsets >= stop.offset)
            effects.records -= int(np.count_nonzero(beyond))
            effects.rejected = [
                record
                for record in effects.rejected
                if record.log_partition != stop.partition or record.log_offset < stop.offset
            ]
            activated = [(at, model) for at, model in activated if not _is_beyond(at, stop)]
            wanted &= ~beyond[rows]
        for at, model in activated:
            self.timeline.add(at.log_partition, at.log_offset, model)
            effects.activations.append(at)
        if not wanted.all():
            kept = np.flatnonzero(wanted)
            frame, slots = frame[kept], slots[kept]
        if frame.height:
            self._fold(frame, slots, unwritten, effects, firsts)
        return effects

    def _begin_timeline(self, partitions: Ints, offsets: Ints) -> dict[int, int]:
        """The first offset of each partition, after a look at what was activated before it where that is not known."""
        numbers = present(partitions) if len(partitions) else []
        firsts = {partition: int(offsets[np.argmax(partitions == partition)]) for partition in numbers}
        for partition, first in firsts.items():
            if self.timeline.lacks(partition, first):
                stored = self._tables.load_activations(partition, first)
                self.timeline.begin(partition, first, self._readable(stored))
        return firsts

    def _readable(self, stored: Iterable[Activation]) -> Iterator[tuple[int, RiskModel]]:
        """Activations of the table, but those of a time when the states counted other kinds: a replay of the log with
        the states of now refuses them as well. ModelError for one that cannot be read."""
        for at in stored:
            with suppress(OtherKindsError):
                yield at.log_offset, self._model(at.version, at.parameters)

    def _model(self, version: str | None, parameters: str | None) -> RiskModel:
        """Read once, however many partitions activate it. ModelError."""
        known = self._parsed.get(parameters or "")
        if known is None or known.version != version:
            known = usable_model(version, parameters, self._scorer.model.activity_kinds)
            self._parsed[parameters or ""] = known
        return known

    def _activations(
        self,
        frame: pl.DataFrame,
        rows: Rows,
        partitions: Ints,
        offsets: Ints,
        reject: Callable[[int, Reason, str], None],
    ) -> list[tuple[Activation, RiskModel]]:
        """Those of some records that can be used; ``frame`` has their contents, ``rows`` their places. The decision
        follows from the record alone, so it is the same whenever it is read."""
        usable = []
        for row, received_us, attributes in zip(
            rows.tolist(), frame.get_column("received_at"), frame.get_column("attributes"), strict=True
        ):
            version, parameters = attributes.get(VERSION), attributes.get(PARAMETERS)
            try:
                model = self._model(version, parameters)
            except ModelError as error:
                reject(row, Reason.UNUSABLE_MODEL, f"{str(error)[:MOST_SAID]}; the former model goes on judging")
                continue
            at = Activation(int(partitions[row]), int(offsets[row]), received_us, model.version, parameters)
            usable.append((at, model))
        return usable

    def _slots(self, names: list[str], home: Ints) -> Rows:
        slots = self.cache.find(names)
        absent = np.flatnonzero(slots < 0)
        if absent.size:
            lives: dict[str, int] = {}
            for place in absent.tolist():
                lives.setdefault(names[place], int(home[place]))
            # What this batch needs must not make room for what it lacks.
            here = slots[slots >= 0]
            held = self.cache.hold_more(here)
            try:
                self.cache.admit(
                    list(lives), self._tables.load_states, np.fromiter(lives.values(), np.int64, len(lives))
                )
            finally:
                self.cache.release(held)
            slots[absent] = self.cache.find([names[place] for place in absent.tolist()])
        return slots

    def _fold(
        self,
        frame: pl.DataFrame,
        slots: Rows,
        unwritten: Sequence[Effects],
        effects: Effects,
        firsts: Mapping[int, int],
    ) -> None:
        states = self.cache.states
        keys = id_keys(frame.get_column("event_id"), frame.get_column("occurred_at").to_numpy())
        maybe = np.flatnonzero(candidates(states, slots, keys))
        if maybe.size:
            repeats = self._look_up(frame, maybe, unwritten)
            if repeats.places.size:
                places = maybe[repeats.places]
                effects.repeated += _repeated(frame[places], repeats.conflicting)
                kept = np.setdiff1d(np.arange(frame.height), places, assume_unique=True)
                frame, slots, keys = frame[kept], slots[kept], keys[kept]
        if not frame.height:
            return
        offsets = frame.get_column("log_offset").to_numpy()
        events = prepare(frame, slots, offsets, self._readings, self._scorer.touchpoints)
        effects.events.append(
            Written(
                frame,
                events.readings.valence.astype(np.float32),
                events.readings.weight.astype(np.float32),
            )
        )
        effects.history += int(np.count_nonzero(events.received_us - events.occurred_us > LIVE_WITHIN_US))
        judging = self.timeline.at(frame.get_column("log_partition").to_numpy(), offsets, firsts)
        order = np.argsort(slots, kind="stable")
        slots, events = slots[order], events.select(order)
        remember(states, slots, keys[order])
        signals = step(states, events, self._scorer, judging.select(order))
        if signals.height:
            effects.signals.append(self._signals(signals))
        touched = slots[np.flatnonzero(np.r_[True, slots[1:] != slots[:-1]])]
        effects.slots.append(touched)
        self.cache.hold(touched)

    def _look_up(self, frame: pl.DataFrame, rows: Rows, unwritten: Sequence[Effects]) -> Repeats:
        asked = frame[rows]
        keys = asked.select(*_KEY, "log_partition").unique()
        known = [frame, *(written.frame for effects in unwritten for written in effects.events)]
        known.append(self._tables.find_earlier(keys.select(_KEY).rows()).cast({"log_partition": pl.Int64}))
        # The same id of the same name in another partition is somebody else's.
        earlier = [part.join(keys, on=keys.columns, how="semi").select(NEEDED) for part in known]
        return find_repeats(asked, pl.concat(earlier))

    def _signals(self, signals: pl.DataFrame) -> pl.DataFrame:
        rows = signals.get_column("row").to_numpy()
        customers = [self.cache.customers[row] for row in rows.tolist()]
        partitions = self.cache.partition_of(rows)
        places = zip(customers, partitions.tolist(), signals.get_column("log_offset").to_list(), strict=True)
        return signals.with_columns(
            pl.Series("signal_id", [signal_id(*place) for place in places], dtype=pl.Binary),
            pl.Series("customer_id", customers, dtype=pl.String),
            pl.Series("log_partition", partitions),
        ).select(*SIGNALS)

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


def _is_beyond(at: Activation, stop: Stop) -> bool:
    return at.log_partition == stop.partition and at.log_offset >= stop.offset


def _repeated(frame: pl.DataFrame, conflicting: npt.NDArray[np.bool_]) -> list[RepeatedEvent]:
    rows = frame.select("log_partition", "log_offset", "received_at", "customer_id", "event_id").iter_rows()
    return [
        RepeatedEvent(partition, offset, received, customer, event_id, conflict)
        for (partition, offset, received, customer, event_id), conflict in zip(rows, conflicting.tolist(), strict=True)
    ]
