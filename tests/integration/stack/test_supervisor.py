from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.embedded.background import start_in_background, stop_stack
from infra.embedded.errors import AlreadyRunningError, StartFailedError
from infra.embedded.state import ProcessId, StackState, read_state, state_path

ROOT = Path(__file__).parents[3]
DEADLINE_S = 30.0

# Tells that it is ready, writes when it is told to end, and ends.
GOOD = """
import os, pathlib, signal, sys, time
data, ready = map(pathlib.Path, sys.argv[1:])
def end(*_):
    with (data / "ends").open("a") as file: file.write(os.environ["DUMMY_NAME"] + "\\n")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
with (data / "starts").open("a") as file: file.write(os.environ["DUMMY_NAME"] + "\\n")
print("up", flush=True)
ready.touch()
while True: time.sleep(60)
"""
STUBBORN = GOOD.replace("sys.exit(0)", "pass")
CRASHING = "import sys; print('no such luck', flush=True); sys.exit(7)"
# Dies at once unless its file is there, which the test takes away.
FRAGILE = GOOD.replace('print("up"', '(data / "fragile").exists() or sys.exit(9)\nprint("up"')
SLOW = "import time; time.sleep(600)"


def child(name: str, program: str = GOOD, **more: Any) -> dict[str, Any]:
    return {"name": name, "program": program, **more}


class Stack:
    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.said: list[str] = []

    def command(self, *parts: dict[str, Any], **config: Any) -> list[str]:
        program = Path(__file__).with_name("dummy_stack.py")
        return [sys.executable, str(program), str(self.data_dir), json.dumps({"parts": parts, **config})]

    def up(self, *parts: dict[str, Any], **config: Any) -> StackState:
        return start_in_background(
            self.command(*parts, **config), self.data_dir, env=self.environment(), say=self.said.append
        )

    @staticmethod
    def environment() -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(ROOT)}

    def down(self) -> bool:
        return stop_stack(self.data_dir, say=self.said.append, timeout_s=DEADLINE_S)

    def state(self) -> StackState:
        state = read_state(self.data_dir)
        assert state is not None
        return state

    def lines(self, name: str) -> list[str]:
        path = self.data_dir / name
        return path.read_text().split() if path.exists() else []


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    stack = Stack(tmp_path / "data")
    yield stack
    stack.down()


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {DEADLINE_S} s"
        time.sleep(0.02)


def processes(state: StackState) -> list[ProcessId]:
    found = [child.process for child in state.children if child.process is not None]
    assert len(found) == len(state.children)
    return found


def test_parts_start_in_order_and_end_in_reverse(stack: Stack) -> None:
    check = {"name": "migrations", "prepare": "assert (data_dir / 'a.ready').exists(); (data_dir / 'done').touch()"}
    state = stack.up(child("a"), check, child("b"), child("c"))
    assert state.is_healthy()
    assert stack.lines("starts") == ["a", "b", "c"]
    assert (stack.data_dir / "done").exists()
    assert [line.split(":")[0] for line in stack.said] == ["a", "migrations", "b", "c", "stack"]
    assert (stack.data_dir / "logs" / "b.log").read_text() == "up\n"
    assert stack.down()
    assert stack.lines("ends") == ["c", "b", "a"]
    assert not any(process.is_alive() for process in [state.supervisor, *processes(state)])
    assert read_state(stack.data_dir) is None
    assert not stack.down()


def test_a_dead_child_is_started_again_alone(stack: Stack) -> None:
    before = stack.up(child("a"), child("b"))
    victim = processes(before)[1]
    os.kill(victim.pid, signal.SIGKILL)
    wait_for(lambda: stack.state().children[1].restarts == 1 and stack.state().is_healthy(), "restart")
    after = stack.state()
    assert after.children[0].process == before.children[0].process
    assert after.children[1].process != victim
    assert after.children[1].last_exit == -signal.SIGKILL
    log = (stack.data_dir / "logs" / "supervisor.log").read_text()
    assert "b ended by SIGKILL; starting it again in 0.1 s" in log or "in 0.0 s" in log


def test_a_crash_loop_is_told_and_still_tried(stack: Stack) -> None:
    stack.data_dir.mkdir()
    fragile = stack.data_dir / "fragile"
    fragile.touch()
    state = stack.up(child("a"), child("b", FRAGILE))
    fragile.unlink()
    os.kill(processes(state)[1].pid, signal.SIGKILL)
    wait_for(lambda: stack.state().children[1].phase == "crash loop", "crash loop")
    assert not stack.state().is_healthy()
    assert stack.state().is_running()
    fragile.touch()
    wait_for(lambda: stack.state().is_healthy(), "recovery")
    assert stack.state().children[1].restarts >= 3


def test_a_failed_start_says_why_and_leaves_nothing(stack: Stack) -> None:
    with pytest.raises(StartFailedError, match=r"b ended with code 7 before it was ready[\s\S]*no such luck"):
        stack.up(child("a"), child("b", CRASHING), child("c"))
    state = stack.state()
    assert state.phase == "failed"
    assert not state.is_running()
    assert stack.lines("starts") == stack.lines("ends") == ["a"]
    assert stack.up(child("a")).is_healthy()


def test_a_failed_preparation_stops_what_had_started(stack: Stack) -> None:
    with pytest.raises(StartFailedError, match="migrations failed: ValueError: table is odd"):
        stack.up(child("a"), {"name": "migrations", "prepare": "raise ValueError('table is odd')"})
    assert stack.lines("ends") == ["a"]


def test_a_part_that_is_never_ready_is_not_waited_for_forever(stack: Stack) -> None:
    with pytest.raises(StartFailedError, match="a was not ready after 0 s, and wrote nothing"):
        stack.up(child("a", SLOW, ready_timeout_s=0.3))


def test_a_second_start_leaves_the_first_alone(stack: Stack) -> None:
    first = stack.up(child("a"))
    with pytest.raises(AlreadyRunningError):
        stack.up(child("a"))
    assert stack.state() == first
    assert all(process.is_alive() for process in processes(first))


def test_two_starts_at_once_make_one_stack(stack: Stack) -> None:
    stack.data_dir.mkdir()
    starts = [
        subprocess.Popen(stack.command(child("a")), env=stack.environment(), stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    wait_for(lambda: any(start.poll() is not None for start in starts), "one gives way")
    loser = next(start for start in starts if start.poll() is not None)
    winner = next(start for start in starts if start is not loser)
    assert loser.communicate()[1].startswith("AlreadyRunningError")
    wait_for(lambda: stack.state().is_healthy(), "ready")
    winner.send_signal(signal.SIGINT)
    assert winner.communicate(timeout=DEADLINE_S)
    assert winner.returncode == 0
    assert stack.lines("starts") == stack.lines("ends") == ["a"]


@pytest.mark.parametrize("death", ["SIGTERM", "SIGKILL"])
def test_nothing_outlives_a_killed_supervisor(stack: Stack, death: str) -> None:
    if sys.platform != "linux":
        pytest.skip("the parent-death signal is Linux's")
    state = stack.up(child("a", on_supervisor_death=death), child("b", on_supervisor_death=death))
    os.kill(state.supervisor.pid, signal.SIGKILL)
    wait_for(lambda: not any(process.is_alive() for process in processes(state)), "children end")
    assert sorted(stack.lines("ends")) == (["a", "b"] if death == "SIGTERM" else [])
    assert stack.up(child("a")).is_healthy()


@pytest.mark.parametrize("by", ["up", "down"])
def test_what_outlives_a_killed_supervisor_is_cleared_next(stack: Stack, by: str) -> None:
    stubborn = stack.up(child("a", STUBBORN, stop_timeout_s=0.2))
    os.kill(stubborn.supervisor.pid, signal.SIGKILL)
    wait_for(lambda: not stubborn.is_running(), "supervisor ends")
    [left] = processes(stubborn)
    assert left.is_alive()
    if by == "up":
        assert stack.up(child("b")).is_healthy()
    else:
        assert stack.down()
    assert not left.is_alive()


def test_a_stubborn_child_is_killed_at_its_deadline(stack: Stack) -> None:
    state = stack.up(child("a", STUBBORN, stop_timeout_s=0.2))
    assert stack.down()
    assert not processes(state)[0].is_alive()


def test_a_stale_state_file_names_nobody(stack: Stack) -> None:
    """After a reboot its numbers belong to others."""
    first = stack.up(child("a"))
    assert stack.down()
    with subprocess.Popen([sys.executable, "-c", SLOW]) as bystander:
        stale = first.model_copy(deep=True)
        stale.children[0].process = ProcessId(pid=bystander.pid, started="another-boot/1")
        state_path(stack.data_dir).write_text(stale.model_dump_json())
        assert not stack.state().is_running()
        assert stack.up(child("a")).is_healthy()
        assert bystander.poll() is None
        bystander.kill()


def test_a_taken_port_is_named_before_anything_starts(stack: Stack) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(StartFailedError, match=rf"port {port} for dummy is taken by python.*, pid {os.getpid()}"):
            stack.up(child("a"), ports=[port])
    assert stack.lines("starts") == []


def test_a_state_that_cannot_be_written_ends_nothing(stack: Stack) -> None:
    state = stack.up(child("a"))
    [process] = processes(state)
    state_path(stack.data_dir).unlink()
    state_path(stack.data_dir).mkdir()
    try:
        os.kill(process.pid, signal.SIGKILL)
        wait_for(lambda: stack.lines("starts") == ["a", "a"], "restart")
        log = (stack.data_dir / "logs" / "supervisor.log").read_text()
        assert "stack.json cannot be written" in log
        assert state.is_running()
    finally:
        state_path(stack.data_dir).rmdir()
        os.kill(state.supervisor.pid, signal.SIGTERM)
    wait_for(lambda: not state.is_running(), "end")
    assert stack.lines("ends") == ["a"]


def test_logs_are_capped(stack: Stack) -> None:
    noisy = GOOD.replace("while True: time.sleep(60)", "while True: print('x' * 99, flush=True); time.sleep(0.001)")
    stack.up(child("a", noisy), log_cap_bytes=20_000)
    log = stack.data_dir / "logs" / "a.log"
    wait_for(log.with_name("a.log.1").exists, "the cap")
    assert log.with_name("a.log.1").stat().st_size >= 20_000


def test_a_child_may_not_survive_by_children_of_its_own(stack: Stack) -> None:
    parent = GOOD.replace(
        "ready.touch()",
        "import subprocess\n"
        "grandchild = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "(data / 'grandchild').write_text(str(grandchild.pid))\n"
        "ready.touch()",
    )
    stack.up(child("a", parent))
    grandchild = ProcessId.of(int((stack.data_dir / "grandchild").read_text()))
    assert grandchild is not None
    assert stack.down()
    wait_for(lambda: not grandchild.is_alive(), "grandchild ends")
