"""What runs on a data folder: ``stack.json`` for people and the next start, and the lock that decides who may run.

The lock is the truth (the kernel drops it when its holder ends, however it ends); the file only describes. A process
is recorded with its start, so that a number used again, after a reboot too, is never taken for it.
"""

from __future__ import annotations

import fcntl
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

import psutil
from pydantic import BaseModel, ConfigDict, ValidationError

from infra.embedded.errors import AlreadyRunningError, StackError

StackPhase = Literal["starting", "ready", "stopping", "failed"]
ChildPhase = Literal["waiting", "starting", "ready", "restarting", "crash loop", "stopped"]

# What SIGKILL takes when a disk is slow to let go.
KILL_TIMEOUT_S = 15.0
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_POLL_S = 0.05


class ProcessId(BaseModel):
    """A process, told apart from later ones with the same number."""

    model_config = ConfigDict(frozen=True)

    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> ProcessId | None:
        """None when there is no such process (a zombie counts as none)."""
        started = _start_of(pid)
        return None if started is None else cls(pid=pid, started=started)

    def is_alive(self) -> bool:
        return _start_of(self.pid) == self.started


def _start_of(pid: int) -> str | None:
    if _BOOT_ID.exists():
        # The kernel's own count of ticks since boot, with the boot's name: neither moves when the clock is set.
        try:
            stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            return None
        fields = stat.rpartition(")")[2].split()
        return None if fields[0] in "ZX" else f"{_BOOT_ID.read_text(encoding='ascii').strip()}/{fields[19]}"
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.2f}"
    except psutil.NoSuchProcess:
        return None


class ChildState(BaseModel):
    """One part of the stack. Times are UTC microseconds; ``last_exit`` is a code, negative for a signal."""

    name: str
    phase: ChildPhase = "waiting"
    process: ProcessId | None = None
    started_at_us: int | None = None
    ready_after_ms: int | None = None
    restarts: int = 0
    last_exit: int | None = None
    stop_timeout_s: float
    log: str


class StackState(BaseModel):
    """The whole stack, as its supervisor last wrote it."""

    version: Literal[1] = 1
    supervisor: ProcessId
    phase: StackPhase = "starting"
    message: str = ""
    started_at_us: int
    ports: dict[str, int]
    children: list[ChildState]

    def is_running(self) -> bool:
        return self.supervisor.is_alive()

    def is_healthy(self) -> bool:
        return self.phase == "ready" and all(child.phase == "ready" for child in self.children)

    def stop_timeout_s(self) -> float:
        """What the children may take to end when all are asked at once."""
        return max((child.stop_timeout_s for child in self.children), default=0.0)

    def leftovers(self) -> list[ProcessId]:
        """Recorded children that still run, in the order to end them."""
        recorded = [child.process for child in self.children if child.process is not None]
        return [process for process in reversed(recorded) if process.is_alive()]


def state_path(data_dir: Path) -> Path:
    return data_dir / "stack.json"


def read_state(data_dir: Path) -> StackState | None:
    """The last written state, or None when there is none that can be read."""
    try:
        return StackState.model_validate_json(state_path(data_dir).read_bytes())
    except (FileNotFoundError, ValidationError):
        # Written whole or not at all; one of another version describes nothing that this program could own.
        return None


def write_state(data_dir: Path, state: StackState) -> None:
    """Replace the file whole, so that a reader never sees half of it."""
    path = state_path(data_dir)
    partial = path.with_suffix(f".{os.getpid()}.tmp")
    partial.write_text(state.model_dump_json(indent=2), encoding="utf-8")
    partial.replace(path)


def remove_state(data_dir: Path) -> None:
    state_path(data_dir).unlink(missing_ok=True)


@contextmanager
def exclusive(data_dir: Path) -> Iterator[None]:
    """Hold the data folder alone. AlreadyRunningError when somebody does; freed by the kernel in any case."""
    data_dir.mkdir(parents=True, exist_ok=True)
    with (data_dir / "stack.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise AlreadyRunningError(f"a stack runs on {data_dir} already") from error
        yield


def end_processes(
    processes: Iterable[ProcessId], timeout_s: float, say: Callable[[str], None] = lambda _: None
) -> None:
    """End children of a supervisor that is gone: SIGTERM to all, SIGKILL to what is left after ``timeout_s``.

    StackError when one outlives even that (a process stuck in the kernel).
    """
    living = [process for process in processes if process.is_alive()]
    for process in living:
        say(f"ending process {process.pid}, left by an earlier stack")
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGTERM)
    if _all_ended(living, timeout_s):
        return
    for process in living:
        if process.is_alive():
            # Each child leads a group of its own.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    if not _all_ended(living, KILL_TIMEOUT_S):
        stuck = ", ".join(str(process.pid) for process in living if process.is_alive())
        raise StackError(f"processes of an earlier stack cannot be ended, even by SIGKILL: {stuck}")


def _all_ended(processes: Sequence[ProcessId], timeout_s: float) -> bool:
    deadline_s = time.monotonic() + timeout_s
    while any(process.is_alive() for process in processes):
        if time.monotonic() > deadline_s:
            return False
        time.sleep(_POLL_S)
    return True
