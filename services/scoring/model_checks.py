"""Whether the models that judge still hold: what was found is read from the tables now and then, to be shown."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

_log: Final = logging.getLogger(__name__)

INTERVAL_S: Final = 30.0
"""Checks are made once a week; what is shown of them may be this old."""


@dataclass(frozen=True, slots=True)
class ModelCheck:
    """What is known of a model that judges.

    ``activated_s``, ``checked_s``: seconds since 1970 of its latest activation by the log and of its latest check, None
    without one. ``drifted``: None without a verdict. ``calibration_error``: expected, 0..1; None without a check.
    """

    version: str
    activated_s: float | None
    checked_s: float | None
    drifted: bool | None
    calibration_error: float | None


class ModelChecks:
    """Keeps `latest` as it is in the tables, for the models that judge in this worker."""

    def __init__(
        self,
        load: Callable[[Sequence[str]], Sequence[ModelCheck]],
        versions: Callable[[], Iterable[str]],
        failures: tuple[type[Exception], ...],
    ) -> None:
        """``load`` blocks, and may raise one of ``failures``."""
        self._load = load
        self._versions = versions
        self._failures = failures
        self.latest: tuple[ModelCheck, ...] = ()

    async def run(self) -> None:
        """Look for ever. Nothing is scored by this, so what fails is logged, and what was known stays."""
        while True:
            try:
                await asyncio.to_thread(self.once)
            except self._failures as error:
                _log.warning("checks of models cannot be read: %s", getattr(error, "for_logs", error))
            await asyncio.sleep(INTERVAL_S)

    def once(self) -> None:
        """One look."""
        versions = sorted(set(self._versions()))
        self.latest = tuple(self._load(versions)) if versions else ()
