"""The ingest process as it is deployed, started and ended by a test."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from infra.kafka.admin import KafkaAdmin
from schemas.topics import TOPICS

START_TIMEOUT_S = 30


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


class IngestProcess:
    """``python -m services.ingest.main`` with settings of a test; its output goes to a file."""

    def __init__(self, bootstrap: str, folder: Path, **settings: object) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log_path = folder / f"ingest-{self.port}.log"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TOUCHSTONE_")}
        environment |= {"TOUCHSTONE_INGEST_PORT": str(self.port), "TOUCHSTONE_KAFKA_BOOTSTRAP": bootstrap}
        environment |= {name: str(value) for name, value in settings.items()}
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "services.ingest.main"], env=environment, stdout=log, stderr=log
            )

    def wait_until_live(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            try:
                httpx.get(f"{self.url}/health/live", timeout=1)
            except httpx.TransportError:
                time.sleep(0.05)
            else:
                return
        raise AssertionError(f"ingest did not start:\n{self.log_path.read_text()}")

    def stop(self, timeout_s: float = 30) -> int:
        """SIGTERM; returns the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


Start = Callable[..., IngestProcess]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts ingest processes: ``start(bootstrap, TOUCHSTONE_...=value)``; ends them after the test."""
    started: list[IngestProcess] = []

    def start_one(bootstrap: str, *, wait: bool = True, **settings: object) -> IngestProcess:
        process = IngestProcess(bootstrap, tmp_path, **settings)
        started.append(process)
        if wait:
            process.wait_until_live()
        return process

    yield start_one
    for process in started:
        process.stop()


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IngestProcess]:
    """An ingest process without a Kafka, for requests that never get there."""
    process = IngestProcess("127.0.0.1:1", tmp_path_factory.mktemp("ingest"))
    try:
        process.wait_until_live()
        yield process
    finally:
        process.stop()


@pytest.fixture(scope="session")
def topics(kafka: str) -> str:
    """Bootstrap address of the session's broker, with Touchstone's topics."""
    with KafkaAdmin(kafka) as admin:
        admin.ensure_topics(TOPICS)
    return kafka
