"""Stops a worker that is stuck, so that its supervisor starts a fresh one.

Two nets: a task on the event loop applies the ProgressRule, and a thread notices when the event loop itself
does not run any more (then no task can).
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

from aiokafka.errors import KafkaError
from faust.exceptions import ConsumerNotStarted
from faust.types import TP

from services.scoring.record_batches.app import RecordBatchApp
from services.scoring.record_batches.errors import ProgressStalled
from services.scoring.record_batches.lag import Lag, LagWatch
from services.scoring.record_batches.progress import Observation, ProgressRule
from services.scoring.record_batches.transport import RecordBatchConsumer

__all__ = ["EXIT_STUCK", "LoopGuard", "Sighting", "watch_progress"]

logger = logging.getLogger(__name__)

EXIT_STUCK = 1


@dataclass(frozen=True, slots=True)
class Sighting:
    """What the watchdog saw last. ``lags`` by partition number, empty while the ends of the log cannot be learned."""

    lags: Mapping[int, Lag]
    still_for_s: float = 0.0
    """See `ProgressRule`: at `ProgressRule.stall_s` the worker is stopped."""
    blind_for_s: float = 0.0
    """At `ProgressRule.blind_s` likewise."""


async def watch_progress(
    app: RecordBatchApp,
    rule: ProgressRule[TP],
    *,
    every_s: float,
    excused: Callable[[], bool],
    on_beat: Callable[[], None],
    on_sight: Callable[[Sighting], None] = lambda seen: None,
) -> None:
    """Observe until the app stops, telling ``on_sight`` each time; on a stall fail the app with ProgressStalled."""
    watch: LagWatch[TP] = LagWatch()
    while not app.should_stop:
        on_beat()
        seen = await _observe(app, timeout_s=every_s, excused=excused())
        reason = rule.observe(time.monotonic(), seen)
        on_sight(Sighting(_lags(app, watch, seen), rule.still_for_s, rule.blind_for_s))
        if reason is not None:
            await app.fail(ProgressStalled(reason))
            return
        await app.sleep(every_s)


async def _observe(app: RecordBatchApp, *, timeout_s: float, excused: bool) -> Observation[TP]:
    if not app.started:
        return Observation({}, None, excused)
    consumer = cast(RecordBatchConsumer, app.consumer)
    try:
        # A handler that waits for its tables lets the queue in front of it fill up, and then nobody polls. aiokafka
        # would leave the group, and a rebalance that waits for a poll would wait for ever.
        await asyncio.wait_for(consumer.prove_alive(), timeout_s)
        assigned = consumer.assignment()
        if app.rebalancing:
            return Observation({}, None, excused)
        ends = await asyncio.wait_for(consumer.highwaters(*assigned), timeout_s) if assigned else {}
    except (ConsumerNotStarted, KafkaError, TimeoutError):
        return Observation({}, None, excused)
    standing = app.ledger.halted()  # on purpose
    positions = {tp: position for tp in assigned - standing if (position := app.ledger.position(tp)) is not None}
    return Observation(positions, dict(ends), excused)


def _lags(app: RecordBatchApp, watch: LagWatch[TP], seen: Observation[TP]) -> dict[int, Lag]:
    if seen.ends is None:
        return {}
    oldest_ms = {tp: first_ms for tp in seen.positions if (first_ms := app.ledger.oldest_ms(tp)) is not None}
    lags = watch.observe(time.monotonic(), time.time_ns() // 1_000_000, seen.positions, seen.ends, oldest_ms)
    return {tp.partition: lag for tp, lag in lags.items()}


class LoopGuard:
    """A thread that ends the process when `beat` is not called for `limit_s` seconds.

    Counts its own ticks instead of reading a clock, so a paused process is not killed when it wakes.
    """

    def __init__(self, limit_s: int, *, tick_s: float = 1.0, exit_process: Callable[[int], None] = os._exit) -> None:
        self._limit_ticks = limit_s
        self._tick_s = tick_s
        self._exit_process = exit_process
        self._missed = 0
        self._ending = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="loop-guard", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()

    def join(self) -> None:
        self._thread.join()

    def beat(self) -> None:
        if not self._ending:
            self._missed = 0

    def expect_end_within(self, limit_s: int) -> None:
        """The process is stopping: beats count no more, and it must be over in time, or sooner if told again."""
        if not self._ending or limit_s < self._limit_ticks - self._missed:
            self._limit_ticks, self._missed, self._ending = limit_s, 0, True

    def _run(self) -> None:
        while not self._stop.wait(self._tick_s):
            self._missed += 1
            if self._missed > self._limit_ticks:
                doing = "stopping takes too long" if self._ending else "the event loop has not run"
                logger.critical("%s (%d s): the process ends", doing, self._missed)
                self._exit_process(EXIT_STUCK)
                return
