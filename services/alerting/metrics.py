"""What alerting counts before delivery. Names are for dashboards and alarms: change none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from services.alerting.alert import Alert

_SECONDS: Final = (0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0, 300.0, 3600.0)


class AlertingMetrics:
    """Counters of one process, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._signals = Counter("touchstone_alerting_signals", "Signals that were decided by", registry=self.registry)
        self._unreadable = Counter(
            "touchstone_alerting_unreadable",
            "Records of topic loyalty-signals that are no signals",
            registry=self.registry,
        )
        self._age = Histogram(
            "touchstone_alerting_signal_age_seconds",
            "From the event that a signal was judged at being received, to the decision",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._alerts = Counter(
            "touchstone_alerting_alerts", "Turns of alerts", ["rule", "turn"], registry=self.registry
        )
        self._calls = Counter("touchstone_alerting_calls", "Calls that were made", ["rule"], registry=self.registry)
        self._reviews = Counter(
            "touchstone_alerting_reviews",
            "Reviews that were asked for, time alone having changed something",
            registry=self.registry,
        )
        self._windows = Counter(
            "touchstone_alerting_focus_windows",
            "Windows of touchpoints and channels that were judged",
            registry=self.registry,
        )
        self._rules_wrong = Gauge(
            "touchstone_alerting_rules_wrong",
            "1 while the rules file cannot be used and the former one holds",
            registry=self.registry,
        )
        self._reads = Gauge(
            "touchstone_alerting_reads",
            "1 where this process decides and calls, 0 where it stands by",
            registry=self.registry,
        )
        self._waiting = Gauge(
            "touchstone_alerting_waiting_alerts", "Turns of alerts that are in no call yet", registry=self.registry
        )

    def signals(self, ages_s: Sequence[float], unreadable: int) -> None:
        """A batch was decided by."""
        self._signals.inc(len(ages_s))
        self._unreadable.inc(unreadable)
        for age_s in ages_s:
            self._age.observe(max(age_s, 0.0))

    def alerts(self, alerts: Sequence[Alert]) -> None:
        """Turns that are new."""
        for alert in alerts:
            self._alerts.labels(alert.rule, alert.turn.value).inc()

    def calls(self, rules: Sequence[str]) -> None:
        """Calls were made, of these rules."""
        for rule in rules:
            self._calls.labels(rule).inc()

    def reviews(self, asked: int) -> None:
        self._reviews.inc(asked)

    def windows(self, judged: int) -> None:
        self._windows.inc(judged)

    def rules_wrong(self, wrong: bool) -> None:
        self._rules_wrong.set(wrong)

    def watch(self, reads: Callable[[], bool], waiting: Callable[[], int]) -> None:
        """Where the gauges look."""
        self._reads.set_function(lambda: float(reads()))
        self._waiting.set_function(waiting)
