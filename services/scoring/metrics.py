"""What a scoring worker counts. Names and meanings are documented; dashboards rely on them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import numpy as np
import polars as pl
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from schemas.reasons import Reason
from schemas.state_layout import BANDS
from services.scoring.cache import StateCache
from services.scoring.collectors import AskedCounter, BulkHistogram, LagGauges, ModelCheckGauges, ModelInfo
from services.scoring.core import Effects
from services.scoring.record_batches.commits import CommitLedger
from services.scoring.record_batches.watchdog import Sighting
from services.scoring.shell import Effect, Shell

Record = TypeVar("Record")

REGISTRY: Final = CollectorRegistry()
ProcessCollector(registry=REGISTRY)

LOG_REASONS: Final = (
    Reason.NOT_SINGLE_OBJECT,
    Reason.UNKNOWN_SCHEMA,
    Reason.UNDECODABLE,
    Reason.OUT_OF_CONTRACT,
    Reason.WRONG_PARTITION,
    Reason.UNUSABLE_MODEL,
)
"""Why a record of the log may be rejected."""
CALLS: Final = (
    "crossings",
    "find_earlier",
    "load_activations",
    "load_checks",
    "load_states",
    "publish_rejected",
    "publish_reviews",
    "publish_signals",
    "save_states",
    "write_activations",
    "write_events",
    "write_refusals",
    "write_rejected",
    "write_repeated",
    "write_signals",
)
"""Values of the label ``call``: methods of `ports.Tables`, `ports.Topics`, and of what reviews, refusals and checks of
models need."""


RECORDS: Final = Counter("touchstone_scoring_records", "Records of topic touchpoints done with", registry=REGISTRY)
STORED: Final = Counter("touchstone_scoring_stored", "Events stored, reviews among them", registry=REGISTRY)
REPEATED: Final = Counter(
    "touchstone_scoring_repeated", "Events dropped because their id came before", ["conflict"], registry=REGISTRY
)
REJECTED: Final = Counter(
    "touchstone_scoring_rejected", "Records that could not be taken", ["reason"], registry=REGISTRY
)
SIGNALS: Final = Counter("touchstone_scoring_signals", "Crossings of a risk band", ["to_band"], registry=REGISTRY)
MODELS: Final = ModelInfo(
    "touchstone_scoring_model_info", "Risk model that judges what comes next, by partition; always 1", REGISTRY
)
MODEL_CHECKS: Final = ModelCheckGauges(
    {
        "drifted": (
            "touchstone_scoring_model_drifted",
            "1 if the model that judges had drifted when it was last checked, 0 if it held",
        ),
        "calibration_error": (
            "touchstone_scoring_model_calibration_error",
            "Expected calibration error of the model that judges when it was last checked, 0 to 1",
        ),
        "checked_s": (
            "touchstone_scoring_model_checked_timestamp_seconds",
            "When the model that judges was last checked, since 1970",
        ),
        "activated_s": (
            "touchstone_scoring_model_activated_timestamp_seconds",
            "When the model that judges was last activated, since 1970",
        ),
    },
    REGISTRY,
)
STATES: Final = Counter("touchstone_scoring_states_written", "Rows written to customer_state", registry=REGISTRY)
WRITES: Final = Counter("touchstone_scoring_writes", "Sets of effects written and acknowledged", registry=REGISTRY)
CACHED: Final = Gauge("touchstone_scoring_cached_customers", "Customers in memory", registry=REGISTRY)
CACHE_CAPACITY: Final = Gauge(
    "touchstone_scoring_cache_capacity_customers", "Customers that fit into memory", registry=REGISTRY
)
EVICTED: Final = AskedCounter(
    "touchstone_scoring_evicted_customers", "Customers that left memory to make room for others", REGISTRY
)
STOPPED: Final = Gauge(
    "touchstone_scoring_partitions_stopped",
    "Partitions of this worker that stand still because a flood of their records was rejected",
    registry=REGISTRY,
)
UNREACHABLE: Final = Gauge(
    "touchstone_scoring_waiting_for_tables", "1 while the tables cannot be reached", registry=REGISTRY
)
REVIEWS: Final = AskedCounter("touchstone_scoring_reviews", "Reviews appended to topic touchpoints", REGISTRY)
REFUSALS: Final = Counter(
    "touchstone_scoring_refusals_kept",
    "Refusals of ingest brought into their table",
    registry=REGISTRY,
)

LAG: Final = LagGauges(
    ("touchstone_scoring_lag_records", "Records that are not committed yet, by partition"),
    ("touchstone_scoring_lag_seconds", "Age of the oldest of them since it was received, by partition"),
    REGISTRY,
)
FRESHNESS: Final = BulkHistogram(
    "touchstone_scoring_freshness_seconds",
    "From an event's reception at ingest until its customer's state was written",
    (0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0),
    REGISTRY,
)
OPEN_RECORDS: Final = Gauge(
    "touchstone_scoring_open_records", "Records read and not yet acknowledged", registry=REGISTRY
)
OPEN_RECORDS_LIMIT: Final = Gauge("touchstone_scoring_open_records_limit", "Reading waits above it", registry=REGISTRY)
OPEN_BYTES: Final = Gauge("touchstone_scoring_open_bytes", "Size of these records", registry=REGISTRY)
OPEN_BYTES_LIMIT: Final = Gauge("touchstone_scoring_open_bytes_limit", "Reading waits above it", registry=REGISTRY)
MEMORY_LIMIT: Final = Gauge(
    "touchstone_scoring_memory_limit_bytes", "Of the container, or the machine's memory", registry=REGISTRY
)
STILL: Final = Gauge(
    "touchstone_scoring_watchdog_still_seconds",
    "For how long the stillest partition with records waiting has not moved; the worker ends itself at 30",
    registry=REGISTRY,
)
BLIND: Final = Gauge(
    "touchstone_scoring_watchdog_blind_seconds",
    "For how long the ends of the log could not be learned; the worker ends itself at 120",
    registry=REGISTRY,
)
IDLE: Final = Gauge(
    "touchstone_scoring_idle_seconds", "Since records were last folded or an effect was last written", registry=REGISTRY
)
CALL_SECONDS: Final = Histogram(
    "touchstone_scoring_call_seconds",
    "Calls of ClickHouse and Kafka that succeeded",
    ["call"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0),
    registry=REGISTRY,
)
CALLS_FAILED: Final = Counter(
    "touchstone_scoring_calls_failed", "Calls that failed; each is tried again", ["call"], registry=REGISTRY
)

# Series that exist from the start: a rate sees the first of them, and a dashboard shows zero instead of nothing.
for _conflict in ("false", "true"):
    REPEATED.labels(_conflict)
for _reason in LOG_REASONS:
    REJECTED.labels(_reason.value)
for _band in BANDS:
    SIGNALS.labels(_band)
for _call in CALLS:
    CALL_SECONDS.labels(_call)
    CALLS_FAILED.labels(_call)


def sighted(seen: Sighting) -> None:
    """Show what the watchdog saw."""
    LAG.set(seen.lags)
    STILL.set(seen.still_for_s)
    BLIND.set(seen.blind_for_s)


def watch_cache(cache: StateCache) -> None:
    """Ask it at each scrape."""
    CACHED.set_function(lambda: len(cache))
    CACHE_CAPACITY.set(cache.capacity)
    EVICTED.set_function(lambda: cache.evicted)


def watch_shell(shell: Shell) -> None:
    """Ask it at each scrape."""
    UNREACHABLE.set_function(lambda: float(shell.waiting_for_tables))
    IDLE.set_function(shell.idle_s)


def watch_memory(ledger: CommitLedger[Any], max_open_bytes: int, max_open_records: int, limit_bytes: int) -> None:
    """Show what waits against what may wait, and the process's memory against its own limit."""
    OPEN_RECORDS.set_function(lambda: ledger.open_records)
    OPEN_RECORDS_LIMIT.set(max_open_records)
    OPEN_BYTES.set_function(lambda: ledger.open_bytes)
    OPEN_BYTES_LIMIT.set(max_open_bytes)
    MEMORY_LIMIT.set(limit_bytes)


def counting_refusals(write: Callable[[Sequence[Record]], None]) -> Callable[[Sequence[Record]], None]:
    """The same function; what it wrote is counted."""

    def run(records: Sequence[Record]) -> None:
        write(records)
        REFUSALS.inc(len(records))

    return run


def count(effect: Effect, effects: Effects) -> None:
    """Count a set of effects once, when all of it is written."""
    if effect is not Effect.ACKNOWLEDGED:
        return
    RECORDS.inc(effects.records)
    STORED.inc(sum(written.frame.height for written in effects.events))
    for event in effects.repeated:
        REPEATED.labels(str(event.conflict).lower()).inc()
    for record in effects.rejected:
        REJECTED.labels(record.reason).inc()
    for signals in effects.signals:
        crossed = signals.filter(pl.col("from_band") != pl.col("to_band"))
        for band, number in crossed.get_column("to_band").value_counts().iter_rows():
            SIGNALS.labels(band).inc(number)
    STATES.inc(len(effects.dirty()))
    now_us = time.time_ns() // 1000
    for written in effects.events:
        received_us = written.frame.get_column("received_at").to_numpy().astype(np.int64)
        FRESHNESS.observe(np.maximum(now_us - received_us, 0) / 1e6)
    WRITES.inc()
