"""What the figures are called, what they should be, and how they are shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import psutil

Figures = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Row:
    """One figure. ``at_least`` and ``at_most`` are what it should be on two cores."""

    name: str
    label: str
    unit: str
    at_least: float | None = None
    at_most: float | None = None

    def aim(self) -> str:
        """The target in words, or nothing."""
        if self.at_least is not None:
            return f"at least {self.at_least:,g}"
        return f"at most {self.at_most:,g}" if self.at_most is not None else ""

    def missed(self, value: float) -> bool:
        """True if the figure falls short of its target."""
        return (self.at_least is not None and value < self.at_least) or (
            self.at_most is not None and value > self.at_most
        )


ROWS: Final = (
    Row("scoring_events_per_s", "Scoring, whole path, 100,000 customers", "events/s", at_least=150_000),
    Row("scoring_two_workers_events_per_s", "The same with two workers", "events/s"),
    Row("fold_only_events_per_s", "Scoring without writes, states in memory", "events/s", at_least=300_000),
    Row("fold_only_two_workers_events_per_s", "The same with two workers", "events/s"),
    Row("read_only_events_per_s", "Reading and committing alone", "events/s"),
    Row("plain_faust_events_per_s", "Plain Faust, agent with a Table, same log", "events/s"),
    Row("scoring_over_plain_faust_ratio", "Whole path against plain Faust", "times", at_least=25),
    Row("scoring_1m_customers_events_per_s", "Scoring, 1 M customers, states in the table", "events/s"),
    Row("scoring_10m_customers_events_per_s", "Scoring, 10 M customers, states in the table", "events/s"),
    Row("rebuild_events_per_s", "Rebuild: 180 days of history scored anew", "events/s", at_least=150_000),
    Row("import_events_per_s", "Import of an NDJSON file", "events/s", at_least=20_000),
    Row("ingest_batch_events_per_s", "Ingest, batches of 500", "events/s", at_least=60_000),
    Row("ingest_single_requests_per_s", "Ingest, single events", "requests/s", at_least=3_000),
    Row("ingest_single_p99_ms", "Ingest, single events at half that load, p99", "ms", at_most=50),
    Row("plain_fastapi_events_per_s", "Plain FastAPI handler with kafka-python, batches of 50", "events/s"),
    Row("freshness_p50_ms", "POST to customer_scores at 5,000 events/s, median", "ms"),
    Row("freshness_p99_ms", "POST to customer_scores at 5,000 events/s, p99", "ms", at_most=1_000),
    Row("worker_peak_rss_mib", "Memory of the worker, peak over all runs", "MiB", at_most=1_024),
    Row("scoring_worker_cpu_us_per_event", "Processor time of the worker", "us/event"),
    Row("scoring_clickhouse_cpu_us_per_event", "Processor time of ClickHouse", "us/event"),
    Row("scoring_kafka_cpu_us_per_event", "Processor time of the broker", "us/event"),
)
STAGE: Final = "stage_"
STAGE_UNIT: Final = "_us_per_event"


def stages(figures: Figures) -> dict[str, float]:
    """Cost of each stage of the worker in microseconds per event, by its name in words."""
    return {
        name.removeprefix(STAGE).removesuffix(STAGE_UNIT).replace("_", " "): value
        for name, value in figures.items()
        if name.startswith(STAGE)
    }


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:,.1f}"


def text(figures: Figures) -> str:
    """The table for a terminal; what falls short is marked."""
    lines = []
    for row in ROWS:
        if row.name in figures:
            value = figures[row.name]
            mark = "  short" if row.missed(value) else ""
            lines.append(f"{row.label:56s} {_shown(value):>10s} {row.unit:10s} {row.aim()}{mark}")
    lines += [f"  {name:54s} {value:10.2f} us/event" for name, value in stages(figures).items()]
    return "\n".join(lines)


def markdown(figures: Figures) -> str:
    """The tables of docs/benchmarks.md."""
    lines = ["| What | Figure | Unit | Aim |", "|---|---:|---|---|"]
    for row in ROWS:
        value = _shown(figures[row.name]) if row.name in figures else ""
        lines.append(f"| {row.label} | {value} | {row.unit} | {row.aim()} |")
    lines += ["", "| Stage of the worker | us per event |", "|---|---:|"]
    lines += [f"| {name} | {value:.2f} |" for name, value in stages(figures).items()]
    lines += ["", machine()]
    return "\n".join(lines)


def machine() -> str:
    """What the figures were taken on, and how busy it was with other things."""
    memory_gib = psutil.virtual_memory().total / (1 << 30)
    load = psutil.getloadavg()[0]
    return f"Machine: {psutil.cpu_count()} cores, {memory_gib:.0f} GiB; load of the last minute {load:.1f}."
