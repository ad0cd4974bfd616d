"""Where the time of scoring goes: the core over prepared batches, with a timer around each of its steps.

The steps are those that `services.scoring.core` calls by name; here each of the names is a timed one.
"""

from __future__ import annotations

import argparse
import cProfile
import functools
import gc
import os
import pstats
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
import polars as pl

from benchmarks.as_of import MODELS
from benchmarks.log import Log, LogSpec, kept
from benchmarks.memory_tables import MemoryTables
from infra.clickhouse import events as event_table
from infra.clickhouse import states as state_table
from services.scoring import core, readings, step
from services.scoring.cache import StateCache
from services.scoring.core import Core, Effects, Written
from services.scoring.record_batches.worker import GC_THRESHOLD
from services.scoring.risk.model import DEFAULT, RiskModel
from services.scoring.step import Scorer

PARTITIONS: Final = 4
BATCH_RECORDS: Final = 30_000
"""Of one partition: what the worker's fetch hands over when there is much to do."""
WRITE_RECORDS: Final = 60_000
"""How many events the worker gathers for one write when there is much to do."""

Take = tuple[int, npt.NDArray[np.int64], list[bytes], list[int]]


class Stopwatch:
    """Processor seconds of this process by name, all threads together; a step does not count the steps inside it."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._inner_s = [0.0]

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        started = time.process_time()
        self._inner_s.append(0.0)
        try:
            yield
        finally:
            took = time.process_time() - started
            self.seconds[name] += took - self._inner_s.pop()
            self._inner_s[-1] += took

    def wrap(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """``call``, timed under a name."""

        @functools.wraps(call)
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self(name):
                return call(*args, **kwargs)

        return timed


@contextmanager
def timed_core(watch: Stopwatch) -> Iterator[None]:
    """Time the steps of `Core.take` while this is open."""
    steps = (
        (core, "decode", "decode"),
        (Core, "_slots", "find customers"),
        (core, "id_keys", "duplicates"),
        (core, "candidates", "duplicates"),
        (core, "remember", "duplicates"),
        (Core, "_look_up", "duplicates"),
        (core, "prepare", "read"),
        (step, "fold", "fold"),
        (step, "judge", "judge"),
        (step, "explain", "signals"),
        (core, "step", "fold"),
    )
    with ExitStack() as stack:
        for where, name, stage in steps:
            stack.enter_context(patch.object(where, name, watch.wrap(stage, getattr(where, name))))
        yield


def batches(log: Log) -> list[Take]:
    """The log cut into what the worker would be handed, partition after partition."""
    partition = log.customer % PARTITIONS  # any will do that keeps a customer's events together
    values = log.values()
    received_ms = log.received_ms.tolist()
    of_partition = []
    for number in range(PARTITIONS):
        rows = np.flatnonzero(partition == number)
        of_partition.append(
            [
                (
                    number,
                    np.arange(start, start + len(some), dtype=np.int64),
                    [values[row] for row in some.tolist()],
                    [received_ms[row] for row in some.tolist()],
                )
                for start, some in ((at, rows[at : at + BATCH_RECORDS]) for at in range(0, len(rows), BATCH_RECORDS))
            ]
        )
    most = max(map(len, of_partition))
    return [mine[turn] for turn in range(most) for mine in of_partition if turn < len(mine)]


@dataclass(frozen=True, slots=True)
class Stages:
    """Seconds by stage, and what they were spent on."""

    seconds: dict[str, float]
    events: int
    states: int
    writes: int
    signals: int

    def us_per_event(self) -> dict[str, float]:
        """Microseconds of each stage per event."""
        return {name: 1e6 * spent / self.events for name, spent in self.seconds.items()}


def run(
    takes: Sequence[Take], cache_customers: int, profile: cProfile.Profile | None = None, model: RiskModel = DEFAULT
) -> Stages:
    """Fold everything, and lay out what would be written, in the rhythm of a busy worker."""
    watch = Stopwatch()
    scorer = Scorer.of(model)
    cache = StateCache(cache_customers, scorer.touchpoints, scorer.models)
    subject = Core(cache, scorer, readings.shipped(), MemoryTables(), lambda: os.urandom(8))
    work, counted, written, writes, signals = Effects(), 0, 0, 0, 0

    def write() -> None:
        nonlocal written, writes
        dirty = work.dirty()
        with watch("copy states"):
            rows = subject.snapshot(dirty)
        with watch("lay out events"):
            _lay_out(work.events)
        with watch("lay out states"):
            state_table.to_block(rows)  # type: ignore[arg-type]
        subject.cache.release(dirty)
        written += len(dirty)
        writes += 1

    with timed_core(watch):
        for partition, offsets, values, stamps in takes:
            if profile is not None:
                profile.enable()
            with watch("rest of the core"):
                effects = subject.take(partition, offsets, values, stamps, [work])
            work.add(effects)
            counted += len(values)
            signals += sum(crossings.height for crossings in effects.signals)
            if work.records >= WRITE_RECORDS:
                write()
                work = Effects()
            if profile is not None:
                profile.disable()
        if work.records:
            write()
    return Stages(dict(watch.seconds), counted, written, writes, signals)


def _lay_out(written: list[Written]) -> None:
    frame = pl.concat([part.frame for part in written])
    event_table.to_block(
        frame.drop("log_partition", "log_offset"),
        np.concatenate([part.valence for part in written]),
        np.concatenate([part.weight for part in written]),
        frame.get_column("log_partition").to_numpy(),
        frame.get_column("log_offset").to_numpy(),
    )


def compare_models(takes: Sequence[Take], cache_customers: int, repeats: int = 5) -> None:
    """What judging costs by model, beside everything else: medians of runs that take turns."""
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for _ in range(repeats):
        for model in MODELS:
            us = run(takes, cache_customers, model=model).us_per_event()
            found[model.version].append((us["judge"], sum(us.values())))
    for version, runs in found.items():
        judge, whole = (statistics.median(values) for values in zip(*runs, strict=True))
        print(
            f"{version}: judging {judge:.2f} of {whole:.2f} us/event, {judge / (whole - judge):.1%} on top of the rest"
        )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stages", description=__doc__)
    parser.add_argument("--events", type=int, default=400_000)
    parser.add_argument("--customers", type=int, default=100_000)
    parser.add_argument("--data", type=Path, default=Path(".touchstone/bench"))
    parser.add_argument("--profile", action="store_true", help="print where the time goes by function")
    parser.add_argument("--models", action="store_true", help="compare what judging costs by model instead")
    options = parser.parse_args()
    gc.set_threshold(GC_THRESHOLD, 10, 10)  # as the worker sets it
    takes = batches(kept(LogSpec(options.events, options.customers), options.data, time.time_ns() // 1000))
    profile = cProfile.Profile() if options.profile else None
    room = max(options.customers + BATCH_RECORDS, 10_000)
    if options.models:
        compare_models(takes, room)
        return
    stages = run(takes, room, profile)
    for name, us in stages.us_per_event().items():
        print(f"{name:20s} {us:8.2f} us/event")
    print(f"{'sum':20s} {sum(stages.us_per_event().values()):8.2f} us/event")
    print(f"{stages.events:,} events, {stages.states:,} states in {stages.writes} writes, {stages.signals:,} signals")
    if profile is not None:
        pstats.Stats(profile).sort_stats("tottime").print_stats(45)


if __name__ == "__main__":
    main()
