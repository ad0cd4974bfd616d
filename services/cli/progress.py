"""How far a long command is: a bar on a terminal, a line every ten seconds elsewhere, always on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from services.cli.console import is_plain, say

LINE_EVERY_S: Final = 10.0


class Progress:
    """A context manager; `update` may be called as often as it suits."""

    def __init__(
        self,
        what: str,
        total: int | None,
        *,
        plain: bool | None = None,
        console: Console | None = None,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._what = what
        self._total = total
        self._clock_s = clock_s
        self._started_s = clock_s()
        self._next_line_s = self._started_s + LINE_EVERY_S
        self._bar: Bar | None = None
        if not (is_plain(sys.stderr) if plain is None else plain):
            self._bar = Bar(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=console or Console(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task(what, total=total, rate="", note="")

    def __enter__(self) -> Progress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, done: int, note: str = "") -> None:
        """So many of the total are done; ``note`` says what else matters."""
        now_s = self._clock_s()
        rate = done / max(1e-9, now_s - self._started_s)
        if self._bar is not None:
            self._bar.update(self._task, completed=done, rate=f"{rate:,.0f}/s", note=note)
        elif now_s >= self._next_line_s:
            self._next_line_s = now_s + LINE_EVERY_S
            of = f" of {self._total:,}" if self._total is not None else ""
            left_s = (self._total - done) / rate if self._total is not None and rate > 0 else None
            eta = f", {left_s:,.0f} s left" if left_s is not None else ""
            say(f"{self._what}: {done:,}{of}, {rate:,.0f}/s{eta}{f', {note}' if note else ''}")
