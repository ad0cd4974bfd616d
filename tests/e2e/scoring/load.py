"""Seeded load: a simulated company's events as records, with all that senders do wrong."""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Self

from confluent_kafka import Producer

from infra.kafka.producer import client_config
from schemas.case import CaseStep, Step, encode_case_step
from schemas.encode import Record, encode
from schemas.topics import TOUCHPOINTS
from schemas.touchpoint import EVENT, to_record
from services.simulator import SimulationConfig, simulate

HOUR_US: Final = 3_600_000_000
DAY_US: Final = 24 * HOUR_US


@dataclass(frozen=True, slots=True)
class Sent:
    """One record as it is given to Kafka."""

    at_us: int
    key: str
    value: bytes | None
    timestamp_ms: int


@dataclass(slots=True)
class Load:
    """Records in the order of sending, and what is in them."""

    records: list[Sent] = field(default_factory=list)
    event_ids: set[bytes] = field(default_factory=set)
    exact_repeats: int = 0
    conflicts: int = 0
    poison: int = 0


def make_load(seed: int, events: int, prefix: str, now_us: int, *, case_steps: bool = False) -> Load:
    """About ``events`` events of the half year before ``now_us``, as if ingest had taken them when they happened.

    They come up to an hour late and so out of order, one in twenty up to forty days late; a tenth is sent again (some
    at once, some weeks later), one in a hundred again with another text. Poison lies in between. Three in eight tell of
    their journey, and so are records of schema version 2. ``case_steps``: somebody works on a case of the customer at
    one in thirty-two, and says so twice in a row now and then.
    """
    chance = random.Random(seed)
    simulation = simulate(SimulationConfig(max(1, events // 32), now_us, seed=seed, id_prefix=prefix))
    load = Load()

    def send(record: Record, delay_us: float) -> None:
        at_us = min(record["occurred_at"] + int(delay_us), now_us)
        value = encode({**record, "received_at": at_us})
        load.records.append(Sent(at_us, record["customer_id"], value, at_us // 1000))

    for event in simulation.events:
        record = to_record(EVENT.validate_python(event), now_us)
        if record["event_id"][0] < 96:  # records of both schema versions, mixed
            record["journey"] = "order"
        load.event_ids.add(record["event_id"])
        send(record, chance.uniform(0, 40 * DAY_US if chance.random() < 0.05 else HOUR_US))
        if case_steps and record["event_id"][1] < 8:
            at_us, alert_id = record["occurred_at"], record["event_id"].hex()
            step = CaseStep(record["customer_id"], alert_id, Step.ACKNOWLEDGED, "kim", at_us=at_us)
            said = encode_case_step(step)
            load.event_ids.add(step.event_id)
            for _ in range(1 + (record["event_id"][2] < 64)):
                load.records.append(Sent(at_us, step.customer_id, said, at_us // 1000))
        fate = chance.random()
        if fate < 0.10:
            load.exact_repeats += 1
            send(record, chance.uniform(0, chance.choice((HOUR_US, 30 * DAY_US))))
        elif fate < 0.11:
            load.conflicts += 1
            send({**record, "text": "said otherwise"}, chance.uniform(0, chance.choice((HOUR_US, 30 * DAY_US))))
    _poison(load, chance)
    load.records.sort(key=lambda sent: sent.at_us)
    return load


def _poison(load: Load, chance: random.Random) -> None:
    """Bytes that are no event, one in two hundred, with any timestamps."""
    for victim in chance.sample(load.records, len(load.records) // 200):
        value = victim.value or b""
        bad = chance.choice(
            (
                None,
                b"",
                chance.randbytes(40),
                value[: len(value) // 2],
                value + b"\0",
                value[:2] + chance.randbytes(8) + value[10:],
            )
        )
        timestamp_ms = chance.choice((victim.timestamp_ms, victim.timestamp_ms, 0, 1 << 60))
        load.records.append(Sent(victim.at_us, victim.key, bad, timestamp_ms))
        load.poison += 1


class Producing:
    """Sends records from a thread, so many a second; leaving the context waits until all are acknowledged."""

    def __init__(self, bootstrap: str, records: Sequence[Sent], per_s: float) -> None:
        self._producer = Producer(
            client_config(bootstrap, linger_ms=5, delivery_timeout_ms=60_000, max_records=200_000)
        )
        self._records = records
        self._step = max(1, int(per_s / 20))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="producing", daemon=True)
        self.failed = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is not None:
            self._stop.set()
        self._thread.join()
        assert self._producer.flush(60) == 0
        assert not self.failed

    def _run(self) -> None:
        for start in range(0, len(self._records), self._step):
            for sent in self._records[start : start + self._step]:
                self._producer.produce(
                    TOUCHPOINTS, sent.value, sent.key, timestamp=sent.timestamp_ms, on_delivery=self._count
                )
            self._producer.poll(0)
            if self._stop.wait(0.05):
                return

    def _count(self, error: object, message: object) -> None:
        self.failed += error is not None


def produce(bootstrap: str, records: Sequence[Sent]) -> None:
    """Send records and wait until all are acknowledged."""
    with Producing(bootstrap, records, per_s=float("inf") if not records else 20.0 * len(records)):
        pass
