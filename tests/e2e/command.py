"""The command ``touchstone`` as a user runs it, in a folder of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.embedded.state import read_state

ROOT = Path(__file__).parents[2]
DEADLINE_S = 120.0


@dataclass(frozen=True)
class Touchstone:
    """The command ``touchstone`` in a folder of its own."""

    folder: Path

    @property
    def env(self) -> dict[str, str]:
        own = {name: value for name, value in os.environ.items() if not name.startswith("TOUCHSTONE_")}
        return {**own, "PYTHONPATH": str(ROOT)}

    def start(self, *arguments: str, module: str = "services.cli.main") -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=self.folder,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, code: int = 0) -> str:
        """Its stdout, if it ends with ``code``."""
        with self.start(*arguments) as process:
            out, err = process.communicate(timeout=240)
        assert process.returncode == code, f"{arguments}: {process.returncode}\n{out}\n{err}"
        return out

    def json(self, *arguments: str, code: int = 0) -> Any:
        return json.loads(self.run(*arguments, "--json", code=code))

    def rows(self, sql: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.json("sql", sql)
        return rows

    def running_pid(self, part: str) -> int | None:
        """None between the end of a process and the start of the next."""
        state = read_state(self.folder / ".touchstone")
        assert state is not None
        process = next(child.process for child in state.children if child.name == part)
        return None if process is None else process.pid

    def pid_of(self, part: str) -> int:
        pid = self.running_pid(part)
        assert pid is not None
        return pid

    def settled(self) -> dict[str, Any]:
        """The status once everything in the log is scored and the books balance.

        Log and tables are asked one after the other: a review that a timer appends in between is in one of them only.
        """
        found: dict[str, Any] = {}

        def nothing_waits() -> bool:
            found.update(json.loads(self.start("status", "--json").communicate(timeout=60)[0]))
            lag = found["lag"]
            if not found["healthy"] or lag is None or lag["waiting_total"]:
                return False
            events = found["events"]
            assert events["unaccounted"] == 0
            told = events["stored"] + events["reviews"] + events["duplicate"] + events["rejected"]
            return bool(lag["accepted"] == told)

        wait_for(nothing_waits, "everything is scored, and the books balance")
        return found


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline_s, f"{what}: not within {DEADLINE_S:.0f} s"
        time.sleep(0.1)
