"""Runs a RecordBatchApp in this process, without Faust's command line."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import faust
from aiokafka.errors import KafkaConnectionError
from faust.types import TP
from mode import get_logger

from services.scoring.record_batches.app import RecordBatchApp
from services.scoring.record_batches.progress import ProgressRule
from services.scoring.record_batches.watchdog import LoopGuard, Sighting, watch_progress

__all__ = ["EXIT_DONE", "EXIT_FAILED", "EXIT_UNREACHABLE", "run_worker"]

logger = logging.getLogger(__name__)

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_UNREACHABLE = 3

WATCH_EVERY_S = 5.0
LOOP_LIMIT_S = 60
"""An event loop that has not run for this long is called dead; a batch is folded in far less."""
STOP_LIMIT_S = 30
"""A stop that takes longer ends hard: two drains of 4.5 s, a commit, leaving the group, and room."""

FAILED_LIMIT_S = 5
"""After a failure nothing is committed any more, so nothing is worth waiting for: not a thread that hangs in a call."""

GC_THRESHOLD = 200_000
"""Allocations between two runs of the garbage collector's youngest generation. Python's 700 makes it walk the
records of one fetch dozens of times, which halves the throughput; nothing in that path makes cycles."""


class _Worker(faust.Worker):
    logger = get_logger("faust.worker")
    guard: LoopGuard
    watch: Callable[[], Coroutine[Any, Any, None]]
    start_error: Exception | None = None

    async def on_first_start(self) -> None:
        await super().on_first_start()
        self.add_future(self.watch())  # from the very start: a group that is never joined is a stall too

    async def start(self) -> None:
        try:
            await super().start()
        except Exception as exc:
            self.start_error = exc
            raise

    def _setproctitle(self, info: str, *, ident: str = "") -> None:
        """The process keeps its own name, by which its supervisor knows it."""

    def on_worker_shutdown(self) -> None:
        self.guard.expect_end_within(STOP_LIMIT_S)

    def _on_sigterm(self) -> None:
        self.guard.expect_end_within(STOP_LIMIT_S)
        super()._on_sigterm()

    def _on_sigint(self) -> None:
        self._on_sigterm()


def run_worker(
    app: RecordBatchApp,
    *,
    rule: ProgressRule[TP] | None = None,
    excused: Callable[[], bool] = lambda: False,
    watch_every_s: float = WATCH_EVERY_S,
    on_sight: Callable[[Sighting], None] = lambda seen: None,
) -> int:
    """Consume until SIGTERM or SIGINT, then finish what is in work, commit, leave the group.

    Returns the process's exit code: 0 after a signal, 3 if Kafka cannot be reached at the start, 1 after
    any other failure (an error of the handler or listener, a stall): then nothing was committed after it.
    `excused` says that the worker waits for something whose absence is known; no stall is called then.
    `on_sight` is told every `watch_every_s` seconds how far the worker is behind.
    After a failure the process ends within `FAILED_LIMIT_S`, whatever its threads are doing.
    Logging is the caller's; only the chatter of Faust is lowered to warnings.
    """
    guard = LoopGuard(LOOP_LIMIT_S)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    worker = _Worker(app, quiet=True, override_logging=False, redirect_stdouts=False, loop=loop)
    worker.guard = guard
    worker.watch = lambda: watch_progress(
        app, rule or ProgressRule(), every_s=watch_every_s, excused=excused, on_beat=guard.beat, on_sight=on_sight
    )
    worker.spinner = None

    _quieten_faust()
    gc.collect()
    gc.freeze()  # the modules loaded so far stay for good: never walk them again
    gc.set_threshold(GC_THRESHOLD, 10, 10)
    guard.start()
    try:
        worker.execute_from_commandline()
    except SystemExit as end:
        reason = worker.crash_reason or app.crash_reason or worker.start_error
        if reason is None and not end.code:
            guard.stop()
            return EXIT_DONE
        if isinstance(reason, KafkaConnectionError):
            logger.critical("Kafka cannot be reached: %s; see that the broker runs and its address is right", reason)
            return EXIT_UNREACHABLE
        logger.critical("the worker stopped: %r", reason, exc_info=worker.start_error)
        return EXIT_FAILED
    finally:
        guard.expect_end_within(FAILED_LIMIT_S)  # says nothing to a guard that was stopped


def _quieten_faust() -> None:
    """Dozens of lines at each start, stop and rebalance; what matters of them is logged here."""
    for name in ("faust", "mode"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("faust.worker").setLevel(logging.CRITICAL + 1)
