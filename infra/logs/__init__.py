"""Logs of our processes: one event a line, as JSON or as text, without personal values and without floods.

`set_up` is called once by each program, before anything is logged.
"""

from __future__ import annotations

import atexit
import logging
import sys
import threading
from types import TracebackType
from typing import Final, TextIO

from infra.logs.flood import FloodFilter
from infra.logs.formats import JsonLines, TextLines
from infra.logs.settings import LogSettings

__all__ = ["LogSettings", "set_up"]

_log: Final = logging.getLogger("touchstone.process")


def set_up(level: str, settings: LogSettings, stream: TextIO | None = None) -> logging.Handler:
    """Send everything that is logged from ``level`` on to ``stream`` (stderr); returns the one handler of the root.

    Warnings and uncaught exceptions, those of threads included, become lines like all others.
    """
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines() if settings.log_format == "json" else TextLines())
    flood = FloodFilter(handler)
    handler.addFilter(flood)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)
    sys.excepthook = _on_uncaught
    threading.excepthook = _on_uncaught_in_thread
    # Before logging.shutdown, which was registered earlier and so runs later.
    atexit.register(flood.tell_all)
    return handler


def _on_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    _log.critical("the process ends by an exception that nobody caught", exc_info=(kind, error, trace))


def _on_uncaught_in_thread(seen: threading.ExceptHookArgs) -> None:
    if seen.exc_value is not None and not issubclass(seen.exc_type, SystemExit):
        _log.critical(
            "a thread ended by an exception that nobody caught",
            exc_info=(seen.exc_type, seen.exc_value, seen.exc_traceback),
        )
