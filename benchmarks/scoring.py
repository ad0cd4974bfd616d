"""How fast a worker scores: a log that is there already, from joining the group to the last commit."""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.log import Log, LogSpec, kept, produce
from benchmarks.peers.run import FOLDER, measure
from benchmarks.stack import MOST_WORKERS, BenchmarkError, Drain, Stack
from infra.clickhouse.client import ClickHouse
from schemas.state_layout import VERSION, packed_sql
from schemas.tables import CUSTOMER_STATE, DATABASE, REPEATED_EVENTS, TOUCHPOINTS
from schemas.topics import TOUCHPOINTS as TOPIC

TIMEOUT_S: Final = 300.0
MEMORY_WORKER: Final = "benchmarks.memory_worker"
PLAIN_FAUST: Final = FOLDER / "plain_faust.py"
CACHED: Final = 300_000
"""Customers that a worker keeps in memory by default; with more of them, their states lie in the table beforehand."""


@dataclass(frozen=True, slots=True)
class Result:
    """Runs of one kind, and the one of median speed."""

    name: str
    runs: tuple[Drain, ...]

    @property
    def median(self) -> Drain:
        return sorted(self.runs, key=lambda run: run.events_per_s)[len(self.runs) // 2]

    @property
    def events_per_s(self) -> float:
        return statistics.median(run.events_per_s for run in self.runs)

    @property
    def peak_rss_mib(self) -> float:
        """Of the worker, the highest of all runs."""
        return max(run.used["worker"].peak_rss_mib for run in self.runs)

    def line(self) -> str:
        """For people."""
        cpu = ", ".join(f"{name} {self.median.cpu_us_per_event(name):.1f}" for name in self.median.used)
        return (
            f"{self.name:32s} {self.events_per_s:10,.0f} events/s   CPU us/event: {cpu}   "
            f"worker peak {self.peak_rss_mib:,.0f} MiB"
        )


WITHOUT_REVIEWS: Final = {"TOUCHSTONE_SCORING_REVIEW_INTERVAL_S": "3600"}
"""They wait for the end of a backlog anyway, and would be appended to the log that the next run reads."""


@contextmanager
def loaded(log: Log, folder: Path | None = None) -> Iterator[Stack]:
    """A stack whose topic holds the log; only Kafka runs."""
    with Stack(folder) as stack:
        stack.start("kafka", "topics")
        produce(log, stack.bootstrap, TOPIC)
        yield stack


def drain(
    stack: Stack,
    module: str | None = None,
    arguments: tuple[str, ...] = (),
    settings: Mapping[str, str] | None = None,
    workers: int = 1,
) -> Drain:
    """Let fresh workers go through the log from its beginning, once."""
    stack.forget_positions()
    try:
        started = [stack.start_worker(module, arguments, settings or {}, number) for number in range(1, workers + 1)]
        return stack.measure_drain(started, TIMEOUT_S)
    finally:
        stack.stop_workers()


def whole_path(stack: Stack, repeats: int, name: str, states: int = 0, workers: int = 1) -> Result:
    """Scoring as it is, into tables that hold nothing but so many customers' states."""
    runs = []
    for _ in range(repeats):
        stack.fresh_tables()
        if states:
            with stack.clickhouse() as client:
                fill_states(client, states)
        ends = stack.end_offsets()
        run = drain(stack, settings=WITHOUT_REVIEWS, workers=workers)
        with stack.clickhouse() as client:
            check(client, ends)
        runs.append(run)
    stack.stop("clickhouse")
    return Result(name, tuple(runs))


def in_memory(stack: Stack, repeats: int, name: str, *arguments: str, workers: int = 1) -> Result:
    """Workers without tables over the same log."""
    return Result(name, tuple(drain(stack, MEMORY_WORKER, arguments, workers=workers) for _ in range(repeats)))


def plain_faust(stack: Stack, events: int) -> float:
    """Events per second of a plain Faust agent with a Table over the first events of the same log."""
    return measure([sys.executable, str(PLAIN_FAUST)], stack.bootstrap, events, TIMEOUT_S, stack.folder)


def check(client: ClickHouse, ends: Mapping[int, int]) -> None:
    """Every event of the log below these offsets, by partition, is stored; else the speed means nothing."""
    events = sum(ends.values())
    below = " OR ".join(f"log_partition = {partition} AND log_offset < {end}" for partition, end in ends.items())
    stored = 0
    # Repeats too: a worker that joins another may look for due reviews before it knows of the backlog, as that one did.
    for table in (TOUCHPOINTS, REPEATED_EVENTS):
        [(found,)] = client.query(
            f"SELECT uniqExact(log_partition, log_offset) FROM {DATABASE}.{table.name} WHERE {below}"
        )
        stored += found
    if stored < events:
        raise BenchmarkError(f"{events:,} events were in the log and {stored:,} are stored")


def fill_states(client: ClickHouse, customers: int) -> None:
    """Give every customer a state, as if they had been there for long: what is not in the cache has to be found."""
    times = "toDateTime64(now(), 6, 'UTC') - toIntervalSecond(86400 + rand() % 5000000)"
    values: Mapping[str, str] = {
        "log_partition": "kafkaMurmurHash(customer_id) % 4",
        "log_offset": "-1",
        "updated_at": times,
        "events": "1 + rand(1) % 40",
        "felt": "1 + rand(2) % 20",
        "first_event_at": "toDateTime64(now(), 6, 'UTC') - toIntervalSecond(6000000)",
        "last_event_at": times,
        "band": "'low'",
        "recent_ids": "randomFixedString(128)",
    }
    random = {c.name: f"randCanonical({i})" for i, c in enumerate(CUSTOMER_STATE.columns) if c.type == "Float64"}
    customer = "concat('c-', leftPad(toString(number), 8, '0'))"
    columns = {"customer_id": customer, VERSION: values[VERSION], **packed_sql({**random, **values})}
    step = 1_000_000
    for start in range(0, customers, step):
        rows = min(step, customers - start)
        selected = ", ".join(f"{sql} AS {name}" for name, sql in columns.items())
        client.query(
            f"INSERT INTO {DATABASE}.{CUSTOMER_STATE.name} ({', '.join(columns)}) "
            f"SELECT {selected} FROM numbers({start}, {rows})"
        )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scoring", description=__doc__)
    parser.add_argument("what", nargs="*", default=["whole"], help="whole, memory, read, faust")
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--customers", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1, help=f"at most {MOST_WORKERS}")
    parser.add_argument("--profile", type=Path, help="folder for a profile of the worker (in-memory kinds)")
    parser.add_argument("--data", type=Path, default=Path(".touchstone/bench"), help="folder of kept logs")
    options = parser.parse_args()
    log = kept(LogSpec(options.events, options.customers), options.data, time.time_ns() // 1000)
    with loaded(log) as stack:
        for what in options.what:
            if what == "whole":
                states = options.customers if options.customers > CACHED else 0
                result = whole_path(stack, options.repeats, "whole path", states, options.workers)
            elif what == "memory":
                result = in_memory(stack, options.repeats, "fold only", workers=options.workers)
            elif what == "read":
                result = in_memory(stack, options.repeats, "read only", "--read-only", workers=options.workers)
            else:
                rate = plain_faust(stack, min(options.events, 100_000))
                print(f"{'plain Faust':32s} {rate:10,.0f} events/s", flush=True)
                continue
            print(result.line(), flush=True)


if __name__ == "__main__":
    main()
