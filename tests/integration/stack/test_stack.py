"""The real parts under the supervisor, and the commands that look at them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from infra.embedded.background import stop_stack
from infra.embedded.state import ProcessId, StackState, read_state
from infra.kafka.runtime import KafkaRuntime

pytestmark = pytest.mark.stack

ROOT = Path(__file__).parents[3]
DEADLINE_S = 120.0


class Stack:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data_dir = folder / ".touchstone"
        own = {name: value for name, value in os.environ.items() if not name.startswith("TOUCHSTONE_")}
        self.env = {**own, "PYTHONPATH": str(ROOT), "TOUCHSTONE_DATA_DIR": str(self.data_dir)}

    def command(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "services.cli.main", *arguments],
            cwd=self.folder,
            env={**self.env, **more},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    def status(self) -> dict[str, Any]:
        done = self.command("status", "--json")
        assert done.returncode == 0, done.stderr + done.stdout
        document: dict[str, Any] = json.loads(done.stdout)
        return document

    def state(self) -> StackState:
        state = read_state(self.data_dir)
        assert state is not None
        return state

    def pid_of(self, part: str) -> int:
        process = next(child.process for child in self.state().children if child.name == part)
        assert process is not None
        return process.pid

    def ingest_url(self) -> str:
        return f"http://127.0.0.1:{self.state().ports['ingest']}"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, kafka_runtime: KafkaRuntime) -> Iterator[Stack]:
    del kafka_runtime  # brought before, so that no test pays for it
    stack = Stack(tmp_path_factory.mktemp("stack"))
    try:
        done = stack.command("up", "--free-ports")
        assert done.returncode == 0, done.stderr
        yield stack
    finally:
        stop_stack(stack.data_dir, say=print)


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {DEADLINE_S} s"
        time.sleep(0.05)


def send(stack: Stack) -> None:
    event = {
        "event_id": str(uuid.uuid4()),
        "customer_id": "c-1",
        "source": "test",
        "kind": "interaction",
        "touchpoint": "support.phone",
        "occurred_at": "2026-01-02T03:04:05Z",
    }
    answer = httpx.post(f"{stack.ingest_url()}/v1/events", json=event, timeout=30)
    assert answer.status_code == 202, answer.text


def settled(stack: Stack) -> dict[str, Any]:
    """The status once nothing waits."""
    found: list[dict[str, Any]] = []

    def nothing_waits() -> bool:
        found[:] = [stack.status()]
        return found[0]["lag"] is not None and found[0]["lag"]["waiting_total"] == 0

    wait_for(nothing_waits, "scoring is through")
    return found[0]


def test_an_event_is_stored_and_the_books_balance(stack: Stack) -> None:
    before = settled(stack)
    send(stack)
    after = settled(stack)
    assert after["healthy"]
    assert [part["name"] for part in after["parts"]] == ["kafka", "clickhouse", "scoring-1", "alerting", "ingest"]
    assert all(part["state"] == "ready" and part["rss_mib"] > 5 for part in after["parts"])
    assert after["ingest_since_start"]["accepted"] == before["ingest_since_start"]["accepted"] + 1
    assert after["events"]["stored"] == before["events"]["stored"] + 1
    assert after["events"]["unaccounted"] == 0
    assert after["unreachable"] == {}
    text = stack.command("status")
    assert text.returncode == 0
    assert "waiting to be scored" in text.stdout
    assert "waiting to be decided by" in text.stdout
    assert after["alerting"]["calls_dead"] == after["alerting"]["cases_open"] == 0


def test_a_second_up_changes_nothing(stack: Stack) -> None:
    before = stack.state()
    done = stack.command("up", "--json")
    assert done.returncode == 0
    assert "runs on" in done.stderr
    assert "already" in done.stderr
    assert json.loads(done.stdout)["pid"] == before.supervisor.pid
    assert stack.state() == before


def test_a_taken_port_names_the_setting(stack: Stack, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        done = stack.command(
            "up", "--free-ports", TOUCHSTONE_DATA_DIR=str(tmp_path / "other"), TOUCHSTONE_INGEST_PORT=port
        )
    assert done.returncode == 2
    assert f"port {port} for ingest is taken by" in done.stderr
    assert "set TOUCHSTONE_INGEST_PORT" in done.stderr
    assert done.stderr.count("is taken by") == 1


def test_doctor_finds_nothing(stack: Stack) -> None:
    done = stack.command("doctor", "--json")
    findings = json.loads(done.stdout)
    assert {"kafka", "topics", "lag", "clickhouse", "ingest"} <= {finding["check"] for finding in findings}
    # The package's own name is missing where the project is run without being installed.
    assert {finding["check"] for finding in findings if finding["level"] == "fail"} <= {"packages"}


def test_a_stopped_part_is_named_and_the_rest_still_told(stack: Stack) -> None:
    pid = stack.pid_of("clickhouse")
    os.kill(pid, signal.SIGSTOP)
    try:
        status, doctor = stack.command("status", "--json"), stack.command("doctor", "--json")
    finally:
        os.kill(pid, signal.SIGCONT)
    document = json.loads(status.stdout)
    assert status.returncode == 3
    assert list(document["unreachable"]) == ["clickhouse"]
    assert document["events"] is document["alerting"] is None
    assert document["lag"]["accepted"] >= 0
    assert doctor.returncode == 1
    failed = {finding["check"] for finding in json.loads(doctor.stdout) if finding["level"] == "fail"}
    assert failed - {"packages"} == {"clickhouse", "alerting"}


def test_killed_parts_come_back_with_their_data(stack: Stack) -> None:
    """All at once, which is the worst order; the supervisor alone goes on."""
    send(stack)
    before = settled(stack)
    pids = {part["name"]: part["pid"] for part in before["parts"]}
    for pid in pids.values():
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not stack.state().is_healthy(), "the deaths are seen")
    wait_for(lambda: stack.state().is_healthy(), "all are back")
    assert not set(pids.values()) & {stack.pid_of(part) for part in pids}
    send(stack)
    after = settled(stack)
    assert after["lag"]["accepted"] == before["lag"]["accepted"] + 1
    assert after["events"]["stored"] == before["events"]["stored"] + 1
    assert after["events"]["unaccounted"] == 0


def test_down_ends_all_and_up_finds_everything(stack: Stack) -> None:
    before = settled(stack)
    done = stack.command("down")
    assert done.returncode == 0
    assert "stopped" in done.stderr
    assert not any(ProcessId.of(part["pid"]) for part in before["parts"])
    assert stack.command("status").returncode == 1
    assert stack.command("up", "--free-ports").returncode == 0
    after = settled(stack)
    assert after["lag"]["accepted"] == before["lag"]["accepted"]
    assert after["events"] == before["events"]
