"""One supervised child process: how it is described, started, watched, stopped, and when it is tried again."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from infra.embedded.launch import launch_command

# A log grows to this size, is kept once as NAME.log.1, and starts again.
LOG_CAP_BYTES = 10 * 1024 * 1024
LOG_TAIL_LINES = 20
_POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """When a dead child is started again.

    The n-th time in a row after ``first_delay_s * 2**(n - 1)``, at most ``max_delay_s``. A child that lived for
    ``healthy_after_s`` starts the count anew. From ``crash_loop_after`` deaths in a row it is reported as a crash
    loop; it is still tried, as what it waits for may come back.
    """

    first_delay_s: float = 0.5
    max_delay_s: float = 15.0
    healthy_after_s: float = 30.0
    crash_loop_after: int = 5

    def delay_s(self, deaths_in_a_row: int) -> float:
        # The exponent is capped, as a float overflows long before a supervisor gives up.
        return min(self.max_delay_s, self.first_delay_s * 2.0 ** min(deaths_in_a_row - 1, 30))


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """A part of the stack.

    ``ready`` is asked again and again until it says True; it must return within two seconds and not raise.
    ``env`` is added to the supervisor's environment. ``on_supervisor_death`` is delivered when the supervisor is
    killed (Linux): SIGTERM for what wants to close its files, SIGKILL for what holds nothing.
    """

    name: str
    argv: tuple[str, ...]
    ready: Callable[[], bool]
    env: Mapping[str, str] = field(default_factory=dict)
    ready_timeout_s: float = 60.0
    stop_timeout_s: float = 20.0
    restart: RestartPolicy = RestartPolicy()
    on_supervisor_death: signal.Signals = signal.SIGTERM
    # Removed before each start, so that a file by which a child tells that it is ready is never an old one.
    removed_before_start: tuple[Path, ...] = ()


class Child:
    """A running (or dead) instance of a spec. Start it from the main thread: it ends with the thread's end."""

    def __init__(self, spec: ChildSpec, log_path: Path) -> None:
        self.spec = spec
        self.log_path = log_path
        self.started_monotonic_s = 0.0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start the process in a session of its own, output to the log. OSError when it cannot be."""
        for path in self.spec.removed_before_start:
            path.unlink(missing_ok=True)
        command = launch_command(
            list(self.spec.argv), parent_pid=os.getpid(), on_parent_death=self.spec.on_supervisor_death
        )
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.spec.env},
                # Ctrl-C in a terminal reaches the supervisor alone, which then ends its children in order.
                start_new_session=True,
            )
        self.started_monotonic_s = time.monotonic()

    def exit_code(self) -> int | None:
        """None while it runs (or before its start); negative for a signal."""
        return None if self._process is None else self._process.poll()

    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def stop(self, timeout_s: float, hurry: Callable[[], bool] = lambda: False) -> None:
        """SIGTERM; SIGKILL after ``timeout_s``, or as soon as ``hurry`` says so. Its descendants end with it."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            deadline = time.monotonic() + timeout_s
            while self._process.poll() is None and time.monotonic() < deadline and not hurry():
                time.sleep(_POLL_S)
        self.sweep()
        self._process.wait()

    def sweep(self) -> None:
        """SIGKILL to whatever is left of the child's session."""
        if self._process is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def log_tail(self) -> str:
        return tail(self.log_path)


def tail(path: Path, lines: int = LOG_TAIL_LINES) -> str:
    """The last lines of a log, or "" when there is none."""
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 200 * lines))
            text = file.read().decode("utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.strip().splitlines()[-lines:])


def cap_log(path: Path, cap_bytes: int = LOG_CAP_BYTES) -> None:
    """Keep a log that somebody is appending to below the cap: copy it to NAME.1 and empty it in place.

    What is written between the two steps is lost: a few lines each ten megabytes, for a writer that need not know.
    On a full disk the copy is left out, as the space is needed more.
    """
    try:
        if path.stat().st_size <= cap_bytes:
            return
    except FileNotFoundError:
        return
    former = path.with_name(path.name + ".1")
    try:
        shutil.copyfile(path, former)
    except OSError:
        with suppress(OSError):
            former.unlink()
    os.truncate(path, 0)
