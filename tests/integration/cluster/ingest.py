"""Ingest processes as they are deployed, any number of them before one Kafka."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from infra.embedded.launch import launch_command
from infra.embedded.ports import free_port
from infra.embedded.probes import http_ok

ROOT = Path(__file__).parents[3]
START_S = 60.0
STOP_S = 40.0


@dataclass
class Ingest:
    """A running process."""

    port: int
    process: subprocess.Popen[bytes]
    log_path: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        return self.process.pid

    def is_ready(self) -> bool:
        """Kafka answers it and has the topics."""
        return http_ok("127.0.0.1", self.port, "/health/ready")

    def end(self) -> int:
        """SIGTERM; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


def start_ingest(bootstrap: str, folder: Path, settings: Mapping[str, str]) -> Ingest:
    """Start one on a free port; it becomes ready in its own time and ends with the test session."""
    port = free_port()
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TOUCHSTONE_")}
    told = {"TOUCHSTONE_INGEST_PORT": str(port), "TOUCHSTONE_KAFKA_BOOTSTRAP": bootstrap, "PYTHONPATH": str(ROOT)}
    log_path = folder / f"ingest-{port}.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            launch_command(
                [sys.executable, "-m", "services.ingest.main"], parent_pid=os.getpid(), on_parent_death=signal.SIGKILL
            ),
            cwd=folder,
            env={**clean, **told, **settings},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    return Ingest(port, process, log_path)


@contextmanager
def ingests(count: int, bootstrap: str, folder: Path, settings: Mapping[str, str]) -> Iterator[list[Ingest]]:
    """So many processes, all ready; each must end by itself with code 0."""
    started = [start_ingest(bootstrap, folder, settings) for _ in range(count)]
    try:
        deadline_s = time.monotonic() + START_S
        while not all(ingest.is_ready() for ingest in started):
            late = time.monotonic() > deadline_s or any(ingest.process.poll() is not None for ingest in started)
            assert not late, "\n".join(ingest.log_path.read_text() for ingest in started)
            time.sleep(0.05)
        yield started
        codes = [ingest.end() for ingest in started]
        assert not any(codes), "\n".join(ingest.log_path.read_text() for ingest in started)
    finally:
        for ingest in started:
            if ingest.process.poll() is None:
                ingest.process.kill()
                ingest.process.wait()
