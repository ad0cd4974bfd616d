"""Keeps parts of the stack running: what dies is started again after the delays of the product's supervisor."""

from __future__ import annotations

import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from infra.embedded.children import Child, ChildSpec

_LOOK_S: Final = 0.05


@dataclass(slots=True)
class Kept:
    """A part, and how it fares."""

    child: Child
    wanted: bool = False
    deaths_in_a_row: int = 0
    next_start_s: float = 0.0
    dead: bool = False
    exits: list[int] = field(default_factory=list)
    """Exit codes of deaths that nobody asked for by `Keeper.stop`."""
    paused: bool = False


class Keeper:
    """Starts, watches and ends parts, all from one thread: children end with the thread that started them."""

    def __init__(self, specs: Iterable[ChildSpec], log_dir: Path) -> None:
        self.kept = {spec.name: Kept(Child(spec, log_dir / f"{spec.name}.log")) for spec in specs}
        self._calls: queue.SimpleQueue[tuple[Callable[[], None], Future[None]]] = queue.SimpleQueue()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)
        self._thread.start()

    def start(self, name: str) -> None:
        """From now on the part runs, and is started again when it dies. Returns when the process is there."""
        self._on_thread(lambda: self._begin(name))

    def stop(self, name: str) -> None:
        """SIGTERM, and wait; the part is not started again."""
        kept = self.kept[name]
        kept.wanted = False
        self.resume(name)
        kept.child.stop(kept.child.spec.stop_timeout_s)

    def restart(self, name: str, spec: ChildSpec) -> None:
        """End the part in order and start it as ``spec`` says, now and from now on; wait until it is ready."""
        self.stop(name)
        kept = self.kept[name]
        kept.child = Child(spec, kept.child.log_path)
        self.start(name)
        self.wait_ready(name)

    def kill(self, name: str, *, for_good: bool = False) -> None:
        """kill -9."""
        kept = self.kept[name]
        if for_good:
            kept.wanted = False
        self._signal(name, signal.SIGKILL)
        kept.paused = False

    def pause(self, name: str) -> None:
        """SIGSTOP."""
        self.kept[name].paused = True
        self._signal(name, signal.SIGSTOP)

    def resume(self, name: str) -> None:
        """SIGCONT, if it was paused."""
        if self.kept[name].paused:
            self.kept[name].paused = False
            self._signal(name, signal.SIGCONT)

    def pid(self, name: str) -> int | None:
        """Process id while it runs."""
        child = self.kept[name].child
        return child.pid if child.is_running() else None

    def is_ready(self, name: str) -> bool:
        kept = self.kept[name]
        return kept.child.is_running() and kept.child.spec.ready()

    def wait_ready(self, name: str) -> None:
        """Wait until it answers; TimeoutError with its last words if it does not."""
        kept = self.kept[name]
        deadline_s = time.monotonic() + kept.child.spec.ready_timeout_s
        while not self.is_ready(name):
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"{name} is not ready:\n{kept.child.log_tail()}")
            time.sleep(_LOOK_S)

    def forgive(self) -> None:
        """Count deaths anew: what follows has nothing to do with what was before."""
        for kept in self.kept.values():
            kept.deaths_in_a_row = 0
            kept.exits = []

    def close(self) -> None:
        """End everything, the last started first."""
        for kept in self.kept.values():
            kept.wanted = False
        for name in reversed(self.kept):
            self.resume(name)
            self.kept[name].child.stop(5.0)
        self._end.set()
        self._thread.join()

    def _signal(self, name: str, number: signal.Signals) -> None:
        pid = self.pid(name)
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def _on_thread(self, call: Callable[[], None]) -> None:
        done: Future[None] = Future()
        self._calls.put((call, done))
        done.result(30)

    def _begin(self, name: str) -> None:
        kept = self.kept[name]
        kept.wanted, kept.dead, kept.paused = True, False, False
        kept.child.start()

    def _run(self) -> None:
        while not self._end.is_set():
            with suppress(queue.Empty):
                call, done = self._calls.get(timeout=_LOOK_S)
                try:
                    call()
                    done.set_result(None)
                except BaseException as error:  # raised where it was asked for
                    done.set_exception(error)
            now_s = time.monotonic()
            for kept in self.kept.values():
                if kept.wanted and not kept.child.is_running():
                    self._look_after(kept, now_s)

    def _look_after(self, kept: Kept, now_s: float) -> None:
        policy = kept.child.spec.restart
        if not kept.dead:
            code = kept.child.exit_code()
            kept.dead = True
            kept.exits.append(0 if code is None else code)
            lived_s = now_s - kept.child.started_monotonic_s
            kept.deaths_in_a_row = 1 if lived_s >= policy.healthy_after_s else kept.deaths_in_a_row + 1
            kept.next_start_s = now_s + policy.delay_s(kept.deaths_in_a_row)
            kept.child.sweep()
        elif now_s >= kept.next_start_s:
            kept.dead = False
            kept.child.start()
