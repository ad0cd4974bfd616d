from __future__ import annotations

import os
from pathlib import Path

import pytest

from infra.embedded.children import RestartPolicy, cap_log, tail
from infra.embedded.errors import AlreadyRunningError
from infra.embedded.state import ChildState, ProcessId, StackState, exclusive, read_state, state_path, write_state


def test_delays_double_up_to_a_limit() -> None:
    policy = RestartPolicy(first_delay_s=0.5, max_delay_s=15)
    assert [policy.delay_s(deaths) for deaths in (1, 2, 3, 4, 5, 6, 7, 5000)] == [0.5, 1, 2, 4, 8, 15, 15, 15]


def test_a_log_below_its_cap_is_left_alone(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    cap_log(log, 10)
    log.write_text("0123456789")
    cap_log(log, 10)
    assert log.read_text() == "0123456789"


def test_a_log_above_its_cap_starts_again_for_its_writer(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    with log.open("a") as writer:
        writer.write("first, long\n")
        writer.flush()
        cap_log(log, 10)
        writer.write("second\n")
    assert (tmp_path / "x.log.1").read_text() == "first, long\n"
    assert log.read_text() == "second\n"


def test_a_log_is_emptied_even_when_it_cannot_be_copied(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_text("0123456789 and more")
    (tmp_path / "x.log.1").mkdir()
    cap_log(log, 10)
    assert log.read_text() == ""


def test_the_tail_of_a_log(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    assert tail(log) == ""
    log.write_bytes(b"\xff broken\n" + b"".join(b"line %d\n" % number for number in range(1000)))
    assert tail(log, 2) == "line 998\nline 999"


def a_state(supervisor: ProcessId) -> StackState:
    return StackState(
        supervisor=supervisor,
        phase="ready",
        started_at_us=1,
        ports={"kafka": 1},
        children=[ChildState(name="a", phase="ready", process=supervisor, stop_timeout_s=1, log="x")],
    )


def test_a_process_is_known_by_its_start() -> None:
    me = ProcessId.of(os.getpid())
    assert me is not None
    assert me.is_alive()
    assert not ProcessId(pid=me.pid, started="another boot").is_alive()
    assert ProcessId.of(2**22 + 1) is None


def test_the_state_is_read_back_as_written(tmp_path: Path) -> None:
    me = ProcessId.of(os.getpid())
    assert me is not None
    state = a_state(me)
    write_state(tmp_path, state)
    assert read_state(tmp_path) == state
    assert state.is_running()
    assert state.is_healthy()
    assert state.leftovers() == [me]
    assert [path.name for path in tmp_path.iterdir()] == ["stack.json"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"version": 2}'])
def test_an_unreadable_state_is_none(tmp_path: Path, content: str) -> None:
    state_path(tmp_path).write_text(content)
    assert read_state(tmp_path) is None


def test_a_folder_is_held_by_one(tmp_path: Path) -> None:
    with exclusive(tmp_path), pytest.raises(AlreadyRunningError), exclusive(tmp_path):
        pass
    with exclusive(tmp_path):
        pass
