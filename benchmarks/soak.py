"""Hours in small: a steady load over HTTP for many minutes, no tables in the middle, and what memory does meanwhile.

Asked: is every accepted event stored once, does memory stay where it was, does ingest go on accepting while ClickHouse
is away, and how fast does the backlog drain against what arrives.
"""

from __future__ import annotations

import argparse
import time
from contextlib import closing
from dataclasses import dataclass
from typing import Final

import numpy as np

from benchmarks.freshness import Board, Load, start_senders
from benchmarks.stack import BenchmarkError, Stack, Uncommitted
from infra.clickhouse.client import ClickHouse
from schemas.tables import DATABASE

SAMPLE_S: Final = 2.0
WARM_SHARE: Final = 0.25
"""Of the time before memory is looked at: caches fill, the machine code of Java is made."""
PARTS: Final = ("scoring-1", "ingest", "clickhouse", "kafka")
QUIET_S: Final = 300.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One look: monotonic seconds, records not yet committed, events accepted so far, MiB by part."""

    at_s: float
    lag: int
    accepted: int
    rss_mib: dict[str, float]


class Watch:
    """Looks at a stack from time to time."""

    def __init__(self, stack: Stack, board: Board) -> None:
        self._stack, self._board = stack, board
        self._uncommitted = Uncommitted(stack.bootstrap, stack.end_offsets())
        self.samples: list[Sample] = []

    def look(self) -> Sample:
        """Take a sample and keep it. BenchmarkError when a part or a sender has ended early."""
        self._stack.require_alive()
        if self._board.errors:
            raise BenchmarkError(self._board.errors[0])
        lag = self._uncommitted.before(self._stack.end_offsets())
        rss = {name: part.process.memory_info().rss / (1 << 20) for name, part in self._stack.running().items()}
        sample = Sample(time.monotonic(), lag, self._board.accepted, rss)
        self.samples.append(sample)
        return sample

    def until(self, moment_s: float) -> None:
        """Look until a moment (monotonic)."""
        while self.look().at_s < moment_s:
            time.sleep(SAMPLE_S)

    def until_lag_below(self, records: int, within_s: float) -> float:
        """Look until no more records wait than these; returns when (monotonic)."""
        deadline_s = time.monotonic() + within_s
        while (sample := self.look()).lag > records:
            if sample.at_s > deadline_s:
                raise BenchmarkError(f"{sample.lag:,} records still wait after {within_s:.0f} s")
            time.sleep(SAMPLE_S)
        return self.samples[-1].at_s

    def close(self) -> None:
        """Leave Kafka."""
        self._uncommitted.close()


def run(minutes: float, outage_s: float, load: Load) -> None:
    """Everything, with a line for each answer."""
    board = Board()
    with Stack() as stack:
        stack.start("kafka", "topics", "clickhouse", "migrations", "scoring-1", "ingest")
        with closing(Watch(stack, board)) as watch:
            started_s = time.monotonic()
            senders = start_senders(stack, load, board)
            watch.until(started_s + 60 * minutes / 2)
            if outage_s:
                _outage(stack, watch, board, load, outage_s)
            while any(sender.is_alive() for sender in senders):
                watch.look()
                time.sleep(SAMPLE_S)
            watch.until_lag_below(0, QUIET_S)
        with stack.clickhouse() as tables:
            _sums(tables, board)
    _memory(watch, started_s)


def _outage(stack: Stack, watch: Watch, board: Board, load: Load, outage_s: float) -> None:
    before = watch.look()
    stack.stop("clickhouse")
    watch.until(before.at_s + outage_s)
    stack.start("clickhouse")
    back = watch.look()
    # As little as waits in a usual second.
    drained_s = watch.until_lag_below(int(2 * load.rate_per_s), QUIET_S)
    away_s, drain_s = back.at_s - before.at_s, drained_s - back.at_s
    waits_ms = [1e3 * took_s for sent_s, took_s in board.took_s if before.at_s <= sent_s <= back.at_s]
    usual_ms, late_ms = np.percentile(waits_ms, (50, 99))
    drained = back.lag + load.rate_per_s * drain_s
    print(
        f"ClickHouse away for {away_s:.0f} s: ingest accepted {(back.accepted - before.accepted) / away_s:,.0f} "
        f"events/s, answers p50 {usual_ms:.0f} ms, p99 {late_ms:.0f} ms"
    )
    print(
        f"backlog {back.lag:,} records, gone after {drain_s:.0f} s: "
        f"{drained / drain_s:,.0f} events/s, {drained / drain_s / load.rate_per_s:.1f} times arrival"
    )


def _sums(tables: ClickHouse, board: Board) -> None:
    [(stored, distinct)] = tables.query(
        f"SELECT count(), uniqExact(customer_id, event_id) FROM {DATABASE}.touchpoints_once WHERE kind != 'review_due'"
    )
    print(f"accepted {board.accepted:,}, stored {stored:,} of {distinct:,} ids, difference {stored - board.accepted}")
    if not stored == distinct == board.accepted:
        raise BenchmarkError("the sums are not even")


def _memory(watch: Watch, started_s: float) -> None:
    whole_s = watch.samples[-1].at_s - started_s
    warm = [sample for sample in watch.samples if sample.at_s - started_s > WARM_SHARE * whole_s]
    print(f"{whole_s / 60:.0f} min, memory after the first {60 * WARM_SHARE * whole_s / 3600:.0f} min:")
    for name in PARTS:
        rss = np.array([sample.rss_mib[name] for sample in warm if name in sample.rss_mib])
        third = max(len(rss) // 3, 1)
        hours = np.array([(sample.at_s - started_s) / 3600 for sample in warm if name in sample.rss_mib])
        slope = np.polyfit(hours, rss, 1)[0]
        print(
            f"  {name:12s} first third {np.median(rss[:third]):6.0f} MiB, last third {np.median(rss[-third:]):6.0f}, "
            f"highest {rss.max():6.0f}, line {slope:+.0f} MiB/h"
        )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--rate", type=float, default=1_000.0, help="events per second")
    parser.add_argument("--batch", type=int, default=50)
    parser.add_argument("--customers", type=int, default=20_000)
    parser.add_argument("--outage", type=float, default=300.0, help="seconds without ClickHouse; 0: none")
    options = parser.parse_args()
    load = Load(options.rate, options.batch, 60 * options.minutes, options.customers, probes_per_s=1.0)
    run(options.minutes, options.outage, load)


if __name__ == "__main__":
    main()
