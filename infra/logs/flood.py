"""At most a few lines a minute of one and the same message; of the others the number.

Clients that cannot reach their broker say so a hundred times a second, in the same words.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from infra.logs.personal import OURS

PERIOD_S: Final = 60.0
BURST_OURS: Final = 10
"""Messages of our own code: the first few of a minute tell which."""
BURST_OTHERS: Final = 1
_MOST_KEYS: Final = 2_000
_NUMBERS: Final = re.compile(r"\d+")

Key = tuple[str, int, str]


@dataclass(slots=True)
class _Window:
    began_s: float
    passed: int = 0
    suppressed: int = 0


class FloodFilter(logging.Filter):
    """A filter of one handler. Messages are the same if logger, level and template are, numbers in it aside.

    What was held back is told as a number by a line of its own when the minute is over, and at the end of the process.
    """

    def __init__(
        self,
        handler: logging.Handler,
        *,
        period_s: float = PERIOD_S,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._handler = handler
        self._period_s = period_s
        self._clock_s = clock_s
        self._lock = threading.RLock()  # a signal's handler may log, too
        self._windows: dict[Key, _Window] = {}
        self._timer: threading.Timer | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is to be written."""
        key = _key(record)
        burst = BURST_OURS if record.name.startswith(OURS) else BURST_OTHERS
        now_s = self._clock_s()
        with self._lock:
            window = self._windows.get(key)
            if window is None or now_s - window.began_s >= self._period_s:
                if window is not None and window.suppressed:
                    self._write(key, window.suppressed)
                self._forget(now_s)
                window = self._windows[key] = _Window(now_s)
            if window.passed < burst:
                window.passed += 1
                return True
            window.suppressed += 1
            if self._timer is None:
                self._tell_later()
            return False

    def tell_due(self) -> None:
        """Write the numbers of windows that are over; called by a timer while anything is held back."""
        with self._lock:
            self._timer = None
            self._tell(self._clock_s() - self._period_s)
            if any(window.suppressed for window in self._windows.values()):
                self._tell_later()

    def _tell_later(self) -> None:
        self._timer = threading.Timer(self._period_s, self.tell_due)
        self._timer.daemon = True
        self._timer.start()

    def tell_all(self) -> None:
        """Write all numbers: the process ends."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self._tell(float("inf"))

    def _tell(self, began_before_s: float) -> None:
        for key, window in list(self._windows.items()):
            if window.began_s <= began_before_s:
                del self._windows[key]
                if window.suppressed:
                    self._write(key, window.suppressed)

    def _forget(self, now_s: float) -> None:
        """Keep the memory of messages small."""
        if len(self._windows) < _MOST_KEYS:
            return
        self._tell(now_s - self._period_s)
        if len(self._windows) >= _MOST_KEYS:
            self._tell(float("inf"))

    def _write(self, key: Key, suppressed: int) -> None:
        name, level, template = key
        record = logging.LogRecord(
            name, level, "", 0, "%d more like this were not written: %s", (suppressed, template), None
        )
        record.__dict__["suppressed"] = suppressed
        self._handler.acquire()
        try:
            self._handler.emit(record)
        finally:
            self._handler.release()


def _key(record: logging.LogRecord) -> Key:
    template = record.msg if isinstance(record.msg, str) else type(record.msg).__name__
    if template == "%s" and isinstance(record.args, tuple) and record.args:
        # Nothing but its argument: told apart by its kind.
        template = f"%s ({type(record.args[0]).__name__})"
    return record.name, record.levelno, _NUMBERS.sub("#", template.partition("\n")[0])
