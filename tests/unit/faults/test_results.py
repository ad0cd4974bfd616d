"""Hundreds of runs come to a page that can be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.faults.results import append, quantile, read, summary


def result(seed: int, *, ok: bool = True, recovery_s: float | None = 1.0) -> dict[str, Any]:
    fault = {"kind": "kill", "target": "ingest", "alone": recovery_s is not None, "recovery_s": recovery_s}
    return {
        "seed": seed,
        "ok": ok,
        "violations": [] if ok else ["I5: band differs for 1: x", "I5: score differs"],
        "faults": [fault, {**fault, "kind": "clock", "left_out": "no library"}],
        **dict.fromkeys(("acknowledged", "unknown", "repeats_sent", "conflicts_sent", "poison_sent", "stored"), 10),
        "lost": 0,
        "surplus": 0 if ok else 3,
        "customers": 2,
        "slowest_answer_s": 0.5,
        "worker_mib": 200,
    }


def test_results_are_added_line_by_line_and_summed_up(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "faults.jsonl"
    for seed in range(9):
        append(path, result(seed, recovery_s=float(seed)))
    append(path, result(9, ok=False, recovery_s=None))
    text = summary(read(path))
    lines = {line[:26].strip(): line[26:].split() for line in text.splitlines()}
    assert "runs                     10" in text
    assert "red                      1  seeds [9]" in text
    assert "events acknowledged      100" in text
    assert "lost, surplus            0, 3" in text
    assert "  I5: 2" in text
    assert "  no library: 10" in text
    assert lines["kill ingest"] == ["10", "9", "4.0", "8.0", "8.0"]
    assert lines["any one process killed"] == ["9", "9", "4.0", "8.0", "8.0"]


def test_nothing_summed_up_is_no_error() -> None:
    assert "runs                     0" in summary([])


def test_a_quantile_is_one_of_the_values() -> None:
    values = [float(number) for number in range(1, 101)]
    assert [quantile(values, share) for share in (0.5, 0.99, 1.0)] == [50.0, 99.0, 100.0]
    assert quantile([3.0], 0.5) == 3.0
