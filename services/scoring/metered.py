"""Ports whose calls are timed and counted. The shell tries again what failed, so a failed call is a retry."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from time import perf_counter
from typing import Any, ParamSpec, TypeVar, cast

from services.scoring.metrics import CALL_SECONDS, CALLS, CALLS_FAILED

Port = TypeVar("Port")
Given = ParamSpec("Given")
Result = TypeVar("Result")


def timed(call: str, function: Callable[Given, Result]) -> Callable[Given, Result]:
    """The same function; seconds of each success and a count of each failure go to the metrics under ``call``."""

    @wraps(function)
    def run(*args: Given.args, **kwargs: Given.kwargs) -> Result:
        started = perf_counter()
        try:
            result = function(*args, **kwargs)
        except Exception:
            CALLS_FAILED.labels(call).inc()
            raise
        CALL_SECONDS.labels(call).observe(perf_counter() - started)
        return result

    return run


class _Metered:
    def __init__(self, port: object) -> None:
        for name in CALLS:
            method = getattr(port, name, None)
            if callable(method):
                setattr(self, name, timed(name, method))
        self._port = port

    def __getattr__(self, name: str) -> Any:
        return getattr(self._port, name)


def metered(port: Port) -> Port:
    """The same port with each of its `CALLS` timed."""
    return cast(Port, _Metered(port))
