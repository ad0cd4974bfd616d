"""All benchmarks of this machine: ``make bench``. Prints a table and keeps the figures in bench.json."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks import freshness, ingest, rebuild, scoring, stages
from benchmarks.log import LogSpec, kept
from benchmarks.report import STAGE, STAGE_UNIT, markdown, text
from benchmarks.stack import Stack

DATA_DIR: Final = Path(os.environ.get("TOUCHSTONE_DATA_DIR", ".touchstone"))
CUSTOMERS: Final = 100_000


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured. The full size takes some ten minutes on two cores."""

    events: int = 1_000_000
    repeats: int = 3
    faust_events: int = 100_000
    import_events: int = 200_000
    seconds: float = 20.0
    ingest_seconds: float = 5.0


QUICK: Final = Size(200_000, 1, 20_000, 50_000, 8.0, 2.0)
"""Shows that everything works, and orders of magnitude."""

Figures = dict[str, float]


def measure_scoring(size: Size, folder: Path) -> Figures:
    """One log; the worker as it is, without tables, and without its core; plain Faust beside them."""
    log = kept(LogSpec(size.events, CUSTOMERS), folder, _now_us())
    with scoring.loaded(log) as stack:
        whole = scoring.whole_path(stack, size.repeats, "whole path")
        memory = scoring.in_memory(stack, size.repeats, "fold only")
        memory_two = scoring.in_memory(stack, size.repeats, "fold only, two workers", workers=2)
        read = scoring.in_memory(stack, size.repeats, "read only", "--read-only")
        faust = scoring.plain_faust(stack, size.faust_events)
        # Last, because the second worker may append reviews, which count as repeats wherever the log is read again.
        two = scoring.whole_path(stack, size.repeats, "whole path, two workers", workers=2)
    return {
        "scoring_events_per_s": whole.events_per_s,
        "scoring_two_workers_events_per_s": two.events_per_s,
        "fold_only_events_per_s": memory.events_per_s,
        "fold_only_two_workers_events_per_s": memory_two.events_per_s,
        "read_only_events_per_s": read.events_per_s,
        "plain_faust_events_per_s": faust,
        "scoring_over_plain_faust_ratio": whole.events_per_s / faust,
        "worker_peak_rss_mib": whole.peak_rss_mib,
        **{f"scoring_{name}_cpu_us_per_event": whole.median.cpu_us_per_event(name) for name in whole.median.used},
        f"{STAGE}fetch_and_commit{STAGE_UNIT}": read.median.cpu_us_per_event("worker"),
    }


def measure_customers(size: Size, folder: Path) -> Figures:
    """More customers than a worker keeps in memory, each with a state in the table."""
    figures: Figures = {}
    for name, customers in (("1m", 1_000_000), ("10m", 10_000_000)):
        log = kept(LogSpec(size.events, customers), folder, _now_us())
        with scoring.loaded(log) as stack:
            result = scoring.whole_path(stack, 1, f"whole path, {customers:,} customers", customers)
        figures[f"scoring_{name}_customers_events_per_s"] = result.events_per_s
        figures[f"worker_peak_rss_{name}_customers_mib"] = result.peak_rss_mib
    return figures


def measure_stages(size: Size, folder: Path) -> Figures:
    """Processor time of each step, in this process."""
    takes = stages.batches(kept(LogSpec(size.events, CUSTOMERS), folder, _now_us()))
    result = stages.run(takes, scoring.CACHED)
    return {f"{STAGE}{name.replace(' ', '_')}{STAGE_UNIT}": us for name, us in result.us_per_event().items()}


def measure_freshness(size: Size, folder: Path) -> Figures:
    """With the tables full of the same log."""
    log = kept(LogSpec(size.events, CUSTOMERS), folder, _now_us())
    result = freshness.on_fresh_stack(log, freshness.Load(seconds=size.seconds))
    return {
        "freshness_p50_ms": result.percentile(50),
        "freshness_p99_ms": result.percentile(99),
        "freshness_load_events_per_s": result.events_per_s,
    }


def measure_history(size: Size, folder: Path) -> Figures:
    """Import and rebuild."""
    with Stack() as stack:
        stack.start("kafka", "topics")
        imported = rebuild.measure_import(stack, size.import_events)
    result = rebuild.rebuild(folder, size.events, CUSTOMERS, size.repeats)
    return {"import_events_per_s": imported, "rebuild_events_per_s": result.events_per_s}


def measure_ingest(size: Size, folder: Path) -> Figures:
    """The HTTP edge alone."""
    return ingest.run(seconds=size.ingest_seconds, repeats=size.repeats)


PARTS: Final[dict[str, Callable[[Size, Path], Figures]]] = {
    "scoring": measure_scoring,
    "stages": measure_stages,
    "customers": measure_customers,
    "history": measure_history,
    "freshness": measure_freshness,
    "ingest": measure_ingest,
}


def _now_us() -> int:
    return time.time_ns() // 1000


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; default all")
    parser.add_argument("--quick", action="store_true", help="small and once: shows that everything works")
    parser.add_argument("--kept", action="store_true", help="measure nothing, show the figures that are kept")
    parser.add_argument("--markdown", action="store_true", help="print the tables of docs/benchmarks.md")
    options = parser.parse_args()
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    path = DATA_DIR / "bench.json"
    figures: Figures = json.loads(path.read_text()) if path.exists() and (options.parts or options.kept) else {}
    for name in () if options.kept else options.parts or PARTS:
        started_s = time.monotonic()
        print(f"{name} ...", end=" ", file=sys.stderr, flush=True)
        measured = PARTS[name](QUICK if options.quick else Size(), DATA_DIR / "bench")
        print(f"{time.monotonic() - started_s:.0f} s", file=sys.stderr, flush=True)
        figures |= {name: round(value, 3) for name, value in measured.items()}
        peaks = [value for name, value in figures.items() if name.startswith("worker_peak_rss_")]
        if peaks:
            figures["worker_peak_rss_mib"] = max(peaks)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(figures, indent=1) + "\n")
    print(markdown(figures) if options.markdown else text(figures))
    if not options.kept:
        print(f"kept in {path}", file=sys.stderr)


if __name__ == "__main__":
    main()
