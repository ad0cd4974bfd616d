"""Durations and times of day as the rules file writes them."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, PlainSerializer
from pydantic_core import PydanticCustomError

SECOND_US: Final = 1_000_000
MINUTE_US: Final = 60 * SECOND_US
HOUR_US: Final = 60 * MINUTE_US
DAY_US: Final = 24 * HOUR_US
LONGEST_US: Final = 3650 * DAY_US

_UNITS: Final = {"d": DAY_US, "h": HOUR_US, "m": MINUTE_US, "s": SECOND_US}
_DURATION: Final = re.compile(r"(?:(\d{1,9})d)?(?:(\d{1,9})h)?(?:(\d{1,9})m)?(?:(\d{1,9})s)?")
_TIME: Final = re.compile(r"([01]\d|2[0-3]):([0-5]\d)")


def _read_duration(value: Any) -> int:
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None or not value:
        raise PydanticCustomError("duration", "is no duration; write one as 90s, 15m, 24h, 7d or 1d12h")
    total = sum(int(count) * unit for count, unit in zip(match.groups(), _UNITS.values(), strict=True) if count)
    if total > LONGEST_US:
        raise PydanticCustomError("duration", "is longer than 3650d; write a shorter one")
    return total


def duration_text(value_us: int) -> str:
    """As the rules file writes it: ``1d12h``; whole seconds."""
    parts = []
    for unit, size_us in _UNITS.items():
        count, value_us = divmod(value_us, size_us)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def _read_time(value: Any) -> int:
    match = _TIME.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise PydanticCustomError("time_of_day", 'is no time of day; write one as "08:30"')
    return int(match[1]) * 60 + int(match[2])


def _time_text(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


DurationUs = Annotated[int, BeforeValidator(_read_duration), PlainSerializer(duration_text)]
"""Microseconds; written as text."""

MinuteOfDay = Annotated[int, BeforeValidator(_read_time), PlainSerializer(_time_text)]
"""Minutes since midnight; written as ``HH:MM``."""
