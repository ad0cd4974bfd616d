"""Metrics whose values live elsewhere and are asked for at each scrape, or come in bulk."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

from services.scoring.model_checks import ModelCheck
from services.scoring.record_batches.lag import Lag


class AskedCounter(Collector):
    """A counter that somebody else keeps."""

    def __init__(self, name: str, meaning: str, registry: CollectorRegistry) -> None:
        self._name, self._meaning = name, meaning
        self._ask: Callable[[], float] = lambda: 0
        registry.register(self)

    def set_function(self, ask: Callable[[], float]) -> None:
        """``ask`` is called by the scraping thread, and must never go down while the process lives."""
        self._ask = ask

    def collect(self) -> Iterable[Metric]:
        yield CounterMetricFamily(self._name, self._meaning, value=self._ask())


class LagGauges(Collector):
    """Two gauges by partition. Partitions that are not the worker's vanish."""

    def __init__(self, records: tuple[str, str], seconds: tuple[str, str], registry: CollectorRegistry) -> None:
        self._records, self._seconds = records, seconds
        self._lags: Mapping[int, Lag] = {}
        registry.register(self)

    def set(self, lags: Mapping[int, Lag]) -> None:
        """Replace all; ``lags`` must not be changed any more."""
        self._lags = lags

    def collect(self) -> Iterable[Metric]:
        records = GaugeMetricFamily(*self._records, labels=["partition"])
        seconds = GaugeMetricFamily(*self._seconds, labels=["partition"])
        for partition, lag in sorted(self._lags.items()):
            records.add_metric([str(partition)], lag.records)
            seconds.add_metric([str(partition)], lag.oldest_s)
        yield records
        yield seconds


class ModelInfo(Collector):
    """A series of value 1 for each partition, labelled with what somebody else knows of it."""

    def __init__(self, name: str, meaning: str, registry: CollectorRegistry) -> None:
        self._name, self._meaning = name, meaning
        self._ask: Callable[[], Mapping[int, str]] = dict
        registry.register(self)

    def set_function(self, ask: Callable[[], Mapping[int, str]]) -> None:
        """``ask`` is called by the scraping thread; it returns the version by partition."""
        self._ask = ask

    def collect(self) -> Iterable[Metric]:
        family = GaugeMetricFamily(self._name, self._meaning, labels=["partition", "version"])
        for partition, version in sorted(self._ask().items()):
            family.add_metric([str(partition), version], 1)
        yield family


class ModelCheckGauges(Collector):
    """Gauges by version of what is known of the models that judge; what is not known has no series."""

    def __init__(self, metrics: Mapping[str, tuple[str, str]], registry: CollectorRegistry) -> None:
        """``metrics``: name and meaning by member of `ModelCheck`."""
        self._metrics = metrics
        self._ask: Callable[[], Iterable[ModelCheck]] = tuple
        registry.register(self)

    def set_function(self, ask: Callable[[], Iterable[ModelCheck]]) -> None:
        """``ask`` is called by the scraping thread."""
        self._ask = ask

    def collect(self) -> Iterable[Metric]:
        checks = sorted(self._ask(), key=lambda check: check.version)
        for member, (name, meaning) in self._metrics.items():
            family = GaugeMetricFamily(name, meaning, labels=["version"])
            for check in checks:
                value: float | None = getattr(check, member)
                if value is not None:
                    family.add_metric([check.version], float(value))
            yield family


class BulkHistogram(Collector):
    """A histogram that takes arrays: the library's own takes one value at a time, and 2 us for it."""

    def __init__(self, name: str, meaning: str, bounds: Sequence[float], registry: CollectorRegistry) -> None:
        self._name, self._meaning = name, meaning
        self._bounds: Final = np.array(bounds)
        self._counts = np.zeros(len(bounds) + 1, dtype=np.int64)
        self._sum = 0.0
        self._lock = threading.Lock()
        registry.register(self)

    def observe(self, values: npt.NDArray[np.float64]) -> None:
        """Count each value where it belongs."""
        places = np.searchsorted(self._bounds, values, side="left")
        counts = np.bincount(places, minlength=len(self._counts))
        with self._lock:
            self._counts = self._counts + counts
            self._sum += float(values.sum())

    def collect(self) -> Iterable[Metric]:
        with self._lock:
            counts, total = self._counts, self._sum
        upto = np.cumsum(counts).tolist()
        names = [*map(str, self._bounds.tolist()), "+Inf"]
        yield HistogramMetricFamily(
            self._name, self._meaning, buckets=list(zip(names, upto, strict=True)), sum_value=total
        )
