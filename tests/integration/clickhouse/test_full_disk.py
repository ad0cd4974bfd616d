"""A full disk under the engine, which takes failed writes for good ones."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.stack
REPOSITORY = Path(__file__).parents[3]


def test_what_was_written_to_a_full_disk_is_refused_and_mended(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "tests.integration.clickhouse.full_disk", str(tmp_path / "data")],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=REPOSITORY,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == {
        "insert that met a full disk": 243,
        "insert on a full disk": 243,
        "read of hollow parts": 243,
        "drop on a full disk": 0,
        "the same insert again": 0,
        "read again": 0,
        "rows": 5 * 500,
        "merge again": 0,
        "rows in a new process": 5 * 500,
    }
    for name in ("all_1_4_2", "all_5_5_1"):
        assert f"part {name} of t.kept was written to a full disk and cannot be read" in ran.stderr
    assert "is gone" not in ran.stderr
