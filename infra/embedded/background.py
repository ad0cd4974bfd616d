"""A supervisor in the background: started, followed until it is ready, and ended again, from another process."""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from infra.embedded.children import LOG_CAP_BYTES, cap_log, tail
from infra.embedded.errors import AlreadyRunningError, StackError, StartCancelledError, StartFailedError
from infra.embedded.state import StackState, exclusive, read_state
from infra.embedded.supervisor import clear_leftovers

Say = Callable[[str], None]

_POLL_S = 0.1
# The sum of what every part may take to end (Supervisor adds nothing), with room for a busy machine.
STOP_TIMEOUT_S = 120.0
# How long a supervisor that is just ending may keep the folder after its last word.
RELEASE_TIMEOUT_S = 10.0

# Kept, so that a process which goes on living does not meet a warning about children it did not wait for.
_started: list[subprocess.Popen[bytes]] = []


@atexit.register
def _reap() -> None:
    """Take note of those that ended meanwhile; the others live on by intention."""
    for process in _started:
        process.poll()


def supervisor_log(data_dir: Path) -> Path:
    return data_dir / "logs" / "supervisor.log"


def start_in_background(
    command: Sequence[str], data_dir: Path, *, env: Mapping[str, str] | None = None, say: Say
) -> StackState:
    """Run a supervisor's command in a session of its own, pass on what it says, return once all is ready.

    Raises AlreadyRunningError when another one holds the folder, StartFailedError with its last words (which ``say``
    has had too), and
    StartCancelledError after Ctrl-C, by then nothing runs any more.
    """
    log = supervisor_log(data_dir)
    log.parent.mkdir(parents=True, exist_ok=True)
    cap_log(log, LOG_CAP_BYTES)
    with log.open("ab") as output:
        offset = output.tell()
        process = subprocess.Popen(
            list(command), stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=env, start_new_session=True
        )
    _started.append(process)
    try:
        while True:
            ended = process.poll() is not None
            state = read_state(data_dir)
            offset = _follow(log, offset, say)
            if state is not None and state.supervisor.pid == process.pid and state.phase == "ready":
                return state
            if ended:
                raise _last_words(process, state, log)
            time.sleep(_POLL_S)
    except KeyboardInterrupt:
        process.terminate()
        process.wait()
        raise StartCancelledError("stopped before everything was ready") from None


def _last_words(process: subprocess.Popen[bytes], state: StackState | None, log: Path) -> StackError:
    if state is not None and state.supervisor.pid != process.pid and state.is_running():
        return AlreadyRunningError("another start was faster")
    if state is not None and state.supervisor.pid == process.pid and state.message:
        return StartFailedError(state.message, process.returncode)
    return StartFailedError(f"the supervisor ended with code {process.returncode}:\n{tail(log)}", process.returncode)


def _follow(log: Path, offset: int, say: Say) -> int:
    """Pass on whole lines written since ``offset``; returns the new one."""
    with log.open("rb") as file:
        file.seek(offset)
        fresh = file.read()
    end = fresh.rfind(b"\n") + 1
    for line in fresh[:end].decode("utf-8", errors="replace").splitlines():
        say(line)
    return offset + end


def stop_stack(data_dir: Path, *, say: Say, timeout_s: float = STOP_TIMEOUT_S) -> bool:
    """End the stack of a data folder, cleanly when it lets itself be; True when anything ran.

    Returns when nothing of it is left, its children of a killed supervisor included.
    """
    if not data_dir.is_dir():
        return False
    state = read_state(data_dir)
    if state is not None and state.is_running():
        with suppress(ProcessLookupError):
            os.kill(state.supervisor.pid, signal.SIGTERM)
        deadline_s = time.monotonic() + timeout_s
        told: set[str] = set()
        while state.is_running():
            _tell_ended(read_state(data_dir), told, say)
            if time.monotonic() > deadline_s:
                say(f"the supervisor (pid {state.supervisor.pid}) did not end within {timeout_s:.0f} s, killing it")
                with suppress(ProcessLookupError):
                    os.kill(state.supervisor.pid, signal.SIGKILL)
                deadline_s = time.monotonic() + RELEASE_TIMEOUT_S
            time.sleep(_POLL_S)
        _clear(data_dir, say)
        return True
    left = state is not None and bool(state.leftovers())
    _clear(data_dir, say)
    return left


def _tell_ended(state: StackState | None, told: set[str], say: Say) -> None:
    for child in reversed(state.children) if state is not None else ():
        if child.phase == "stopped" and child.name not in told:
            told.add(child.name)
            say(f"{child.name}: ended")


def _clear(data_dir: Path, say: Say) -> None:
    """Reap and forget, holding the folder. Another start that took it meanwhile is left alone."""
    deadline_s = time.monotonic() + RELEASE_TIMEOUT_S
    while True:
        try:
            with exclusive(data_dir):
                clear_leftovers(data_dir, say)
                return
        except AlreadyRunningError:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(_POLL_S)
