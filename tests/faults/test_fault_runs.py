"""Short runs of the fault command, as a user makes them; and, on demand, the search for planted bugs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.hunt import BUGS
from tests.faults.results import read

pytestmark = pytest.mark.stack

ROOT = Path(__file__).parents[2]
SEED = 106
"""And 107, of eight seconds: several faults at once, then one after another, on all parts of the stack."""


def faults(*arguments: str, timeout_s: float) -> subprocess.CompletedProcess[str]:
    """``python -m tests.faults``; its parts end with it."""
    return subprocess.run(
        [sys.executable, "-m", "tests.faults", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


@pytest.mark.timeout(600)
def test_nothing_is_lost_or_counted_twice_under_fire(tmp_path: Path) -> None:
    out = tmp_path / "faults.jsonl"
    done = faults("run", "--runs", "2", "--seed", str(SEED), "--seconds", "8", "--out", str(out), timeout_s=580)
    assert done.returncode == 0, done.stdout + done.stderr
    results = read(out)
    assert [result["seed"] for result in results] == [SEED, SEED + 1]
    assert all(result["acknowledged"] > 1_000 and result["faults"] for result in results)
    assert "red                      0" in faults("summary", str(out), timeout_s=60).stdout


@pytest.mark.planted
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", [bug.name for bug in BUGS])
def test_a_planted_bug_is_found(name: str) -> None:
    done = faults("planted", name, timeout_s=880)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
