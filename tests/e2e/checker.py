"""What must hold once everything in the log is scored, whatever happened on the way.

The log is read whole and judged anew in this process: by a dictionary that remembers every event, by a fold from
offset 0 cut into other batches, and by one SQL query over the stored events. Tables and topics must say the same.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import numpy as np
import orjson
import polars as pl
from confluent_kafka import Consumer, TopicPartition

from infra.clickhouse import states
from infra.clickhouse.client import ClickHouse
from infra.kafka.admin import KafkaAdmin
from schemas.activation import KIND
from schemas.decode import COLUMNS, MARKER_BYTES, decode
from schemas.reasons import Reason
from schemas.rejected import STAGE_LOG
from schemas.state_layout import BANDS, CODES, FLOATS, INTS, PACKED, NameList
from schemas.topics import CONSUMER_GROUP, LOYALTY_SIGNALS, REJECTED, TOUCHPOINTS
from services.scoring.core import Core
from services.scoring.ports import StateRows
from services.scoring.recompute import RECOMPUTED, recompute_sql
from services.scoring.repeats import CONTENT
from services.scoring.risk.model import DEFAULT
from tests.fakes.stream import Crossing, FakeTables, make_core

READ_S: Final = 60.0
TOLERANCE: Final = 1e-9
"""Of floats, relative to the value or to the largest of its column: a sum is as exact as its terms."""

Place = tuple[int, int]
"""Partition and offset."""


class Fate(StrEnum):
    """Where a record of the log ends."""

    STORED = "touchpoints"
    REPEATED = "repeated_events"
    CONFLICTING = "repeated_events, conflict"
    REJECTED = "rejected_events"
    ACTIVATION = "model_activations"


@dataclass(frozen=True, slots=True)
class Logged:
    """One record as it stands in a topic."""

    offset: int
    timestamp_ms: int
    value: bytes | None


Log = Mapping[int, list[Logged]]
"""Records by partition, offsets ascending."""


def read_topic(bootstrap: str, topic: str, positions: Mapping[int, int] | None = None) -> dict[int, list[Logged]]:
    """A topic up to its present end, from its beginning or from where ``positions`` say."""
    with KafkaAdmin(bootstrap) as admin:
        ends = admin.end_offsets(topic)
    starts = dict.fromkeys(ends, 0) | dict(positions or {})
    log: dict[int, list[Logged]] = {partition: [] for partition in ends}
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": f"check-{uuid.uuid4()}", "enable.auto.commit": False}
    )
    try:
        consumer.assign([TopicPartition(topic, partition, start) for partition, start in starts.items()])
        deadline_s = time.monotonic() + READ_S
        while any(starts[at] + len(log[at]) < end for at, end in ends.items()):
            assert time.monotonic() < deadline_s, f"topic {topic} could not be read up to {ends}"
            for message in consumer.consume(10_000, timeout=0.5):
                assert message.error() is None, message.error()
                partition, offset, value = message.partition(), message.offset(), message.value()
                assert partition is not None
                assert offset is not None
                if offset < ends[partition]:
                    data = value if value is None or isinstance(value, bytes) else str(value).encode()
                    log[partition].append(Logged(offset, message.timestamp()[1], data))
    finally:
        consumer.close()
    return log


class Expected:
    """What the log leads to, record by record from offset 0. It may be asked, fed with what came since, asked again."""

    def __init__(self, seed: int, most_customers: int = 10_000) -> None:
        """``seed``: where the log is cut into batches for the fold."""
        self.fates: dict[Place, Fate] = {}
        self.stored_ids: set[bytes] = set()
        """Identities of all events, reviews among them."""
        self.repeats: dict[Place, tuple[int, str, bytes, Place]] = {}
        """Of each event that was there before: its identity, and where it was."""
        self.reviews = 0
        self.positions: dict[int, int] = {}
        """Per partition where to read on."""
        self.tables = FakeTables()
        self.core: Core = make_core(self.tables, most_customers)
        self._first: dict[tuple[int, str, bytes], tuple[Place, tuple[Any, ...]]] = {}
        self._chance = random.Random(seed)

    @property
    def signals(self) -> dict[bytes, Crossing]:
        return self.tables.signals

    def customers(self) -> list[str]:
        """All of them, sorted."""
        return sorted(name for name in self.core.cache.customers if name)

    def count(self, fate: Fate) -> int:
        return sum(found is fate for found in self.fates.values())

    def read_on(self, log: Log) -> None:
        """Take in records that follow those taken before."""
        for partition, records in log.items():
            if records:
                self.positions[partition] = records[-1].offset + 1
                self._remember(partition, records)
                self._fold(partition, records)

    def _remember(self, partition: int, records: list[Logged]) -> None:
        decoded = decode([record.value for record in records], bytes(range(MARKER_BYTES)))
        self.fates |= {(partition, records[reject.index].offset): Fate.REJECTED for reject in decoded.rejects}
        columns = ["customer_id", "event_id", "kind", *(name for name in CONTENT if name != "kind")]
        rows = decoded.frame.select(columns).iter_rows()
        for place, (customer, event_id, *content) in zip(decoded.rows.to_list(), rows, strict=True):
            if content[0] == KIND:
                # One that cannot be used is the fold's to tell: `_fold`.
                self.fates[partition, records[place].offset] = Fate.ACTIVATION
                continue
            at, key, said = (partition, records[place].offset), (partition, customer, event_id), tuple(content)
            if key not in self._first:
                self._first[key] = at, said
                self.stored_ids.add(event_id)
                self.reviews += content[0] == "review_due"
                self.fates[at] = Fate.STORED
            else:
                first, said_first = self._first[key]
                self.fates[at] = Fate.REPEATED if said_first == said else Fate.CONFLICTING
                self.repeats[at] = (*key, first)

    def _fold(self, partition: int, records: list[Logged]) -> None:
        start = 0
        while start < len(records):
            part = records[start : start + self._chance.randint(1, 6000)]
            start += len(part)
            effects = self.core.take(
                partition,
                np.array([record.offset for record in part], dtype=np.int64),
                [record.value for record in part],
                [record.timestamp_ms for record in part],
                (),
            )
            for written in effects.events:
                frame = written.frame
                offsets = frame.get_column("log_offset").to_numpy()
                self.tables.write_events(
                    frame.drop("log_partition", "log_offset"), None, None, np.full(frame.height, partition), offsets
                )
            self.tables.write_rejected(effects.rejected)
            unusable = (record for record in effects.rejected if record.reason == Reason.UNUSABLE_MODEL)
            self.fates |= {(record.log_partition, record.log_offset): Fate.REJECTED for record in unusable}
            self.tables.write_activations(effects.activations)
            self.tables.write_repeated(effects.repeated)
            for crossings in effects.signals:
                self.tables.write_signals(crossings)


def check(bootstrap: str, client: ClickHouse, expected: Expected) -> None:
    """Hold tables, topics and commits to the log. Nothing may be running that appends to it or reads it."""
    expected.read_on(read_topic(bootstrap, TOUCHPOINTS, expected.positions))
    with KafkaAdmin(bootstrap) as admin:
        lags = admin.group_lag(CONSUMER_GROUP, TOUCHPOINTS)
    assert {at.partition: at.committed or 0 for at in lags} == {at.partition: at.end for at in lags}
    assert expected.fates.keys() == {(at.partition, offset) for at in lags for offset in range(at.end)}
    check_fates(client, expected)
    check_events(client, expected)
    check_states(client, expected)
    check_recomputed(client)
    check_signals(bootstrap, client, expected)
    check_rejected_topic(bootstrap, expected)


def check_fates(client: ClickHouse, expected: Expected) -> None:
    """Each record of the log is in exactly one table, and in the right one."""
    found: dict[Place, Fate] = {}
    for fate, source in (
        (Fate.STORED, "touchpoints FINAL"),
        (Fate.REPEATED, "repeated_events FINAL WHERE NOT conflict"),
        (Fate.CONFLICTING, "repeated_events FINAL WHERE conflict"),
        (Fate.REJECTED, "rejected_events FINAL WHERE stage = 'log'"),
        (Fate.ACTIVATION, "model_activations FINAL"),
    ):
        places = client.query(f"SELECT log_partition, log_offset FROM touchstone.{source}")
        assert len(places) == len(set(places)), f"{fate}: a place of the log stands twice"
        twice = found.keys() & set(places)
        assert not twice, f"{_some(twice)} are in {fate} and in {found[next(iter(twice))]}"
        found |= dict.fromkeys([(int(partition), int(offset)) for partition, offset in places], fate)
    missing, foreign = expected.fates.keys() - found.keys(), found.keys() - expected.fates.keys()
    assert not missing, f"unaccounted for: {_some(missing)}"
    assert not foreign, f"in no log: {_some(foreign)}"
    wrong = {at: (found[at], fate) for at, fate in expected.fates.items() if found[at] is not fate}
    repeats = {at: expected.repeats[at] for at in wrong if at in expected.repeats}
    assert not wrong, f"(found, expected): {_some(wrong.items())}; first seen: {_some(repeats.items())}"
    folded = {
        **{(r.log_partition, r.log_offset): Fate.REJECTED for r in expected.tables.rejected.values()},
        **{
            (r.log_partition, r.log_offset): Fate.CONFLICTING if r.conflict else Fate.REPEATED
            for r in expected.tables.repeated.values()
        },
        **{(r["log_partition"], r["log_offset"]): Fate.STORED for r in expected.tables.events.values()},
        **dict.fromkeys(expected.tables.activations, Fate.ACTIVATION),
    }
    assert folded == expected.fates, "the fold and the perfect memory disagree"


def check_events(client: ClickHouse, expected: Expected) -> None:
    """Every event is stored once, under its identity."""
    rows = client.frame("SELECT event_id FROM touchstone.touchpoints FINAL").get_column("event_id")
    assert rows.len() == len(expected.stored_ids)
    assert set(rows.to_list()) == expected.stored_ids


def check_rows(client: ClickHouse, expected: Expected) -> None:
    """Stored, rejected and repeated records say, column by column, what the log and the fold make of them."""
    names = [name for name in COLUMNS if name not in _SHOWN]
    shown = ", ".join([*names, *(f"{expression} AS {name}" for name, expression in _SHOWN.items())])
    rows = client.query(f"SELECT log_partition, log_offset, {shown} FROM touchstone.touchpoints FINAL")
    stored = {row[:2]: dict(zip((*names, *_SHOWN), row[2:], strict=True)) for row in rows}
    assert len(stored) == len(expected.tables.events)
    for event in expected.tables.events.values():
        row = stored[event["log_partition"], event["log_offset"]]
        made = {**event, "event_id": event["event_id"].hex().upper()}
        # The table has no null where an empty text says the same.
        different = [name for name in COLUMNS if (row[name] or None) != (_plain(made[name]) or None)]
        assert not different, f"{[(name, row[name], made[name]) for name in different]}"
    rejected = client.query(
        "SELECT log_partition, log_offset, toUnixTimestamp64Micro(rejected_at), reason, detail, hex(payload) "
        "FROM touchstone.rejected_events FINAL WHERE stage = 'log'"
    )
    assert sorted(rejected) == sorted(
        (r.log_partition, r.log_offset, r.rejected_at_us, r.reason, r.detail, r.payload.hex().upper())
        for r in expected.tables.rejected.values()
    )
    repeated = client.query(
        "SELECT log_partition, log_offset, toUnixTimestamp64Micro(received_at), customer_id, hex(event_id), conflict "
        "FROM touchstone.repeated_events FINAL"
    )
    assert sorted(repeated) == sorted(
        (r.log_partition, r.log_offset, r.received_at_us, r.customer_id, r.event_id.hex().upper(), r.conflict)
        for r in expected.tables.repeated.values()
    )


_SHOWN: Final = {
    "event_id": "hex(event_id)",
    "occurred_at": "toUnixTimestamp64Micro(occurred_at)",
    "received_at": "toUnixTimestamp64Micro(received_at)",
}


def _plain(value: Any) -> Any:
    """Maps come from frames as lists of pairs."""
    return {pair["key"]: pair["value"] for pair in value} if isinstance(value, list) else value


def check_states(client: ClickHouse, expected: Expected) -> None:
    """The stored states are those of the fold, what was judged included."""
    customers = expected.customers()
    [(number,)] = client.query("SELECT uniqExact(customer_id) FROM touchstone.customer_state")
    assert number == len(customers)
    loaded = states.load(client, customers)
    assert sorted(loaded.customers) == customers
    folded = expected.core.snapshot(expected.core.cache.find(customers))
    assert folded.customers == customers
    order = np.argsort(np.array(loaded.customers))
    for column, name in enumerate(FLOATS):
        _same_floats(loaded.floats[order, column], folded.floats[:, column], name)
    for column, name in enumerate(INTS):
        if name in CODES:
            stored, mine = np.array(_named(loaded, name, column))[order], np.array(_named(folded, name, column))
        else:
            stored, mine = loaded.ints[order, column], folded.ints[:, column]
        different = [customers[row] for row in np.flatnonzero(stored != mine).tolist()]
        assert not different, f"{name} differs for {_some(different)}"
    for name in PACKED:
        # A set of ids has no order; the others have one, which the recomputation holds.
        same = np.array_equal(np.sort(getattr(loaded, name)[order]), np.sort(getattr(folded, name)))
        assert same, f"{name} differs"


def _named(rows: StateRows | states.StateRows, name: str, column: int) -> list[str]:
    names = {NameList.TOUCHPOINTS: rows.touchpoints, NameList.MODELS: rows.models, NameList.BANDS: list(BANDS)}
    return [names[CODES[name]][code] for code in rows.ints[:, column].tolist()]


def check_recomputed(client: ClickHouse) -> None:
    """The stored states are those that one query makes of the stored events."""
    names = [column.name for column in RECOMPUTED]
    made = client.frame(recompute_sql(DEFAULT.activity_kinds)).select(names).sort("customer_id")
    # A customer of whom there are reviews or steps of cases alone has no event to make a state of; nobody here is.
    kept = client.frame(f"SELECT {', '.join(names)} FROM touchstone.customer_state FINAL").sort("customer_id")
    assert kept.height == made.height
    for name in names:
        stored, again = kept.get_column(name), made.get_column(name)
        if stored.dtype == pl.Float64:
            _same_floats(stored.to_numpy(), again.to_numpy(), name)
        elif isinstance(stored.dtype, pl.Categorical | pl.Enum):
            assert stored.cast(pl.String).to_list() == again.cast(pl.String).to_list(), name
        else:
            assert stored.to_list() == again.to_list(), name


def check_signals(bootstrap: str, client: ClickHouse, expected: Expected) -> None:
    """The signals in table and topic are those of the fold; the topic may hold some twice, each time the same."""
    crossings = expected.signals
    names = ("customer_id", "from_band", "to_band", "model_version", "log_partition", "log_offset")
    numbers = ("risk", "score", "trend", "confidence", "value_at_risk")
    rows = client.frame(
        f"SELECT signal_id, toUnixTimestamp64Micro(judged_at) AS judged_at_us, {', '.join((*names, *numbers))} "
        "FROM touchstone.loyalty_signals FINAL"
    )
    found, made = set(rows.get_column("signal_id").to_list()), crossings.keys()
    assert found == made, (
        f"signals that are missing: {_some(made - found)}; that nothing implies: {_some(found - made)}"
    )
    assert rows.height == len(crossings), "a signal stands twice"
    for row in rows.with_columns(pl.col(pl.Categorical).cast(pl.String)).iter_rows(named=True):
        crossing = crossings[row["signal_id"]]
        assert row["judged_at_us"] == crossing.judged_at, (row, crossing)
        for name in names:
            assert row[name] == getattr(crossing, name), (row, crossing)
        for name in numbers:
            assert abs(row[name] - getattr(crossing, name)) <= TOLERANCE * max(1.0, abs(row[name])), (row, crossing)
    told: dict[bytes, dict[str, Any]] = {}
    for records in read_topic(bootstrap, LOYALTY_SIGNALS).values():
        for record in records:
            document = orjson.loads(record.value or b"")
            before = told.setdefault(uuid.UUID(document["signal_id"]).bytes, document)
            assert [before[name] for name in names] == [document[name] for name in names]
    assert told.keys() == crossings.keys()


def check_rejected_topic(bootstrap: str, expected: Expected) -> None:
    """What could not be taken is told to whoever follows the topic, with its place."""
    told = {
        tuple(map(int, document["detail"].split(":")[:2]))
        for records in read_topic(bootstrap, REJECTED).values()
        for document in (orjson.loads(record.value or b"") for record in records)
        if document["stage"] == STAGE_LOG
    }
    assert told == {at for at, fate in expected.fates.items() if fate is Fate.REJECTED}


def _same_floats(found: Any, expected: Any, name: str) -> None:
    scale = max(1.0, float(np.abs(expected).max(initial=0.0)))
    np.testing.assert_allclose(found, expected, rtol=TOLERANCE, atol=TOLERANCE * scale, err_msg=name)


def _some(things: Iterable[object]) -> str:
    listed = sorted(map(str, things))
    return f"{len(listed)}: {', '.join(listed[:5])}"
