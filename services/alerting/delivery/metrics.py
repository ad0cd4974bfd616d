"""What delivery counts. Names are for dashboards: change none."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from services.alerting.alert import Outcome
from services.alerting.delivery.circuit import Mode

_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 20.0)
_WAITS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 3_600.0)


class DeliveryMetrics:
    """`services.alerting.delivery.ports.Observer` in Prometheus' terms, in the registry that is given."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._attempts = Counter(
            "touchstone_alerting_attempts",
            "Attempts at delivering calls: delivered, failed (tried again) or dead (given up).",
            ["receiver", "outcome"],
            registry=registry,
        )
        self._took = Histogram(
            "touchstone_alerting_attempt_seconds",
            "How long an attempt took.",
            ["receiver"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._waited = Histogram(
            "touchstone_alerting_first_attempt_seconds",
            "From the making of a call, or the end of its quiet hours, to its first attempt.",
            ["receiver"],
            buckets=_WAITS,
            registry=registry,
        )
        self._queued = Gauge(
            "touchstone_alerting_queued_calls",
            "Calls that have not ended, waiting for a retry included.",
            ["receiver"],
            registry=registry,
        )
        self._circuit = Gauge(
            "touchstone_alerting_circuit",
            "1 for the state in which the receiver's circuit is, 0 for the others.",
            ["receiver", "state"],
            registry=registry,
        )
        self._unrecorded = Gauge(
            "touchstone_alerting_unrecorded_attempts",
            "Attempts made whose rows are not written yet.",
            registry=registry,
        )

    def forget(self) -> None:
        """Nobody delivers any more: queues and circuits of before say nothing."""
        self._queued.clear()
        self._circuit.clear()
        self._unrecorded.set(0)

    def attempted(self, receiver: str, outcome: Outcome, took_us: int) -> None:
        self._attempts.labels(receiver, outcome.value).inc()
        self._took.labels(receiver).observe(took_us / 1e6)

    def first_attempt(self, receiver: str, waited_us: int) -> None:
        self._waited.labels(receiver).observe(waited_us / 1e6)

    def queued(self, receiver: str, calls: int) -> None:
        self._queued.labels(receiver).set(calls)

    def circuit(self, receiver: str, mode: Mode) -> None:
        for state in Mode:
            self._circuit.labels(receiver, state.value).set(float(state is mode))

    def unrecorded(self, attempts: int) -> None:
        self._unrecorded.set(attempts)
