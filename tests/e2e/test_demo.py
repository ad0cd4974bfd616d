"""The demo shows the main job and leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from tests.e2e.command import Touchstone

pytestmark = pytest.mark.stack


def running_in(folder: Path) -> list[str]:
    """Processes that keep their data in the folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("TOUCHSTONE_DATA_DIR", "").startswith(str(folder)):
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue  # another user's, or just ended
    return found


def test_the_demo_shows_the_main_job_and_leaves_nothing_behind(tmp_path: Path) -> None:
    demo = Touchstone(tmp_path).start("--customers", "150", module="services.cli.demo")
    out, err = demo.communicate(timeout=280)
    assert demo.returncode == 0, out + err
    shown = (
        "events/s",
        "fresh:",
        "in the log =",
        "because",
        "lift",
        "verified, 0 refused",
        "lead time",
        "touchstone sql",
    )
    for expected in shown:
        assert expected in out
    assert "all stopped" in err
    assert running_in(tmp_path) == []
