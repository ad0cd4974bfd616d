"""From a seed to a run: how much load of what sort, and which faults when. Pure: the same seed, the same plan."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Final

SESSION_S: Final = 10.0
"""After so long without a sign of life a group takes a worker for dead."""


class Kind(StrEnum):
    """What goes wrong."""

    KILL = "kill"
    """kill -9; the part is started again as its supervisor would."""
    PAUSE = "pause"
    """SIGSTOP, and SIGCONT at the end."""
    CUT = "cut"
    """All connections of a link are reset, new ones are refused."""
    HANG = "hang"
    """Nothing passes on a link, in either direction."""
    HANG_REPLIES = "hang replies"
    """Requests pass, answers do not; at the end the connections are reset."""
    CUT_REPLY = "cut reply"
    """One answer after another is cut in its middle, each after ``detail`` bytes."""
    RESETS = "resets"
    """All connections of a link are reset every ``detail`` milliseconds."""
    DELAY = "delay"
    """Each piece of a link's bytes takes up to ``detail`` milliseconds."""
    SLOW = "slow"
    """A link passes ``detail`` KiB a second."""
    DISK_FULL = "disk full"
    """No byte more on the disk of a part."""
    TABLE_AWAY = "table away"
    """A table has another name for a while: statements are refused."""
    CLOCK = "clock"
    """The clock of a part is ``detail`` seconds off, back at the end."""
    VISIT = "visit"
    """A second worker comes, and leaves in order."""
    KILLED_VISIT = "killed visit"
    """A second worker comes, and is killed."""


WORKER: Final = "scoring-1"
VISITOR: Final = "scoring-2"
INGEST: Final = "ingest"
KAFKA: Final = "kafka"
TABLES: Final = "clickhouse"
ALL: Final = "all"
WORKER_KAFKA: Final = "worker-kafka"
WORKER_TABLES: Final = "worker-clickhouse"
INGEST_KAFKA: Final = "ingest-kafka"
LINKS: Final = (WORKER_KAFKA, WORKER_TABLES, INGEST_KAFKA)
TABLES_TAKEN_AWAY: Final = ("touchpoints", "customer_state", "loyalty_signals", "rejected_events", "repeated_events")
HOUR_S: Final = 3600
DAY_S: Final = 24 * HOUR_S


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong, seconds after the load's start. ``detail``: see `Kind`."""

    at_s: float
    kind: Kind
    target: str
    for_s: float = 0.0
    detail: int = 0

    @property
    def end_s(self) -> float:
        return self.at_s + self.for_s

    def __str__(self) -> str:
        span = f" for {self.for_s:.1f} s" if self.for_s else ""
        return f"{self.at_s:5.1f} s: {self.kind.value} {self.target}{span}" + (
            f" ({self.detail})" if self.detail else ""
        )


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """What senders do. Shares are of the events, 0 to 1."""

    seconds: float = 14.0
    events: int = 4_000
    """Distinct events; repeats and poison come on top."""
    customers: int = 120
    by_http: float = 0.5
    """Sent to ingest; the others go to Kafka by the sender itself."""
    repeated: float = 0.10
    conflicting: float = 0.01
    late: float = 0.05
    """Received up to forty days after they happened."""
    poison: float = 0.005
    """Records that are no event, put into the log."""
    refused: float = 0.01
    """Events that ingest has to refuse."""
    gives_up: float = 0.1
    """Requests whose sender does not try again: their outcome stays unknown when no answer came."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A run."""

    seed: int
    load: LoadPlan
    faults: tuple[Fault, ...]

    def __str__(self) -> str:
        load = self.load
        lines = [
            f"seed {self.seed}: {load.events} events of {load.customers} customers in {load.seconds:.0f} s",
            *(f"  {fault}" for fault in self.faults),
        ]
        return "\n".join(lines)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def kinds_on(self, target: str) -> frozenset[Kind]:
        """What happens to one target; a fault of all is one of each."""
        return frozenset(fault.kind for fault in self.faults if fault.target in (target, ALL))


Draw = Callable[[random.Random, float], Fault]
"""A fault at a given second."""


def _kill(target: str) -> Draw:
    return lambda chance, at: Fault(at, Kind.KILL, target)


def _lasting(kind: Kind, target: str, least_s: float, most_s: float, *details: int) -> Draw:
    return lambda chance, at: Fault(
        at, kind, target, round(chance.uniform(least_s, most_s), 2), chance.choice(details) if details else 0
    )


def _on_a_link(kind: Kind, least_s: float, most_s: float, *details: int) -> Draw:
    def draw(chance: random.Random, at: float) -> Fault:
        target = chance.choice(LINKS)
        return _lasting(kind, target, least_s, most_s, *details)(chance, at)

    return draw


def _table_away(chance: random.Random, at: float) -> Fault:
    return Fault(at, Kind.TABLE_AWAY, chance.choice(TABLES_TAKEN_AWAY), round(chance.uniform(0.5, 4), 2))


def _cut_reply(chance: random.Random, at: float) -> Fault:
    # A header, a column, a block; of Kafka an acknowledgement, a fetch.
    detail = chance.choice((1, 5, chance.randint(6, 60), chance.randint(60, 2_000), chance.randint(2_000, 40_000)))
    return Fault(at, Kind.CUT_REPLY, chance.choice(LINKS), round(chance.uniform(1, 4), 2), detail)


DRAWS: Final[tuple[tuple[int, Draw], ...]] = (
    (6, _kill(WORKER)),
    (3, _kill(INGEST)),
    (3, _kill(KAFKA)),
    (3, _kill(TABLES)),
    (1, _kill(ALL)),
    (2, _lasting(Kind.PAUSE, WORKER, 1, 6)),
    (2, _lasting(Kind.PAUSE, WORKER, SESSION_S + 1, SESSION_S + 3)),
    (1, _lasting(Kind.PAUSE, INGEST, 1, 6)),
    (2, _lasting(Kind.PAUSE, KAFKA, 1, 8)),
    (2, _lasting(Kind.PAUSE, TABLES, 1, 8)),
    (3, _on_a_link(Kind.CUT, 0.5, 6)),
    (3, _on_a_link(Kind.HANG, 1, 8)),
    (2, _on_a_link(Kind.HANG_REPLIES, 1, 8)),
    (3, _cut_reply),
    (2, _on_a_link(Kind.RESETS, 2, 6, 300, 1000, 2000)),
    (2, _on_a_link(Kind.DELAY, 3, 8, 50, 200, 500)),
    (1, _on_a_link(Kind.SLOW, 3, 8, 32, 128)),
    (2, _lasting(Kind.DISK_FULL, TABLES, 1, 5)),
    (1, _lasting(Kind.DISK_FULL, KAFKA, 1, 3)),
    (3, _table_away),
    (2, _lasting(Kind.CLOCK, WORKER, 2, 8, HOUR_S, -HOUR_S, 400 * DAY_S)),
    (2, _lasting(Kind.CLOCK, INGEST, 2, 8, HOUR_S, -HOUR_S, 400 * DAY_S)),
    (2, _lasting(Kind.VISIT, VISITOR, 4, 9)),
    (2, _lasting(Kind.KILLED_VISIT, VISITOR, 4, 9)),
)
"""Weights and faults."""


def make_plan(seed: int, *, seconds: float = 14.0) -> Plan:
    """One to four faults, of which several often begin at the same moment. ``seconds`` of load."""
    chance = random.Random(seed)
    load = LoadPlan(
        seconds=seconds,
        events=round(seconds * chance.uniform(180, 420)),
        customers=chance.choice((40, 120, 300)),
        by_http=round(chance.uniform(0.3, 0.7), 2),
        repeated=chance.choice((0.05, 0.10, 0.20)),
        late=chance.choice((0.0, 0.05, 0.20)),
        poison=chance.choice((0.0, 0.005, 0.01)),
    )
    faults: list[Fault] = []
    for _ in range(chance.choices((1, 2, 3, 4), (5, 3, 2, 1))[0]):
        at_s = round(chance.uniform(1.5, 0.75 * seconds), 2)
        if faults and chance.random() < 0.6:
            at_s = faults[-1].at_s  # at once
        fault = _draw(chance, at_s)
        if not any(_collides(fault, other) for other in faults):
            faults.append(fault)
    return Plan(seed, load, tuple(sorted(faults, key=lambda fault: fault.at_s)))


KILLED: Final = (WORKER, INGEST, KAFKA, TABLES)


def make_kill_plan(seed: int) -> Plan:
    """One part killed, each in its turn, under an even load that outlasts its return: how long that takes."""
    chance = random.Random(seed)
    load = LoadPlan(seconds=24.0, events=6_000, repeated=0.0, conflicting=0.0, late=0.0, poison=0.0, refused=0.0)
    return Plan(seed, load, (Fault(round(chance.uniform(3, 6), 2), Kind.KILL, KILLED[seed % len(KILLED)]),))


def _draw(chance: random.Random, at_s: float) -> Fault:
    [draw] = chance.choices([draw for _, draw in DRAWS], [weight for weight, _ in DRAWS])
    return draw(chance, at_s)


_VISITS: Final = (Kind.VISIT, Kind.KILLED_VISIT)


def _collides(one: Fault, other: Fault) -> bool:
    """Two of a sort on one target at a time would end one another."""
    same = one.target == other.target or (one.kind in _VISITS and other.kind in _VISITS)
    return same and one.at_s <= other.end_s + 1 and other.at_s <= one.end_s + 1
