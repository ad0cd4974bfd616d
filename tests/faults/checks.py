"""The invariants, held against what senders know, by SQL and by recomputation.

I1 what was acknowledged is stored. I2 each record of the log is in exactly one table, each event once. I3 what is
stored was sent, and says what was sent. I4 the sums are even, per source. I5 states are those of a fold from offset
0 and of one SQL query. I6 signals are those of that fold. I7 positions never go back. I8 everything is done with in
time and by itself. I9 memory, threads and open files stay under their caps. I10 ingest answers in time and with what
it may answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import psutil

from infra.clickhouse.client import ClickHouse
from infra.kafka.admin import KafkaAdmin
from schemas.encode import Record
from schemas.topics import REJECTED, REJECTED_GROUP, TOUCHPOINTS
from tests.e2e import checker
from tests.faults.load import Load
from tests.faults.plan import INGEST, INGEST_KAFKA, KAFKA, VISITOR, WORKER, Kind, Plan
from tests.faults.senders import ANSWER_S, Book
from tests.faults.stack import Stack

COMPARED: Final = (
    *("customer_id", "source", "kind", "touchpoint", "channel", "journey_id", "outcome", "metric", "rating"),
    *("emotion", "intensity", "confidence", "amount_micros", "currency", "case_id", "text"),
)
"""Columns of an event that are its sender's, besides the time and the attributes."""
MAY_ANSWER: Final = frozenset({"202", "400", "408", "413", "415", "422", "429", "503"})
CAPS: Final = {"memory_mib": 1024, "threads": 200, "open files": 500}
"""Of a worker and of ingest."""


@dataclass(frozen=True, slots=True)
class Violation:
    """An invariant that does not hold, and how that shows."""

    invariant: str
    detail: str

    def __str__(self) -> str:
        return f"{self.invariant}: {self.detail}"


@dataclass(slots=True)
class Run:
    """What a run's checks know. ``prefix`` begins the names of its customers."""

    plan: Plan
    prefix: str
    load: Load
    book: Book
    logged: dict[tuple[int, int], bytes | None] = field(default_factory=dict)
    """Records of the log since the run's start, by partition and offset; checks that are made again read on."""
    figures: dict[str, int] = field(default_factory=dict)
    """What the checks counted."""


def check_all(stack: Stack, run: Run, client: ClickHouse) -> list[Violation]:
    """All that can be asked of a stack at rest. Global ones cover earlier runs on the same stack too."""
    expected = stack.expected
    log = checker.read_topic(stack.bootstrap, TOUCHPOINTS, expected.positions)
    expected.read_on(log)
    run.logged |= {(partition, record.offset): record.value for partition, records in log.items() for record in records}
    bootstrap = stack.bootstrap
    found: list[Violation] = []
    stored: list[dict[str, Any]] = []
    asked: list[tuple[str, str, Callable[[], Iterable[str] | None]]] = [
        ("I1", "acknowledged", lambda: acknowledged_and_missing(run, expected.stored_ids)),
        ("I2", "one place for each record", lambda: checker.check_fates(client, expected)),
        ("I2", "each event once", lambda: checker.check_events(client, expected)),
        ("I3", "the run's events are read", lambda: stored.extend(stored_events(client, run.prefix))),
        ("I3", "as sent", lambda: strangers(run, stored)),
        ("I4", "sums by source", lambda: uneven_sums(run, stored)),
        ("I4", "topic rejected", lambda: checker.check_rejected_topic(bootstrap, expected)),
        ("I4", "refused at the edge", lambda: refusals_missing(stack, client)),
        ("I5", "states are those of the fold", lambda: checker.check_states(client, expected)),
        ("I5", "states are those of the query", lambda: checker.check_recomputed(client)),
        ("I6", "signals", lambda: checker.check_signals(bootstrap, client, expected)),
        ("I7", "positions", lambda: list(stack.watch.went_back)),
        ("I9", "caps", lambda: over_caps(stack)),
        ("I10", "answers", lambda: wrong_answers(run)),
    ]
    for invariant, what, ask in asked:
        try:
            found += [Violation(invariant, detail) for detail in ask() or ()]
        except AssertionError as error:
            said = " ".join(line.strip() for line in str(error).strip().splitlines()[:12])[:600]
            found.append(Violation(invariant, f"{what}: {said or 'not so'}"))
    run.figures = {
        "stored": len(stored),
        "lost": len(run.book.acknowledged - {_id(row) for row in stored}),
        "surplus": len(stored) - len({_id(row) for row in stored} & run.book.tried),
        "customers": len({row["customer_id"] for row in stored}),
    }
    return found


def ends(stack: Stack) -> Mapping[int, int]:
    """Where the log ends."""
    with KafkaAdmin(stack.bootstrap, timeout_s=30) as admin:
        return admin.end_offsets(TOUCHPOINTS)


def acknowledged_and_missing(run: Run, stored_ids: set[bytes]) -> Iterable[str]:
    """I1. ``stored_ids``: of all events in the log; that the table has the same is I2."""
    lost = run.book.acknowledged - stored_ids
    if lost:
        yield f"{len(lost)} events were acknowledged and are not in the log, one of them {min(lost).hex()}"
    # No record is these two bytes.
    moved = [place for place, value in run.book.places.items() if run.logged.get(place, b"\0\0") != value]
    if moved:
        yield f"{len(moved)} records that Kafka acknowledged are not where it said, one of them {min(moved)}"


def stored_events(client: ClickHouse, prefix: str) -> list[dict[str, Any]]:
    """Stored events of a run's customers, without reviews."""
    columns = (*COMPARED, "attributes")
    plain = ", ".join(f"toString({name}) AS {name}" if name in _NAMES else name for name in columns)
    sql = (
        f"SELECT {plain}, hex(event_id) AS id, toUnixTimestamp64Micro(occurred_at) AS occurred_us "
        "FROM touchstone.touchpoints FINAL WHERE startsWith(customer_id, %(prefix)s) AND kind != 'review_due'"
    )
    names = (*columns, "id", "occurred_us")
    rows = client.query(sql, {"prefix": prefix})
    return [dict(zip(names, row, strict=True)) for row in rows]


_NAMES: Final = frozenset({"source", "kind", "touchpoint", "channel", "outcome", "metric", "emotion", "currency"})


def strangers(run: Run, stored: list[dict[str, Any]]) -> Iterable[str]:
    """I3."""
    seen: Counter[bytes] = Counter(_id(row) for row in stored)
    twice = [event_id for event_id, count in seen.items() if count > 1]
    if twice:
        yield f"{len(twice)} events are stored more than once, one of them {min(twice).hex()}"
    never = [event_id for event_id in seen if event_id not in run.book.tried]
    if never:
        yield f"{len(never)} stored events were never sent, one of them {min(never).hex()}"
    for row in stored:
        said = run.load.contents.get(_id(row), [])
        if said and not any(same(row, record) for record in said):
            yield f"event {_id(row).hex()} is stored as {row}, sent as {said[0]}"
            return


def same(row: Mapping[str, Any], record: Record) -> bool:
    """A stored event says what was sent."""
    return (
        row["occurred_us"] == record["occurred_at"]
        and dict(row["attributes"]) == dict(record.get("attributes") or {})
        and all((row[name] or None) == (record.get(name) or None) for name in COMPARED)
    )


def _id(row: Mapping[str, Any]) -> bytes:
    return bytes.fromhex(row["id"])


def uneven_sums(run: Run, stored: list[dict[str, Any]]) -> Iterable[str]:
    """I4: per source, no fewer than were acknowledged and no more than may have been taken."""
    book = run.book
    source_of = {event_id: records[0]["source"] for event_id, records in run.load.contents.items()}
    count = Counter(source_of.get(_id(row), "?") for row in stored)
    least = Counter(source_of[event_id] for event_id in book.acknowledged)
    most = Counter(source_of[event_id] for event_id in book.acknowledged | book.unknown)
    for source in sorted(count.keys() | most.keys()):
        if not least[source] <= count[source] <= most[source]:
            yield f"source {source}: {count[source]} stored, {least[source]} to {most[source]} were taken"
    wrong = {_id(row) for row in stored} & (book.refused - book.acknowledged - book.unknown)
    if wrong:
        yield f"{len(wrong)} events are stored that ingest refused, one of them {min(wrong).hex()}"
    if book.accepted_wrongly:
        yield f"{book.accepted_wrongly} events were accepted that no contract allows"


def note_refusals(stack: Stack, run: Run) -> None:
    """Refusals of a run to be looked for later. One on its way to Kafka may be lost with ingest or Kafka: no 202."""
    if not any(run.plan.kinds_on(target) for target in (INGEST, KAFKA, INGEST_KAFKA)):
        stack.refusals[run.prefix] = run.book.refusals


def refusals_missing(stack: Stack, client: ClickHouse) -> Iterable[str]:
    """I4: what ingest refused is kept. Asked once the follower of topic rejected, a group of its own, is through."""
    with KafkaAdmin(stack.bootstrap, timeout_s=30) as admin:
        if any(at.lag for at in admin.group_lag(REJECTED_GROUP, REJECTED)):
            return
    for prefix, refused in stack.refusals.items():
        [(kept,)] = client.query(
            "SELECT count() FROM touchstone.rejected_events FINAL WHERE stage = 'ingest' "
            "AND startsWith(customer_id, %(prefix)s)",
            {"prefix": prefix},
        )
        if kept != refused:
            yield f"{refused} events of {prefix} were refused at the edge, {kept} of them are kept"
    stack.refusals.clear()


def over_caps(stack: Stack) -> Iterable[str]:
    """I9."""
    for name in (WORKER, VISITOR, INGEST):
        for what, value in usage(stack, name).items():
            if value > CAPS[what]:
                yield f"{name} has {value:.0f} {what}, more than {CAPS[what]}"


def usage(stack: Stack, name: str) -> dict[str, float]:
    """Memory, threads and open files of a part; empty while it does not run."""
    pid = stack.keeper.pid(name)
    if pid is None:
        return {}
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            return {
                "memory_mib": process.memory_info().rss / (1 << 20),
                "threads": process.num_threads(),
                "open files": process.num_fds(),
            }
    except psutil.NoSuchProcess:
        return {}


def wrong_answers(run: Run) -> Iterable[str]:
    """I10."""
    statuses = run.book.statuses
    wrong = {status: count for status, count in statuses.items() if status.isdigit() and status not in MAY_ANSWER}
    if wrong:
        yield f"ingest answered {wrong}"
    excused = run.plan.kinds_on(INGEST) & {Kind.PAUSE, Kind.KILL}
    if statuses["TimeoutError"] and not excused:
        yield f"{statuses['TimeoutError']} requests had no answer within {ANSWER_S:.0f} s"
    broken = {name: count for name, count in statuses.items() if not name.isdigit() and name != "TimeoutError"}
    if broken and Kind.KILL not in run.plan.kinds_on(INGEST):
        yield f"connections of a running ingest failed: {broken}"
