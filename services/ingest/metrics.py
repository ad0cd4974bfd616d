"""What the ingest process counts. Names are for dashboards: change none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from schemas.reasons import Reason
from services.ingest.rates import Scope

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0)
_EVENTS = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000)

ANSWERS: Final = (202, 400, 401, 408, 413, 415, 422, 429, 503)
"""Statuses of POST /v1/events; a crash, 500, besides."""
EDGE_REASONS: Final = (
    Reason.DUPLICATE_KEY,
    Reason.FUTURE_TIME,
    Reason.INVALID_JSON,
    Reason.INVALID_TIME,
    Reason.INVALID_VALUE,
    Reason.MISSING_FIELD,
    Reason.OUT_OF_RANGE,
    Reason.RESERVED_KIND,
    Reason.TOO_DEEP,
    Reason.TOO_LARGE,
    Reason.TOO_LONG,
    Reason.UNKNOWN_FIELD,
    Reason.UNKNOWN_KIND,
)
"""Why an event is refused for good."""
BODY_REASONS: Final = (Reason.INVALID_JSON, Reason.MISSING_FIELD, Reason.TOO_DEEP, Reason.TOO_LONG)
"""Why no event can be read from a body."""


class Metrics:
    """One set per process; a registry of its own, so that tests can have many."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.received = Counter(
            "touchstone_ingest_events_received",
            "Events read from requests; equals accepted + refused + retried.",
            registry=self.registry,
        )
        self.accepted = Counter(
            "touchstone_ingest_events_accepted", "Events acknowledged by Kafka.", registry=self.registry
        )
        self.warned = Counter(
            "touchstone_ingest_events_warned",
            "Accepted events that carried a warning, by reason.",
            ["reason"],
            registry=self.registry,
        )
        self.refused = Counter(
            "touchstone_ingest_events_refused",
            "Events refused for good, by reason.",
            ["reason"],
            registry=self.registry,
        )
        self.retried = Counter(
            "touchstone_ingest_events_retried",
            "Good events that Kafka did not acknowledge in time; their sender was told to retry.",
            registry=self.registry,
        )
        self.quarantined = Counter(
            "touchstone_ingest_refused_records",
            "Refused events put on topic rejected, by outcome: kept, or lost because Kafka did not take them.",
            ["outcome"],
            registry=self.registry,
        )
        self.bodies_refused = Counter(
            "touchstone_ingest_bodies_refused",
            "Requests of which no event could be read, by reason.",
            ["reason"],
            registry=self.registry,
        )
        self.rate_limited = Counter(
            "touchstone_ingest_rate_limited",
            "Requests answered 429, by whose limit: key or overall.",
            ["scope"],
            registry=self.registry,
        )
        self.requests = Counter(
            "touchstone_ingest_requests",
            "Requests to POST /v1/events by status.",
            ["status"],
            registry=self.registry,
        )
        self.request_seconds = Histogram(
            "touchstone_ingest_request_seconds",
            "From the first byte of a request's body to its answer.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.admit_seconds = Histogram(
            "touchstone_ingest_admit_seconds",
            "Validating and encoding one request's events.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.delivery_seconds = Histogram(
            "touchstone_ingest_delivery_seconds",
            "From queueing a request's records to Kafka's acknowledgement of the last.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.batch_events = Histogram(
            "touchstone_ingest_batch_events", "Events per request.", buckets=_EVENTS, registry=self.registry
        )
        self.inflight_requests = Gauge(
            "touchstone_ingest_inflight_requests", "Requests being worked on.", registry=self.registry
        )
        self.inflight_bytes = Gauge(
            "touchstone_ingest_inflight_bytes", "Bodies being received or worked on.", registry=self.registry
        )
        self._inflight_bytes_limit = Gauge(
            "touchstone_ingest_inflight_bytes_limit",
            "Requests that would bring more are told to retry.",
            registry=self.registry,
        )
        self._queued = Gauge(
            "touchstone_ingest_producer_queue_records", "Records that wait for Kafka.", registry=self.registry
        )
        self._queued_limit = Gauge(
            "touchstone_ingest_producer_queue_records_limit",
            "Requests that would add more are told to retry.",
            registry=self.registry,
        )
        self._memory_limit = Gauge(
            "touchstone_ingest_memory_limit_bytes", "Of the container, or the machine's memory.", registry=self.registry
        )
        self._replaced = Gauge(
            "touchstone_ingest_producer_replaced",
            "Kafka clients that gave up and were replaced.",
            registry=self.registry,
        )

        self._show_from_the_start()

    def _show_from_the_start(self) -> None:
        """Series that may stay without an event: a rate sees the first one, and a dashboard shows zero, not nothing."""
        for status in ANSWERS:
            self.requests.labels(status)
        for reason in EDGE_REASONS:
            self.refused.labels(reason)
        for reason in BODY_REASONS:
            self.bodies_refused.labels(reason)
        self.warned.labels(Reason.FUTURE_TIME)
        for outcome in ("kept", "lost"):
            self.quarantined.labels(outcome)
        for scope in Scope:
            self.rate_limited.labels(scope)

    def limits(self, *, inflight_bytes: int, queued_records: int, memory_bytes: int) -> None:
        """Show what may wait, beside what does."""
        self._inflight_bytes_limit.set(inflight_bytes)
        self._queued_limit.set(queued_records)
        self._memory_limit.set(memory_bytes)

    def watch_producer(self, queued: Callable[[], float], replaced: Callable[[], float]) -> None:
        """Ask these at each scrape."""
        self._queued.set_function(queued)
        self._replaced.set_function(replaced)
