"""Which model judges is a property of the log: batches, redelivery and takeover at any offset change nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from random import Random
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.activation import encode_activation
from schemas.encode import encode
from schemas.identity import signal_id
from services.scoring.cache import StateCache
from services.scoring.core import Core, Effects
from services.scoring.readings import shipped
from services.scoring.risk.model import DEFAULT, RiskModel
from services.scoring.state import States
from services.scoring.step import Scorer, step
from tests.fakes.models import ANXIOUS, CALM, model_like_default
from tests.fakes.stream import FakeTables
from tests.property.scoring.logs import Event, as_records, random_log, signals_of, take

MODELS = (model_like_default("anxious", ANXIOUS), model_like_default("calm", CALM), DEFAULT)
PARTITIONS = 2
CUSTOMERS = 3
"""In each partition."""
STEPS_US = (1, 1_000_000, 3_600_000_000)

Record = Event | RiskModel


def name_of(partition: int, customer: int) -> str:
    return f"p{partition}-c{customer}"


def value_of(partition: int, offset: int, record: Record) -> bytes:
    if isinstance(record, RiskModel):
        return encode_activation(record.version, record.to_json(), partition, 1_767_225_600_000_000 + offset)
    members = asdict(record)
    return encode(
        {
            **members,
            "customer_id": name_of(partition, record.customer),
            "occurred_at": record.occurred_us,
            "received_at": record.received_us,
            "source": "test",
            "currency": None if record.amount_micros is None else "EUR",
        }
    )


@st.composite
def partition_logs(draw: st.DrawFn) -> list[Record]:
    """Events of some customers with activations anywhere between them, several in a row included."""
    random = draw(st.randoms(use_true_random=True))
    events = random_log(random, draw(st.integers(1, 40)), CUSTOMERS, draw(st.sampled_from(STEPS_US)))
    log: list[Record] = list(events)
    for _ in range(draw(st.integers(0, 4))):
        log.insert(random.randrange(len(log) + 1), random.choice(MODELS))
    return log


def judged_one_by_one(log: Sequence[Record]) -> tuple[list[dict[str, Any]], dict[int, Any]]:
    """The law itself: each event alone, by the model that was activated last before it."""
    scorer, states, signals = Scorer.of(DEFAULT), States.empty(CUSTOMERS), {}
    # An activation keeps its place in the log and is nobody's event.
    places = [record if isinstance(record, Event) else Event(0, "purchase", 0, 0, bytes(16)) for record in log]
    for offset, record in enumerate(log):
        if isinstance(record, RiskModel):
            scorer.model = record
        else:
            signals |= {found.log_offset: found for found in signals_of(take(states, places, [offset], scorer, step))}
    return as_records(states, scorer), signals


class Workers:
    """One worker after another over the same tables; each takes over where the one before had committed, or earlier."""

    def __init__(self, logs: Sequence[Sequence[Record]], random: Random) -> None:
        self.values = [
            [value_of(at, offset, record) for offset, record in enumerate(log)] for at, log in enumerate(logs)
        ]
        self.tables = FakeTables()
        self.scorer = Scorer.of(DEFAULT)
        self.committed = [0] * PARTITIONS
        self.random = random

    def run(self) -> None:
        while any(at < len(values) for at, values in zip(self.committed, self.values, strict=True)):
            self.worker()

    def worker(self) -> None:
        """Ends after some batches, having written all, a part or nothing of what it folded last."""
        cache = StateCache(50, self.scorer.touchpoints, self.scorer.models)
        core = Core(cache, self.scorer, shipped(), self.tables, lambda: b"\x9e\x01marker")
        reads = [max(0, at - self.random.choice((0, 0, 1, 5))) for at in self.committed]
        for _ in range(self.random.randint(1, 4)):
            ends = [min(len(v), at + self.random.randrange(30)) for at, v in zip(reads, self.values, strict=True)]
            places = [(p, o) for p in range(PARTITIONS) for o in range(reads[p], ends[p])]
            effects = core.take(
                np.array([p for p, _ in places], dtype=np.int64),
                np.array([o for _, o in places], dtype=np.int64),
                [self.values[p][o] for p, o in places],
                [0] * len(places),
                (),
            )
            assert not effects.rejected
            reads = ends
            if not self.written(core, effects):
                return
            self.committed = [max(before, end) for before, end in zip(self.committed, ends, strict=True)]

    def written(self, core: Core, effects: Effects) -> bool:
        """Whether the worker lives to commit."""
        fate = self.random.choice(("lives", "lives", "lives", "dies before states", "dies before all"))
        if fate == "dies before all":
            return False
        for part in effects.events:
            at = part.frame
            self.tables.write_events(
                at.drop("log_partition", "log_offset"), None, None, at["log_partition"].to_numpy(), at["log_offset"]
            )
        self.tables.write_repeated(effects.repeated)
        self.tables.write_activations(effects.activations)
        for crossings in effects.signals:
            self.tables.write_signals(crossings)
        if fate == "dies before states":
            return False
        slots = effects.dirty()
        self.tables.save_states(core.snapshot(slots))
        core.cache.release(slots)
        return True

    def records(self) -> dict[str, dict[str, Any]]:
        found = {}
        for customer in self.tables.states:
            rows = self.tables.load_states([customer])
            states = States(rows.floats, rows.ints, rows.activity_days, rows.cases, rows.recent_ids)
            [found[customer]] = as_records(states, self.scorer)
        return found


def same(mine: dict[str, Any], theirs: dict[str, Any]) -> None:
    for name, value in theirs.items():
        if isinstance(value, float):
            np.testing.assert_allclose(mine[name], value, rtol=1e-9, atol=1e-6, err_msg=name)
        elif name != "log_partition":
            assert mine[name] == value, name


@given(st.lists(partition_logs(), min_size=PARTITIONS, max_size=PARTITIONS), st.randoms(use_true_random=True))
@settings(max_examples=20)
def test_states_and_signals_follow_from_the_log_alone(logs: list[list[Record]], random: Random) -> None:
    workers = Workers(logs, random)
    workers.run()
    kept, told = workers.records(), workers.tables.signals
    expected_signals = set()
    for partition, log in enumerate(logs):
        states, signals = judged_one_by_one(log)
        present = {record.customer for record in log if isinstance(record, Event)}
        assert {name for name in kept if name.startswith(f"p{partition}-")} == {name_of(partition, c) for c in present}
        for customer in present:
            same(kept[name_of(partition, customer)], states[customer])
        for offset, signal in signals.items():
            customer = name_of(partition, signal.row)
            place = signal_id(customer, partition, offset)
            expected_signals.add(place)
            crossing = told[place]
            assert (crossing.from_band, crossing.to_band) == (signal.from_band, signal.to_band)
            assert crossing.model_version == signal.model_version
            assert abs(crossing.risk - signal.risk) < 1e-9
        activated = {(partition, o): r.version for o, r in enumerate(log) if isinstance(r, RiskModel)}
        stored = {at: a.version for at, a in workers.tables.activations.items() if at[0] == partition}
        assert stored == activated
    assert told.keys() == expected_signals
