"""Quiet hours: until when nobody is to be called."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from services.alerting.rules.model import QuietHours

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def quiet_until_us(quiet: QuietHours | None, at_us: int) -> int:
    """When the quiet hours that ``at_us`` falls into end; 0: it falls into none.

    By the clock on the wall: they start and end at the same times of day the year round. An end that the change to
    summer time leaves out comes as much later; of one that comes twice, the first counts.
    """
    if quiet is None:
        return 0
    zone = ZoneInfo(quiet.zone)
    local = (_EPOCH + timedelta(microseconds=at_us)).astimezone(zone)
    minute, start, end = local.hour * 60 + local.minute, quiet.from_minute, quiet.to_minute
    over_midnight = start > end
    within = (minute >= start or minute < end) if over_midnight else start <= minute < end
    if not within:
        return 0
    date = local.date() + timedelta(days=1) if over_midnight and minute >= start else local.date()
    for fold in (0, 1):  # in the hour that comes twice the first end may have passed
        wall = datetime(date.year, date.month, date.day, end // 60, end % 60, tzinfo=zone, fold=fold)
        ends_us = (wall.astimezone(UTC) - _EPOCH) // _MICROSECOND
        if ends_us > at_us:
            return ends_us
    return 0
