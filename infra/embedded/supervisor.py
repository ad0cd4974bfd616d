"""Starts, watches and ends the parts of the single-machine stack.

It knows processes, not services: a list of child specs and preparations comes from outside. One thread, one loop.
See docs/adr/0003-supervisor.md for why it is not a library.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from infra.embedded.children import LOG_CAP_BYTES, Child, ChildSpec, cap_log
from infra.embedded.errors import StackError, StartCancelledError, StartFailedError
from infra.embedded.state import (
    ChildPhase,
    ChildState,
    ProcessId,
    StackPhase,
    StackState,
    end_processes,
    exclusive,
    read_state,
    remove_state,
    write_state,
)

# How soon a death is seen, and a signal at the latest.
LOOP_S = 0.1
READY_POLL_S = 0.05
LOG_CHECK_S = 5.0

# Exit codes of a process that ended because it was told to: by itself, by the signal, or as a JVM says it.
_AS_ASKED = frozenset({0, -signal.SIGTERM, 128 + signal.SIGTERM})

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Preparation:
    """Work between two children, such as migrations: it raises when it fails."""

    name: str
    run: Callable[[], None]


Part = ChildSpec | Preparation


class Supervisor:
    """Runs ``parts`` in order on a data folder until it is told to stop.

    ``ports`` is written to the state file for others to find. ``before`` runs once the folder is ours and what an
    earlier stack left is gone: the place to check ports.
    """

    def __init__(
        self,
        data_dir: Path,
        parts: Sequence[Part],
        *,
        ports: dict[str, int],
        say: Say,
        before: Callable[[], None] = lambda: None,
        log_cap_bytes: int = LOG_CAP_BYTES,
    ) -> None:
        self._data_dir = data_dir
        self._parts = list(parts)
        self._ports = ports
        self._tell = say
        self._before = before
        self._log_cap_bytes = log_cap_bytes
        self._stop = threading.Event()
        self._hurry = threading.Event()
        self._next_log_check_s = 0.0
        log_dir = data_dir / "logs"
        self._slots = [
            _Slot(Child(part, log_dir / f"{part.name}.log")) for part in parts if isinstance(part, ChildSpec)
        ]
        self._state: StackState | None = None

    def stop(self) -> None:
        """Ask for the end; asked twice, children are killed instead of waited for."""
        if self._stop.is_set():
            self._hurry.set()
        self._stop.set()

    def run(self) -> None:
        """Start everything, watch it, return after a clean end.

        Raises AlreadyRunningError, PortTakenError (from ``before``), StartFailedError or StartCancelledError; by then
        nothing that was started runs any more. SIGTERM and SIGINT mean ``stop`` while it runs.
        """
        with exclusive(self._data_dir), self._signals():
            (self._data_dir / "logs").mkdir(parents=True, exist_ok=True)
            clear_leftovers(self._data_dir, self._say)
            supervisor = ProcessId.of(os.getpid())
            assert supervisor is not None
            self._state = StackState(
                supervisor=supervisor,
                started_at_us=_now_us(),
                ports=self._ports,
                children=[slot.state for slot in self._slots],
            )
            try:
                self._write()
                self._before()
                self._start_all()
                self._set_phase("ready")
                self._say(f"stack: ready in {(_now_us() - self._state.started_at_us) / 1e6:.1f} s")
                self._watch()
            except BaseException as error:
                self._end_all("failed", str(error))
                raise
            self._end_all("stopping", "")
            remove_state(self._data_dir)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        def on_signal(_number: int, _frame: FrameType | None) -> None:
            self.stop()

        former = {number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)

    def _start_all(self) -> None:
        slots = iter(self._slots)
        for part in self._parts:
            if self._stop.is_set():
                raise StartCancelledError("stopped before everything was ready")
            if isinstance(part, Preparation):
                self._prepare(part)
            else:
                self._start_one(next(slots))

    def _prepare(self, part: Preparation) -> None:
        began_s = time.monotonic()
        try:
            part.run()
        except StackError:
            raise
        except Exception as error:
            raise StartFailedError(f"{part.name} failed: {type(error).__name__}: {error}") from error
        self._say(f"{part.name}: done in {time.monotonic() - began_s:.1f} s")

    def _start_one(self, slot: _Slot) -> None:
        self._launch(slot)
        spec = slot.child.spec
        deadline_s = time.monotonic() + spec.ready_timeout_s
        while not spec.ready():
            code = slot.child.exit_code()
            if code is not None:
                raise StartFailedError(_failure(slot, f"{spec.name} ended {_exit(code)} before it was ready"))
            if time.monotonic() > deadline_s:
                raise StartFailedError(_failure(slot, f"{spec.name} was not ready after {spec.ready_timeout_s:.0f} s"))
            if self._stop.wait(READY_POLL_S):
                raise StartCancelledError("stopped before everything was ready")
            self._tend(until=slot)
        self._mark_ready(slot)

    def _launch(self, slot: _Slot) -> None:
        try:
            slot.child.start()
        except OSError as error:
            raise StartFailedError(f"{slot.child.spec.name} cannot be started: {error}") from error
        slot.state.process = ProcessId.of(slot.child.pid or 0)
        slot.state.started_at_us = _now_us()
        slot.state.ready_after_ms = None
        self._set_child(slot, "starting")

    def _mark_ready(self, slot: _Slot) -> None:
        slot.state.ready_after_ms = int((time.monotonic() - slot.child.started_monotonic_s) * 1000)
        self._say(f"{slot.child.spec.name}: ready in {slot.state.ready_after_ms / 1000:.1f} s")
        self._set_child(slot, "ready")

    def _watch(self) -> None:
        while not self._stop.wait(LOOP_S):
            self._tend()

    def _tend(self, until: _Slot | None = None) -> None:
        """See to every child that has been ready once: deaths, restarts, logs."""
        for slot in self._slots:
            if slot is until:
                break
            self._tend_one(slot)
        now_s = time.monotonic()
        if now_s >= self._next_log_check_s:
            self._next_log_check_s = now_s + LOG_CHECK_S
            for path in (self._data_dir / "logs").glob("*.log"):
                cap_log(path, self._log_cap_bytes)

    def _tend_one(self, slot: _Slot) -> None:
        now_s = time.monotonic()
        code = slot.child.exit_code()
        if slot.restart_at_s is not None:
            if now_s >= slot.restart_at_s:
                slot.restart_at_s = None
                slot.state.restarts += 1
                slot.probe_until_s = now_s + slot.child.spec.ready_timeout_s
                self._relaunch(slot)
        elif code is not None:
            self._on_death(slot, code, now_s)
        elif slot.state.phase != "ready":
            if slot.child.spec.ready():
                self._mark_ready(slot)
            elif now_s > slot.probe_until_s:
                self._say(f"{slot.child.spec.name}: not ready in time after its restart, ending it")
                slot.child.stop(slot.child.spec.stop_timeout_s, self._hurry.is_set)

    def _relaunch(self, slot: _Slot) -> None:
        try:
            self._launch(slot)
        except StartFailedError as error:
            self._say(str(error))
            self._on_death(slot, 127, time.monotonic())

    def _on_death(self, slot: _Slot, code: int, now_s: float) -> None:
        spec = slot.child.spec
        slot.child.sweep()
        if now_s - slot.child.started_monotonic_s >= spec.restart.healthy_after_s:
            slot.deaths_in_a_row = 0
        slot.deaths_in_a_row += 1
        delay_s = spec.restart.delay_s(slot.deaths_in_a_row)
        slot.restart_at_s = now_s + delay_s
        slot.state.last_exit = code
        slot.state.process = None
        looping = slot.deaths_in_a_row >= spec.restart.crash_loop_after
        times = f", {slot.deaths_in_a_row} times in a row" if slot.deaths_in_a_row > 1 else ""
        self._say(
            f"{spec.name} ended {_exit(code)}{times}; {'crash loop, ' if looping else ''}"
            f"starting it again in {delay_s:.1f} s (log: {slot.child.log_path})"
        )
        self._set_child(slot, "crash loop" if looping else "restarting")

    def _end_all(self, phase: StackPhase, message: str) -> None:
        """End every child in reverse order, each within its own time. Leaves the state file for a failed start."""
        assert self._state is not None
        self._set_phase(phase, message)
        for slot in reversed(self._slots):
            if slot.child.pid is not None:
                slot.child.stop(slot.child.spec.stop_timeout_s, self._hurry.is_set)
                code = slot.child.exit_code() or 0
                self._say(f"{slot.child.spec.name}: ended{'' if code in _AS_ASKED else f' {_exit(code)}'}")
            slot.state.process = None
            self._set_child(slot, "stopped")

    def _set_child(self, slot: _Slot, phase: ChildPhase) -> None:
        slot.state.phase = phase
        self._write()

    def _set_phase(self, phase: StackPhase, message: str = "") -> None:
        assert self._state is not None
        self._state.phase = phase
        self._state.message = message
        self._write()

    def _write(self) -> None:
        assert self._state is not None
        try:
            write_state(self._data_dir, self._state)
        except OSError as error:
            # The file only describes: a full disk must not end parts that may live through it.
            self._say(f"stack.json cannot be written: {error}")

    def _say(self, message: str) -> None:
        # Told to a log on that same disk, perhaps: there is nobody left to tell.
        with suppress(OSError):
            self._tell(message)


class _Slot:
    """A child with what the supervisor remembers of it."""

    def __init__(self, child: Child) -> None:
        self.child = child
        self.state = ChildState(name=child.spec.name, stop_timeout_s=child.spec.stop_timeout_s, log=str(child.log_path))
        self.deaths_in_a_row = 0
        self.restart_at_s: float | None = None
        self.probe_until_s = 0.0


def clear_leftovers(data_dir: Path, say: Say) -> None:
    """End what a killed supervisor left, and forget it. Only for the holder of the folder's lock."""
    state = read_state(data_dir)
    if state is not None:
        end_processes(state.leftovers(), state.stop_timeout_s(), say)
    remove_state(data_dir)


def _failure(slot: _Slot, what: str) -> str:
    log = slot.child.log_tail()
    return f"{what}. Its log, {slot.child.log_path}, ends with:\n{log}" if log else f"{what}, and wrote nothing."


def _exit(code: int) -> str:
    return f"by {signal.Signals(-code).name}" if code < 0 else f"with code {code}"


def _now_us() -> int:
    return time.time_ns() // 1000
