"""A log of touchpoints for benchmarks: the simulator's mix of events, spread over many customers, as bytes.

Building events one by one would take longer than scoring them. So what an event says is taken from a few thousand
simulated customers and kept as encoded bytes; identity, customer and times are put in front of it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from schemas.encode import encode, encode_long
from schemas.touchpoint import EVENT, to_record
from schemas.versions import HEADER_BYTES
from services.simulator import SimulationConfig, simulate

MOST_TEMPLATE_CUSTOMERS: Final = 1_000
EVENTS_PER_TEMPLATE_CUSTOMER: Final = 100
KEEPS_TEXT: Final = 10
"""One event in so many keeps the text and attributes of its template; most senders send neither."""
FRESH_S: Final = 86_400
"""A kept log is used for a day: scores and risk move with the clock, so events must have come lately."""
_ID_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class LogSpec:
    """What a log holds."""

    events: int = 1_000_000
    customers: int = 100_000
    rate_per_s: float = 5_000.0
    """Of received_at: so many events come in one second, the last of them when the log is made."""
    history_days: float = 0.0
    """Above 0 events happened in these days before they came, in order, as an import brings them; else just before."""
    seed: int = 1

    def __post_init__(self) -> None:
        if min(self.events, self.customers) < 1 or self.rate_per_s <= 0:
            raise ValueError("events, customers and rate_per_s must be positive")


@dataclass(frozen=True, slots=True)
class Log:
    """Records in the order in which they came, as columns."""

    spec: LogSpec
    customer: npt.NDArray[np.int64]
    """Number of the customer; `customer_id` makes the key of it."""
    received_ms: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    """Where each value ends in ``data``."""
    data: bytes

    def __len__(self) -> int:
        return len(self.customer)

    def values(self) -> list[bytes]:
        """The records' values."""
        ends = self.ends.tolist()
        return [self.data[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]

    def keys(self) -> list[str]:
        """The records' keys."""
        return [customer_id(number) for number in self.customer.tolist()]


def customer_id(number: int) -> str:
    """Name of a customer of the benchmarks; SQL says the same as ``concat('c-', leftPad(toString(n), 8, '0'))``."""
    return f"c-{number:08d}"


def make(spec: LogSpec, now_us: int) -> Log:
    """Make a log whose last event comes at ``now_us``; some 2 us an event."""
    rng = np.random.default_rng(spec.seed)
    header, tails = _templates(spec, now_us)
    number = rng.integers(0, spec.customers, spec.events)
    template = rng.integers(0, len(tails), spec.events)
    step_us = 1e6 / spec.rate_per_s
    received = now_us - ((spec.events - 1 - np.arange(spec.events)) * step_us).astype(np.int64)
    if spec.history_days:
        happened = now_us - (spec.history_days * 86_400e6 * (1 - np.arange(spec.events) / spec.events)).astype(np.int64)
        occurred = np.minimum(happened, received)
    else:
        occurred = received - _delays_us(rng, spec.events)
    ids = rng.bytes(_ID_BYTES * spec.events)
    values = [
        b"".join((header, ids[at : at + _ID_BYTES], _name(customer), encode_long(when), encode_long(came), tails[of]))
        for at, customer, when, came, of in zip(
            range(0, len(ids), _ID_BYTES),
            number.tolist(),
            occurred.tolist(),
            received.tolist(),
            template.tolist(),
            strict=True,
        )
    ]
    ends = np.cumsum(np.fromiter(map(len, values), dtype=np.int64, count=len(values)))
    return Log(spec, number, received // 1000, ends, b"".join(values))


def _delays_us(rng: np.random.Generator, events: int) -> npt.NDArray[np.int64]:
    """Most senders report at once, some in batches of minutes."""
    slow = np.where(rng.random(events) < 0.1, 60.0, 1.0)
    return (rng.exponential(2.0, events) * slow * 1e6).astype(np.int64)


def _name(number: int) -> bytes:
    name = customer_id(number).encode()
    return encode_long(len(name)) + name


def _templates(spec: LogSpec, now_us: int) -> tuple[bytes, list[bytes]]:
    """The header of a record, and what stands behind received_at in each simulated event."""
    customers = min(MOST_TEMPLATE_CUSTOMERS, 1 + spec.events // EVENTS_PER_TEMPLATE_CUSTOMER)
    simulation = simulate(SimulationConfig(customers, now_us, seed=spec.seed))
    tails = []
    header = b""
    for index, event in enumerate(simulation.events):
        if index % KEEPS_TEXT:
            event.pop("text", None)
            event.pop("attributes", None)
        record = to_record(EVENT.validate_python(event), now_us)
        value = encode(record)
        header = value[:HEADER_BYTES]
        front = (
            HEADER_BYTES
            + _ID_BYTES
            + len(
                encode_long(len(record["customer_id"].encode()))
                + record["customer_id"].encode()
                + encode_long(record["occurred_at"])
                + encode_long(record["received_at"])
            )
        )
        tails.append(value[front:])
    return header, tails


def kept(spec: LogSpec, folder: Path, now_us: int) -> Log:
    """The log of ``folder`` if it is not older than `FRESH_S`, else a new one, kept there."""
    name = hashlib.sha256(json.dumps(asdict(spec), sort_keys=True).encode()).hexdigest()[:12]
    path = folder / f"log-{name}.npz"
    if path.exists() and now_us / 1e6 - path.stat().st_mtime < FRESH_S:
        with np.load(path) as file:
            return Log(spec, file["customer"], file["received_ms"], file["ends"], file["data"].tobytes())
    log = make(spec, now_us)
    folder.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".tmp.npz")
    np.savez(
        partial,
        customer=log.customer,
        received_ms=log.received_ms,
        ends=log.ends,
        data=np.frombuffer(log.data, dtype=np.uint8),
    )
    partial.replace(path)
    return log


def produce(log: Log, bootstrap: str, topic: str) -> None:
    """Put the log into a topic as ingest does: key, partitioner, timestamps. RuntimeError if a record is lost."""
    from confluent_kafka import Producer

    from infra.kafka.producer import client_config

    settings = client_config(bootstrap, linger_ms=20, delivery_timeout_ms=60_000, max_records=200_000)
    producer = Producer({**settings, "batch.size": 1 << 20, "batch.num.messages": 50_000})
    lost = 0

    def count(error: object, _message: object) -> None:
        nonlocal lost
        lost += error is not None

    for key, value, at_ms in zip(log.keys(), log.values(), log.received_ms.tolist(), strict=True):
        while True:
            try:
                producer.produce(topic, value, key, timestamp=at_ms, on_delivery=count)
                break
            except BufferError:
                producer.poll(0.05)
    if producer.flush(60) or lost:
        raise RuntimeError(f"{lost + len(producer)} records did not reach Kafka at {bootstrap}")
