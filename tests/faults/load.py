"""What senders send, made from a seed: events for ingest and records for Kafka, with all that senders do wrong.

Pure: the same seed and start, the same load.
"""

from __future__ import annotations

import random
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson

from schemas.encode import Record, encode
from schemas.touchpoint import EVENT, to_record
from services.simulator import SimulationConfig, simulate
from tests.faults.plan import LoadPlan

_HOUR_US: Final = 3_600_000_000
_DAY_US: Final = 24 * _HOUR_US
_EVENTS_A_CUSTOMER: Final = 32
"""Of the simulator, in its 180 days."""
_MOST_IN_A_REQUEST: Final = 40
SENDERS: Final = 2
"""Of requests; a third one writes to Kafka itself."""


@dataclass(frozen=True, slots=True)
class Request:
    """A body for ingest. ``event_ids`` has one entry per event, None for one that must be refused."""

    at_s: float
    sender: int
    body: bytes
    event_ids: tuple[bytes | None, ...]
    patient: bool
    """Its sender tries again until there is an answer."""


@dataclass(frozen=True, slots=True)
class Direct:
    """A record for Kafka. ``event_id`` is None for poison."""

    at_s: float
    key: str
    value: bytes | None
    timestamp_ms: int
    event_id: bytes | None


@dataclass(slots=True)
class Load:
    """Everything that will be sent, in order, and what each event may say."""

    requests: list[Request] = field(default_factory=list)
    records: list[Direct] = field(default_factory=list)
    contents: dict[bytes, list[Record]] = field(default_factory=dict)
    """By event id; several where a sender contradicts itself."""
    repeats: int = 0
    conflicts: int = 0
    poison: int = 0
    refused: int = 0


def make_load(plan: LoadPlan, seed: int, prefix: str, now_us: int) -> Load:
    """The load of a run that starts at ``now_us``. Customers are called by ``prefix`` and a number.

    Half of the events (as planned) are live and go through ingest; the others are a simulated past that is put into
    Kafka as if ingest had taken it when it happened, up to an hour late and so out of order.
    """
    chance = random.Random(seed)
    days = max(20.0, 180.0 * plan.events / (_EVENTS_A_CUSTOMER * plan.customers))
    simulated = simulate(SimulationConfig(plan.customers, now_us, days=days, seed=seed, id_prefix=prefix)).events
    load = Load()
    single: list[tuple[float, dict[str, Any], bytes | None]] = []
    chosen = chance.sample(simulated, min(plan.events, len(simulated)))
    for event in sorted(chosen, key=lambda one: one["occurred_at"]):
        # The simulator's ids follow from its seed alone, and a plan may be carried out twice on one stack.
        own_id = f"{prefix}{event['event_id']}"
        event["event_id"] = own_id if chance.random() < 0.3 else str(uuid.uuid5(uuid.NAMESPACE_OID, own_id))
        if chance.random() < plan.by_http:
            _live(load, single, event, plan, chance, now_us)
        else:
            _past(load, event, plan, chance, now_us)
    _poison(load, plan, chance)
    load.records.sort(key=lambda record: record.at_s)
    _requests(load, single, plan, chance)
    return load


def _record_of(event: dict[str, Any], received_us: int) -> Record:
    return to_record(EVENT.validate_python(dict(event)), received_us)


def _live(
    load: Load,
    single: list[tuple[float, dict[str, Any], bytes | None]],
    event: dict[str, Any],
    plan: LoadPlan,
    chance: random.Random,
    now_us: int,
) -> None:
    at_s = chance.uniform(0, plan.seconds)
    age_us = chance.uniform(0, 40 * _DAY_US if chance.random() < plan.late else _HOUR_US / 3)
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=now_us + int(at_s * 1e6) - int(age_us))
    event = {**event, "occurred_at": at.isoformat()}
    record = _record_of(event, now_us)
    event_id: bytes = record["event_id"]
    load.contents[event_id] = [record]
    single.append((at_s, event, event_id))
    if chance.random() < plan.repeated:
        load.repeats += 1
        single.append((chance.uniform(at_s, plan.seconds), event, event_id))
    if chance.random() < plan.conflicting:
        load.conflicts += 1
        _send(load, _contradict(load, record), chance.uniform(at_s, plan.seconds), now_us + int(at_s * 1e6))
    if chance.random() < plan.refused:
        load.refused += 1
        single.append((at_s, {**event, "event_id": f"{event['customer_id']}-{load.refused}", "kind": "nonsense"}, None))


def _past(load: Load, event: dict[str, Any], plan: LoadPlan, chance: random.Random, now_us: int) -> None:
    record = _record_of(event, now_us)
    load.contents[record["event_id"]] = [record]
    occurred_us: int = record["occurred_at"]
    delay_us = chance.uniform(0, 40 * _DAY_US if chance.random() < plan.late else _HOUR_US)
    received_us = min(occurred_us + int(delay_us), now_us)
    at_s = chance.uniform(0, plan.seconds)
    _send(load, record, at_s, received_us)
    fate = chance.random()
    if fate < plan.repeated + plan.conflicting:
        if fate < plan.repeated:
            load.repeats += 1
        else:
            load.conflicts += 1
            record = _contradict(load, record)
        again_us = min(received_us + int(chance.uniform(0, chance.choice((_HOUR_US, 30 * _DAY_US)))), now_us)
        _send(load, record, chance.uniform(at_s, plan.seconds), again_us)


def _contradict(load: Load, record: Record) -> Record:
    other = {**record, "text": "said otherwise"}
    load.contents[record["event_id"]].append(other)
    return other


def _send(load: Load, record: Record, at_s: float, received_us: int) -> None:
    value = encode({**record, "received_at": received_us})
    load.records.append(Direct(at_s, record["customer_id"], value, received_us // 1000, record["event_id"]))


def _poison(load: Load, plan: LoadPlan, chance: random.Random) -> None:
    """Bytes that are no event, with any timestamps."""
    for victim in chance.sample(load.records, int(len(load.records) * plan.poison)):
        value = victim.value or b""
        bad = chance.choice(
            (None, b"", chance.randbytes(40), value[: len(value) // 2], value + b"\0", value[:2] + chance.randbytes(60))
        )
        timestamp_ms = chance.choice((victim.timestamp_ms, victim.timestamp_ms, 0, 1 << 60))
        load.records.append(Direct(victim.at_s, victim.key, bad, timestamp_ms, None))
        load.poison += 1


def _requests(
    load: Load,
    single: list[tuple[float, dict[str, Any], bytes | None]],
    plan: LoadPlan,
    chance: random.Random,
) -> None:
    """Put events that come one after another into requests of one to many."""
    single.sort(key=lambda one: one[0])
    start = 0
    while start < len(single):
        part = single[start : start + chance.randint(1, _MOST_IN_A_REQUEST)]
        start += len(part)
        load.requests.append(
            Request(
                part[-1][0],
                chance.randrange(SENDERS),
                orjson.dumps([event for _, event, _ in part]),
                tuple(event_id for _, _, event_id in part),
                chance.random() >= plan.gives_up,
            )
        )
