"""Faults on a running stack: each begins, lasts, and is undone at its end. Runs on a thread of its own."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from infra.clickhouse.errors import ClickHouseError
from schemas.tables import DATABASE
from tests.faults.plan import ALL, TABLES, Fault, Kind, Plan
from tests.faults.stack import Stack
from tests.faults.weather import Weather

_log: Final = logging.getLogger(__name__)
_TRY_AGAIN_S: Final = 0.2
_UNDO_FOR_S: Final = 60.0


@dataclass(slots=True)
class Injected:
    """What became of a fault. Moments are monotonic seconds."""

    fault: Fault
    began_s: float = 0.0
    over_s: float = 0.0
    left_out: str = ""
    """Why it could not be had here."""
    how: str = ""


class Injector:
    """Carries out the faults of a plan, in parallel where they overlap."""

    def __init__(self, stack: Stack, plan: Plan, started_s: float) -> None:
        self._stack = stack
        self._started_s = started_s
        self.done = [Injected(fault) for fault in plan.faults]
        self._errors: list[BaseException] = []
        self._threads = [threading.Thread(target=self._run, args=(one,), daemon=True) for one in self.done]
        for thread in self._threads:
            thread.start()

    def finish(self) -> list[Injected]:
        """Wait until all are over. Raises what went wrong with the tools, which is no finding."""
        for thread in self._threads:
            thread.join()
        self._stack.heal()
        if self._errors:
            raise self._errors[0]
        return self.done

    def _run(self, one: Injected) -> None:
        try:
            time.sleep(max(0.0, self._started_s + one.fault.at_s - time.monotonic()))
            one.began_s = time.monotonic()
            _ACTS[one.fault.kind](self._stack, one)
            one.over_s = time.monotonic() if one.fault.for_s else one.began_s
        except BaseException as error:
            _log.exception("%s could not be carried out", one.fault)
            self._errors.append(error)


_Act = Callable[[Stack, Injected], None]


def _kill(stack: Stack, one: Injected) -> None:
    names = [name for name, kept in stack.keeper.kept.items() if kept.wanted]
    for name in names if one.fault.target == ALL else [one.fault.target]:
        stack.keeper.kill(name)


def _pause(stack: Stack, one: Injected) -> None:
    stack.keeper.pause(one.fault.target)
    time.sleep(one.fault.for_s)
    stack.keeper.resume(one.fault.target)


def _weather(make: Callable[[Fault], Weather], *, reset_first: bool = False, reset_last: bool = False) -> _Act:
    def act(stack: Stack, one: Injected) -> None:
        links = stack.link(one.fault.target)
        for link in links:
            link.set(make(one.fault))
            if reset_first:
                link.reset_all()
        time.sleep(one.fault.for_s)
        for link in links:
            if reset_last:
                link.reset_all()
            link.clear()

    return act


def _cut_replies(stack: Stack, one: Injected) -> None:
    links = stack.link(one.fault.target)
    before = sum(link.cut_replies for link in links)
    end_s = time.monotonic() + one.fault.for_s
    while time.monotonic() < end_s:
        for link in links:
            if not link.is_armed:
                link.cut_reply_after(one.fault.detail)
        time.sleep(_TRY_AGAIN_S)
    for link in links:
        link.clear()
    one.how = f"{sum(link.cut_replies for link in links) - before} answers cut"


def _resets(stack: Stack, one: Injected) -> None:
    end_s = time.monotonic() + one.fault.for_s
    while time.monotonic() < end_s:
        for link in stack.link(one.fault.target):
            link.reset_all()
        time.sleep(one.fault.detail / 1000)


def _disk_full(stack: Stack, one: Injected) -> None:
    disk = stack.disks[one.fault.target]
    if one.fault.target == TABLES and not disk.mounted:
        one.left_out = "no small file system can be mounted here, and ClickHouse is not told of any other limit"
        return
    one.how = disk.how
    disk.fill()
    time.sleep(one.fault.for_s)
    disk.free()


def _table_away(stack: Stack, one: Injected) -> None:
    table = f"{DATABASE}.{one.fault.target}"
    with stack.client() as client:
        try:
            client.query(f"RENAME TABLE {table} TO {table}_away")
        except ClickHouseError as error:
            one.left_out = f"the tables were away themselves: {error}"
        time.sleep(one.fault.for_s)
        _bring_back(stack, table)


def _bring_back(stack: Stack, table: str) -> None:
    """A statement whose answer was lost may have been carried out, so the table is asked."""
    deadline_s = time.monotonic() + _UNDO_FOR_S
    while True:
        try:
            with stack.client() as client:
                [(away,)] = client.query(f"EXISTS TABLE {table}_away")
                if not away:
                    return
                client.query(f"RENAME TABLE {table}_away TO {table}")
        except ClickHouseError:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(_TRY_AGAIN_S)


def _clock(stack: Stack, one: Injected) -> None:
    clock = stack.clocks[one.fault.target]
    if not clock.can_jump:
        one.left_out = "libfaketime is not installed"
        return
    clock.set(one.fault.detail)
    time.sleep(one.fault.for_s)
    clock.set(0)


def _visit(stack: Stack, one: Injected) -> None:
    stack.keeper.start(one.fault.target)
    time.sleep(one.fault.for_s)
    if one.fault.kind is Kind.VISIT:
        stack.keeper.stop(one.fault.target)
    else:
        stack.keeper.kill(one.fault.target, for_good=True)


_ACTS: Final[dict[Kind, _Act]] = {
    Kind.KILL: _kill,
    Kind.PAUSE: _pause,
    Kind.CUT: _weather(lambda fault: Weather(refuse=True), reset_first=True),
    Kind.HANG: _weather(lambda fault: Weather(hold_up=True, hold_down=True)),
    Kind.HANG_REPLIES: _weather(lambda fault: Weather(hold_down=True), reset_last=True),
    Kind.CUT_REPLY: _cut_replies,
    Kind.RESETS: _resets,
    Kind.DELAY: _weather(lambda fault: Weather(delay_s=(0.0, fault.detail / 1000))),
    Kind.SLOW: _weather(lambda fault: Weather(bytes_per_s=fault.detail * 1024.0)),
    Kind.DISK_FULL: _disk_full,
    Kind.TABLE_AWAY: _table_away,
    Kind.CLOCK: _clock,
    Kind.VISIT: _visit,
    Kind.KILLED_VISIT: _visit,
}
