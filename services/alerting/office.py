"""The office: from alerts that wait to calls that are delivered, and the timers. Open while this process reads signals.

All it knows stands in the tables: it opens by reading them, so that another process goes on where one ended. Calls are
written before what became of their alerts, and before the dispatcher has them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import polars as pl

from schemas.review import encode_review
from services.alerting import focus, tell
from services.alerting.alert import Alert, AlertState, Phase, Told
from services.alerting.delivery.dispatcher import Dispatcher
from services.alerting.focus_measure import WINDOWS
from services.alerting.focus_sql import felt_windows_sql
from services.alerting.metrics import AlertingMetrics
from services.alerting.past import Past
from services.alerting.plan import Key, plan
from services.alerting.rules.model import RuleSet
from services.alerting.store import Append, Store
from services.alerting.sweep import Patience, is_due

_log: Final = logging.getLogger(__name__)

SHARE_OF_TIME: Final = 0.1
"""A sweep may take this share of the time at most; a large table is looked at less often."""
RETRY_S: Final = 1.0
NOBODY: Final = ""
"""Stands for a customer where a rule is about a part of the company: its row says which window was judged last."""
MOST_LATE_WINDOWS: Final = 14


@dataclass(frozen=True, slots=True)
class Intervals:
    """Least seconds between two looks."""

    sweep_s: float
    focus_s: float


@dataclass(slots=True)
class _Tray:
    """Alerts that wait, by id and turn."""

    alerts: dict[Key, Alert] = field(default_factory=dict)

    def put(self, some: Sequence[Alert]) -> None:
        for alert in some:
            self.alerts.setdefault((alert.alert_id, alert.turn), alert)


class Office:
    """Plans, delivers, sweeps and watches, for one set of rules."""

    def __init__(
        self,
        rules: RuleSet,
        store: Store,
        append: Append,
        dispatcher: Dispatcher,
        intervals: Intervals,
        told: Callable[[Sequence[Alert]], Told],
        now_us: Callable[[], int],
        transient: tuple[type[Exception], ...],
        metrics: AlertingMetrics,
    ) -> None:
        """``told``: links for some alerts. ``transient``: errors of store and log that are waited out."""
        self._rules = rules
        self._store = store
        self._append = append
        self.dispatcher = dispatcher
        self._intervals = intervals
        self._told = told
        self._now_us = now_us
        self._transient = transient
        self._tray = _Tray()
        self._past = Past()
        self._wake = asyncio.Event()
        self._patience = Patience(round(intervals.sweep_s * 1e6))
        self._metrics = metrics
        self._closing = False

    def take(self, alerts: Sequence[Alert]) -> None:
        """Alerts that were decided and kept. From the event loop."""
        self._tray.put(alerts)
        self._wake.set()

    @property
    def waiting(self) -> int:
        """Turns of alerts that are in no call yet."""
        return len(self._tray.alerts)

    async def run(self) -> None:
        """Until cancelled: then what is being kept is kept and calls under way end first, however often it is told."""
        await self._patiently(self._open, "the office cannot open yet")
        delivering = asyncio.ensure_future(self.dispatcher.run())
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._plan_forever())
                group.create_task(self._sweep_forever())
                group.create_task(self._focus_forever())
                group.create_task(self._watch(delivering))
        finally:
            self.dispatcher.stop()
            await _end_of(delivering)
            delivering.result()

    async def _watch(self, delivering: asyncio.Future[None]) -> None:
        await asyncio.shield(delivering)

    async def _patiently(self, act: Callable[[], Awaitable[None]], complaint: str) -> None:
        while True:
            try:
                await act()
                return
            except self._transient as error:
                _log.warning("%s: %s", complaint, error)
                if self._closing:
                    raise
                await asyncio.sleep(RETRY_S)

    async def _open(self) -> None:
        now_us = self._now_us()
        await asyncio.to_thread(self._store.write_rules, self._rules, now_us)
        waiting = await asyncio.to_thread(self._store.waiting)
        calls = await asyncio.to_thread(self._store.past_calls, now_us, waiting)
        unnoticed = await asyncio.to_thread(self._store.over_budget_untold)
        unfinished, attempts = await asyncio.to_thread(self._store.unfinished)
        self._past = Past.of(calls, unnoticed)
        self._tray.put(waiting)
        self.dispatcher.resume(unfinished, attempts)
        self._wake.set()

    # Calls

    async def _plan_forever(self) -> None:
        while True:
            # Half of a plan must not be written after this office has closed: the next one would not see it, and call
            # again.
            planning = asyncio.ensure_future(self._plan())
            try:
                wake_us = await asyncio.shield(planning)
            except asyncio.CancelledError:
                self._closing = True
                await _end_of(planning)
                if (error := planning.exception()) is not None:
                    _log.warning("calls could not be kept at the end: %s", error)
                raise
            await self._until(wake_us)

    async def _until(self, wake_us: int) -> None:
        """Something new, or a moment; 0: no moment."""
        timeout_s = None if not wake_us else max((wake_us - self._now_us()) / 1e6, 0.0)
        try:
            async with asyncio.timeout(timeout_s):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _plan(self) -> int:
        self._wake.clear()
        waiting = list(self._tray.alerts.values())
        planned = plan(self._rules, waiting, self._past, self._now_us())
        if planned.calls:
            told = self._told([alert for call in planned.calls for alert in call.alerts])
            calls = [call for each in planned.calls for call in tell.calls(each, self._rules, told)]
            # An error may come after the rows: what is tried again is the same, or somebody would be called twice.
            await self._patiently(lambda: asyncio.to_thread(self._store.write_calls, calls), "calls cannot be kept yet")
            self.dispatcher.submit(calls)
            self._metrics.calls([call.rule for call in calls])
        else:
            calls = []
        if planned.fates:
            ended = [self._tray.alerts[key] for key in planned.fates if key in self._tray.alerts]
            await self._patiently(
                lambda: asyncio.to_thread(self._store.write_alerts, ended, planned.fates),
                "what became of alerts cannot be kept yet",
            )
            for key in planned.fates:
                self._tray.alerts.pop(key, None)
        if calls or planned.fates:
            self._past = self._past.after(calls, planned.fates, waiting)
        return planned.wake_us

    # Time

    async def _every(self, interval_s: float, act: Callable[[], None], complaint: str) -> None:
        while True:
            began_s = time.monotonic()
            try:
                await asyncio.to_thread(act)
            except self._transient as error:
                _log.warning("%s: %s", complaint, error)
            took_s = time.monotonic() - began_s
            await asyncio.sleep(max(interval_s, took_s / SHARE_OF_TIME))

    async def _sweep_forever(self) -> None:
        if self._rules.rules:
            await self._every(self._intervals.sweep_s, self.sweep, "nobody is looked for this time")

    def sweep(self) -> None:
        """Ask for a review of those for whom time alone has changed what a rule says."""
        now_us = self._now_us()
        found = self._store.candidates(self._rules)
        states = self._store.load_states([candidate.customer_id for candidate in found])
        due = [candidate for candidate in found if is_due(self._rules, candidate, states, now_us)]
        chosen = self._patience.choose(due, now_us)
        if not chosen:
            return
        values = [encode_review(c.customer_id, c.log_partition, c.log_offset, now_us) for c in chosen]
        self._append([c.customer_id for c in chosen], values, now_us // 1000)
        self._metrics.reviews(len(chosen))

    async def _focus_forever(self) -> None:
        if self._rules.focus:
            loop = asyncio.get_running_loop()

            def look() -> None:
                alerts = self.look_for_focus()
                if alerts:
                    loop.call_soon_threadsafe(self.take, alerts)

            await self._every(self._intervals.focus_s, look, "windows cannot be judged this time")

    def look_for_focus(self) -> list[Alert]:
        """Judge the windows that have closed; returns the turns that are new, kept already."""
        fresh: list[Alert] = []
        now_us = self._now_us()
        for each in self._rules.focus:
            rule = focus.FocusRule.of(each)
            # Windows that closed while nobody looked are judged now, but for those of long ago.
            latest_us = focus.latest_end_us(rule, now_us)
            known = self._store.load_states([NOBODY]).get((rule.name, NOBODY))
            earliest_us = latest_us - (MOST_LATE_WINDOWS if known else 1) * rule.window_us
            for end_us in focus.ends_due(rule, max(known.since_us if known else 0, earliest_us), now_us):
                fresh += self._judge(rule, end_us)
                place = AlertState(rule.name, NOBODY, Phase.IDLE, end_us, "", 0, 0, 0, end_us // rule.window_us)
                self._store.write_states([place])
                self._metrics.windows(1)
        return fresh

    def _judge(self, rule: focus.FocusRule, end_us: int) -> list[Alert]:
        states = focus.states_of([a for a in self._store.focus_alerts(rule.name) if a.at_us < end_us])
        begin_us = focus.reads_from_us(rule, states, end_us)
        rows = self._store.query(felt_windows_sql(rule.by, rule.window_us, focus.FIRST_MONDAY_US, begin_us, end_us))
        windows = pl.DataFrame(rows, schema=WINDOWS, orient="row")
        turns = focus.judge(rule, windows, end_us, states, self._rules.rules_version)
        known: Mapping[Key, object] = self._store.fates(turns)
        fresh = [alert for alert in turns if (alert.alert_id, alert.turn) not in known]
        self._store.write_alerts(fresh)
        self._metrics.alerts(fresh)
        return fresh


async def _end_of(work: asyncio.Future[Any]) -> None:
    """Wait until something has ended, also when cancelled meanwhile."""
    while not work.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait({work})
