"""Metrics whose values live elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from infra.memory import memory_limit_bytes
from services.scoring.collectors import AskedCounter, BulkHistogram, LagGauges
from services.scoring.metered import metered
from services.scoring.metrics import CALLS, REGISTRY
from services.scoring.ports import Tables, Topics
from services.scoring.record_batches.lag import Lag
from services.scoring.reviews import Reviews
from tests.fakes.stream import FakeTables, TablesDownError


def test_a_histogram_takes_arrays() -> None:
    registry = CollectorRegistry()
    histogram = BulkHistogram("age_seconds", "Age", (1.0, 2.5), registry)
    histogram.observe(np.array([0.5, 1.0, 1.5, 9.0]))
    histogram.observe(np.array([2.0]))
    text = generate_latest(registry).decode()
    assert 'age_seconds_bucket{le="1.0"} 2.0' in text
    assert 'age_seconds_bucket{le="2.5"} 4.0' in text
    assert 'age_seconds_bucket{le="+Inf"} 5.0' in text
    assert "age_seconds_count 5.0" in text
    assert "age_seconds_sum 14.0" in text


def test_lag_of_partitions_that_went_vanishes() -> None:
    registry = CollectorRegistry()
    gauges = LagGauges(("lag_records", "Records"), ("lag_seconds", "Age"), registry)
    gauges.set({3: Lag(7, 1.5), 0: Lag(0, 0.0)})
    assert registry.get_sample_value("lag_records", {"partition": "3"}) == 7
    assert registry.get_sample_value("lag_seconds", {"partition": "3"}) == 1.5
    gauges.set({0: Lag(1, 2.0)})
    assert registry.get_sample_value("lag_records", {"partition": "3"}) is None
    assert registry.get_sample_value("lag_seconds", {"partition": "0"}) == 2.0


def test_a_counter_may_be_kept_elsewhere() -> None:
    registry = CollectorRegistry()
    counter = AskedCounter("things", "Things", registry)
    assert registry.get_sample_value("things_total") == 0
    counter.set_function(lambda: 4)
    assert registry.get_sample_value("things_total") == 4


def test_calls_of_a_port_are_timed_and_failures_counted() -> None:
    def count(name: str) -> float:
        return REGISTRY.get_sample_value(f"touchstone_scoring_{name}", {"call": "load_states"}) or 0.0

    tables = FakeTables()
    port = metered(tables)
    calls, failed = count("call_seconds_count"), count("calls_failed_total")
    port.load_states(["ada"])
    tables.failures.append(TablesDownError())
    with pytest.raises(TablesDownError):
        port.load_states(["ada"])
    assert count("call_seconds_count") == calls + 1
    assert count("calls_failed_total") == failed + 1
    assert port.lookups == 0, "what is no call passes through"


def test_every_call_of_the_ports_is_timed() -> None:
    ports = {name for port in (Tables, Topics) for name in vars(port) if not name.startswith("_")}
    assert ports | {"crossings", "load_checks", "publish_reviews", "write_refusals"} == set(CALLS)
    assert {"crossings", "publish"} <= set(Reviews.__init__.__annotations__)


@pytest.mark.parametrize(("text", "limited"), [("1048576\n", True), ("max\n", False), (None, False)])
def test_the_memory_limit_is_the_containers_or_the_machines(tmp_path: Path, text: str | None, limited: bool) -> None:
    path = tmp_path / "memory.max"
    if text is not None:
        path.write_text(text)
    assert (memory_limit_bytes(path) == 1 << 20) is limited
    assert memory_limit_bytes(path) > 0
