"""A server of the embedded ClickHouse for the session, on free ports and a folder of its own."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from clickhouse_driver import Client

OWNER, OWNER_PASSWORD = "touchstone", "own er's"
READER, READER_PASSWORD = "analyst", "read"
START_SECONDS = 30.0
READER_SECONDS = 2


@dataclass
class Server:
    """A running server; `stop` ends it with SIGTERM and says its exit code."""

    folder: Path
    native_port: int
    http_port: int
    process: subprocess.Popen[str]
    clients: list[Client] = field(default_factory=list)

    def client(self, reader: bool = False, **options: Any) -> Client:
        """A clickhouse-driver client; closed with the test."""
        login = {"user": READER, "password": READER_PASSWORD} if reader else {"user": OWNER, "password": OWNER_PASSWORD}
        client = Client("127.0.0.1", port=self.native_port, **{**login, **options})
        self.clients.append(client)
        return client

    def http(
        self,
        query: str | None = None,
        body: bytes | None = None,
        reader: bool = False,
        headers: dict[str, str] | None = None,
        method: str = "POST",
        **parameters: Any,
    ) -> httpx.Response:
        """One request with Basic authentication."""
        login = (READER, READER_PASSWORD) if reader else (OWNER, OWNER_PASSWORD)
        given = {**({"query": query} if query is not None else {}), **parameters}
        return httpx.request(
            method,
            f"http://127.0.0.1:{self.http_port}/",
            params=given,
            content=body,
            auth=login,
            headers={"Accept-Encoding": "identity", **(headers or {})},
            timeout=60,
        )

    def run(self, query: str, **parameters: Any) -> str:
        """Run a statement as the owner; its text, or an assertion error with the server's message."""
        response = self.http(body=query.encode(), **parameters)
        assert response.status_code == 200, response.text
        return response.text

    def stop(self) -> int:
        for client in self.clients:
            client.disconnect()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


def start_server(folder: Path, **environment: str) -> Server:
    """Start a server on `folder`; returns when it is ready."""
    settings = {
        "TOUCHSTONE_CLICKHOUSE_PASSWORD": OWNER_PASSWORD,
        "TOUCHSTONE_CLICKHOUSE_READER_PASSWORD": READER_PASSWORD,
        "TOUCHSTONE_CLICKHOUSE_READER_MAX_SECONDS": str(READER_SECONDS),
        "TOUCHSTONE_CLICKHOUSE_READER_MAX_RESULT_ROWS": "300000",
        "TOUCHSTONE_CLICKHOUSE_READER_MAX_MEMORY_BYTES": str(512 << 20),
        **environment,
    }
    with (folder.parent / f"{folder.name}.log").open("a") as log:
        process = subprocess.Popen(
            [
                sys.executable, "-m", "infra.embedded.clickhouse.main",
                "--data", str(folder), "--native-port", "0", "--http-port", "0",
            ],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, **settings},
        )  # fmt: skip
    assert process.stdout is not None
    readable, _, _ = select.select([process.stdout], [], [], START_SECONDS)
    line = process.stdout.readline() if readable else ""
    process.stdout.close()
    if not line.startswith("ready:"):
        process.kill()
        process.wait()
        text = (folder.parent / f"{folder.name}.log").read_text()
        raise AssertionError(f"the server did not start: {text[-2000:]}")
    native_port, http_port = map(int, re.findall(r"\d+", line))
    return Server(folder, native_port, http_port, process)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = start_server(tmp_path_factory.mktemp("clickhouse") / "data")
    yield running
    assert running.stop() == 0


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Starts further servers on folders of the test; they end with it."""
    started: list[Server] = []

    def begin(folder: Path | None = None, **environment: str) -> Server:
        started.append(start_server(folder or tmp_path / "data", **environment))
        return started[-1]

    yield begin
    for one in started:
        one.stop()


@pytest.fixture
def table(server: Server, request: pytest.FixtureRequest) -> Iterator[Callable[[str], str]]:
    """Creates tables with names of their own; dropped after the test."""
    made: list[str] = []

    def make(columns: str, engine: str = "MergeTree ORDER BY tuple()") -> str:
        name = f"t{len(made)}_{abs(hash(request.node.nodeid)) % 10**9}"
        server.run(f"CREATE TABLE {name} ({columns}) ENGINE = {engine}")
        made.append(name)
        return name

    yield make
    for name in made:
        server.run(f"DROP TABLE IF EXISTS {name} SYNC")


@pytest.fixture
def until() -> Callable[[Callable[[], bool], float], None]:
    """Waits for a condition up to a deadline in seconds."""

    def wait(condition: Callable[[], bool], seconds: float = 10.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "the condition did not come true in time"
            time.sleep(0.02)

    return wait
