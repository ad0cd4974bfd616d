"""Whether a model holds, as workers show it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from services.scoring.collectors import ModelCheckGauges
from services.scoring.model_checks import ModelCheck, ModelChecks

CHECKED = ModelCheck("b", 10.0, 20.5, drifted=True, calibration_error=0.04)


class AwayError(Exception):
    pass


def test_what_is_not_known_has_no_series() -> None:
    registry = CollectorRegistry()
    gauges = ModelCheckGauges(
        {
            "drifted": ("drifted", "Is it"),
            "calibration_error": ("error", "How large"),
            "checked_s": ("checked", "When"),
            "activated_s": ("activated", "When"),
        },
        registry,
    )
    assert b"{" not in generate_latest(registry)
    gauges.set_function(
        lambda: [
            CHECKED,
            ModelCheck("a", None, 5.0, drifted=None, calibration_error=0.5),
            ModelCheck("c", 1.0, None, drifted=None, calibration_error=None),
        ]
    )
    lines = [line for line in generate_latest(registry).decode().splitlines() if not line.startswith("#")]
    assert lines == [
        'drifted{version="b"} 1.0',
        'error{version="a"} 0.5',
        'error{version="b"} 0.04',
        'checked{version="a"} 5.0',
        'checked{version="b"} 20.5',
        'activated{version="b"} 10.0',
        'activated{version="c"} 1.0',
    ]


def test_only_models_that_judge_are_asked_for() -> None:
    judging: list[str] = []
    asked: list[list[str]] = []

    def load(versions: Sequence[str]) -> list[ModelCheck]:
        asked.append(list(versions))
        return [CHECKED]

    checks = ModelChecks(load, lambda: judging, (AwayError,))
    checks.once()
    assert (asked, checks.latest) == ([], ())
    judging += ["b", "a", "b"]
    checks.once()
    assert (asked, checks.latest) == ([["a", "b"]], (CHECKED,))
    judging.clear()
    checks.once()
    assert checks.latest == ()


async def test_what_was_known_stays_while_the_tables_are_away(caplog: pytest.LogCaptureFixture) -> None:
    def load(versions: Sequence[str]) -> list[ModelCheck]:
        raise AwayError("nobody answers")

    checks = ModelChecks(load, lambda: ["b"], (AwayError,))
    checks.latest = (CHECKED,)
    logged = asyncio.Event()
    loop = asyncio.get_running_loop()

    class Heard(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            loop.call_soon_threadsafe(logged.set)

    handler = Heard()
    logging.getLogger("services.scoring.model_checks").addHandler(handler)
    task = asyncio.create_task(checks.run())
    try:
        await asyncio.wait_for(logged.wait(), 10)
        assert not task.done()
    finally:
        logging.getLogger("services.scoring.model_checks").removeHandler(handler)
        task.cancel()
    assert checks.latest == (CHECKED,)
    assert "checks of models cannot be read: nobody answers" in caplog.text
