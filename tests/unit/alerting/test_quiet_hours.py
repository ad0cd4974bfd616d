"""Quiet hours by the clock on the wall, over midnight and over the changes of summer time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from services.alerting.quiet import quiet_until_us
from services.alerting.rules.model import QuietHours

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def micros(text: str) -> int:
    return (datetime.fromisoformat(text) - EPOCH) // timedelta(microseconds=1)


def quiet(start: str, end: str, zone: str = "Europe/Berlin") -> QuietHours:
    return QuietHours.model_validate({"from": start, "to": end, "zone": zone})


@pytest.mark.parametrize(
    ("hours", "at", "until"),
    [
        (quiet("20:00", "08:00"), "2026-01-10T19:59:59.999999+01:00", None),
        (quiet("20:00", "08:00"), "2026-01-10T20:00:00+01:00", "2026-01-11T08:00:00+01:00"),
        (quiet("20:00", "08:00"), "2026-01-11T07:59:59+01:00", "2026-01-11T08:00:00+01:00"),
        (quiet("20:00", "08:00"), "2026-01-11T08:00:00+01:00", None),
        (quiet("20:00", "08:00"), "2026-12-31T23:30:00+01:00", "2027-01-01T08:00:00+01:00"),
        (quiet("12:00", "13:00", "UTC"), "2026-01-11T12:30:00Z", "2026-01-11T13:00:00Z"),
        (quiet("12:00", "13:00", "Asia/Kolkata"), "2026-01-11T12:30:00Z", None),
        # Clocks go forward on 29 March at 02:00: the night is an hour shorter.
        (quiet("20:00", "08:00"), "2026-03-28T20:00:00+01:00", "2026-03-29T08:00:00+02:00"),
        (quiet("01:00", "02:30"), "2026-03-29T01:30:00+01:00", "2026-03-29T03:30:00+02:00"),
        # Clocks go back on 25 October at 03:00: 02:30 comes twice.
        (quiet("20:00", "08:00"), "2026-10-24T20:00:00+02:00", "2026-10-25T08:00:00+01:00"),
        (quiet("01:00", "02:30"), "2026-10-25T02:10:00+02:00", "2026-10-25T02:30:00+02:00"),
        (quiet("01:00", "02:30"), "2026-10-25T02:10:00+01:00", "2026-10-25T02:30:00+01:00"),
    ],
)
def test_ends_when_the_wall_says_so(hours: QuietHours, at: str, until: str | None) -> None:
    assert quiet_until_us(hours, micros(at)) == (micros(until) if until else 0)


def test_without_quiet_hours_it_is_never_quiet() -> None:
    assert quiet_until_us(None, 0) == 0
