"""The benchmarks work: their log is a sound one, their figures are named, and a small run comes to its end."""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import benchmarks
from benchmarks import pictures, report, scoring, stages
from benchmarks.log import Log, LogSpec, kept, make
from schemas.decode import decode

NOW_US = 1_790_000_000_000_000
SPEC = LogSpec(events=2_000, customers=300, rate_per_s=1_000.0)
STAND_ALONE = ("benchmarks.peers.", "benchmarks.plain_fastapi")
"""What they are compared with: packages that are not here, or that warn of themselves when imported."""


@pytest.fixture(scope="module")
def log() -> Log:
    return make(SPEC, NOW_US)


def test_blas_is_held_to_one_thread_before_numpy_comes() -> None:
    code = "import sys, benchmarks; assert 'numpy' not in sys.modules; import os; print(*map(os.getenv, sys.argv[1:]))"
    given = {name: value for name, value in os.environ.items() if name not in benchmarks.ONE_THREAD}
    command = [sys.executable, "-c", code, *benchmarks.ONE_THREAD]
    root = Path(benchmarks.__file__).parents[1]
    for more, wanted in (({}, "1 1 1"), ({benchmarks.ONE_THREAD[0]: "2"}, "2 1 1")):
        run = subprocess.run(command, env=given | more, cwd=root, capture_output=True, text=True, check=True)
        assert run.stdout.split() == wanted.split()


def test_every_module_can_be_imported_without_effect() -> None:
    names = [module.name for module in pkgutil.walk_packages(benchmarks.__path__, "benchmarks.")]
    for name in names:
        if not name.startswith(STAND_ALONE):
            importlib.import_module(name)
    assert "benchmarks.__main__" in names


def test_a_log_holds_sound_records_of_its_customers_up_to_now(log: Log) -> None:
    decoded = decode(log.values(), b"\x01" * 8)
    assert decoded.rejects == ()
    frame = decoded.frame
    assert frame.height == SPEC.events
    assert frame["customer_id"].to_list() == log.keys()
    assert frame["event_id"].n_unique() == SPEC.events
    assert frame["received_at"].max() == NOW_US
    assert np.diff(frame["received_at"].to_numpy()).min() == 1_000
    assert (frame["occurred_at"] <= frame["received_at"]).all()
    assert frame["kind"].n_unique() > 8


def test_the_same_seed_gives_the_same_log(log: Log) -> None:
    again = make(SPEC, NOW_US)
    assert again.customer.tolist() == log.customer.tolist()
    assert [len(value) for value in again.values()] == [len(value) for value in log.values()]


def test_history_is_spread_over_its_days_in_order() -> None:
    spec = LogSpec(events=500, customers=50, rate_per_s=50_000.0, history_days=30.0)
    occurred = decode(make(spec, NOW_US).values(), b"\x01" * 8).frame["occurred_at"].to_numpy()
    assert np.diff(occurred).min() >= 0
    assert NOW_US - occurred[0] == pytest.approx(30 * 86_400e6, rel=0.01)


def test_a_kept_log_comes_back_as_it_was(tmp_path: Path) -> None:
    now_us = time.time_ns() // 1000
    first, second = kept(SPEC, tmp_path, now_us), kept(SPEC, tmp_path, now_us)
    assert second.values() == first.values()
    assert len([*tmp_path.iterdir()]) == 1


def test_stages_account_for_every_event(log: Log) -> None:
    result = stages.run(stages.batches(log), cache_customers=10_000)
    assert result.events == SPEC.events
    assert 0 < result.states <= SPEC.customers
    assert {"decode", "fold", "judge", "lay out events", "lay out states"} <= result.seconds.keys()


def test_figures_that_fall_short_are_marked() -> None:
    shown = report.text({"scoring_events_per_s": 149_000.0, "freshness_p99_ms": 900.0, "stage_fold_us_per_event": 2.5})
    scored, fresh, stage = shown.splitlines()
    assert scored.endswith("short")
    assert not fresh.endswith("short")
    assert stage.split() == ["fold", "2.50", "us/event"]
    assert "| Scoring, whole path, 100,000 customers | 149,000 | events/s | at least 150,000 |" in report.markdown(
        {"scoring_events_per_s": 149_000.0}
    )


def test_pictures_are_drawn_from_kept_figures(tmp_path: Path) -> None:
    figures = {"scoring_events_per_s": 1e5, "scoring_10m_customers_events_per_s": 2e4, "stage_fold_us_per_event": 2.5}
    drawn = pictures.draw(json.loads(json.dumps(figures)), tmp_path)
    assert [path.name for path in drawn] == ["throughput.png", "stages.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in drawn)


@pytest.mark.stack
def test_a_small_log_is_scored_to_its_end(tmp_path: Path) -> None:
    log = make(LogSpec(events=5_000, customers=1_000), time.time_ns() // 1000)
    with scoring.loaded(log, tmp_path) as stack:
        result = scoring.whole_path(stack, 1, "small")
        memory = scoring.in_memory(stack, 1, "fold only")
    assert result.events_per_s > 0
    assert result.median.events == memory.median.events == 5_000
    assert {"worker", "kafka", "clickhouse"} <= result.median.used.keys()
    assert not [*tmp_path.iterdir()], "the stack's folder is removed"
