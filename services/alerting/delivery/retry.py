"""When a call is tried again. Pure.

The schedule is that of Standard Webhooks (specification, "Deliverability and reliability"): at once, then after 5 s,
5 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h and 24 h, which is 75 hours and a half in all. Jitter is only ever added, so
that it stays above three days whatever is drawn.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Final

DELAYS_S: Final = (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""Before the second attempt, the third, ...; the first goes at once."""
MOST_ATTEMPTS: Final = len(DELAYS_S) + 1
JITTER: Final = 0.2
"""A delay is stretched by up to this share: calls that failed together do not come back together."""
SLOW_DOWN_S: Final = 60
"""Least delay after an answer that asks for a lower rate without saying which."""
MOST_RETRY_AFTER_S: Final = 86_400
"""A receiver may not put off a call for longer than the longest delay of our own."""


class Verdict(StrEnum):
    """What an answer means for the call and for its receiver."""

    DELIVERED = "delivered"
    RETRY = "retry"
    """It may go well another time, perhaps once somebody has mended the configuration."""
    SLOW_DOWN = "slow_down"
    """As `RETRY`, and the receiver asks for fewer calls."""
    NEVER = "never"
    """This body is refused, and the body never changes."""
    GONE = "gone"
    """The receiver wants no calls any more."""


@dataclass(frozen=True, slots=True)
class Answer:
    """How one attempt ended."""

    verdict: Verdict
    status: int = 0
    """HTTP or SMTP status, or 0 where there was none."""
    detail: str = ""
    """What went wrong and what to do; never a secret, never what the receiver wrote."""
    retry_after_s: float | None = None


SLOW_DOWN_STATUSES: Final = frozenset({429, 502, 503, 504})
NEVER_STATUSES: Final = frozenset({413})
"""Refused for good whatever the format. Not 400, 401, 403, 404: a wrong secret or a missing route is mended in days."""


def verdict_of(status: int, never: Set[int] = frozenset()) -> Verdict:
    """What an HTTP status means. ``never``: further statuses by which such receivers refuse a body for good."""
    if 200 <= status <= 299:
        return Verdict.DELIVERED
    if status == 410:
        return Verdict.GONE
    if status in NEVER_STATUSES or status in never:
        return Verdict.NEVER
    return Verdict.SLOW_DOWN if status in SLOW_DOWN_STATUSES else Verdict.RETRY


def next_attempt(number: int, verdict: Verdict, retry_after_s: float | None, draw: float) -> float | None:
    """Seconds until the attempt after the ``number``-th (from 1), None: there is none.

    ``draw`` is uniform in [0, 1). What the receiver asked for (``Retry-After``) is honoured up to a day.
    """
    if verdict not in (Verdict.RETRY, Verdict.SLOW_DOWN) or number >= MOST_ATTEMPTS:
        return None
    least_s = float(DELAYS_S[number - 1])
    if verdict is Verdict.SLOW_DOWN:
        least_s = max(least_s, SLOW_DOWN_S)
    if retry_after_s is not None:
        least_s = max(least_s, min(retry_after_s, MOST_RETRY_AFTER_S))
    return least_s * (1 + JITTER * draw)


def retry_after_s(header: str, now_us: int) -> float | None:
    """Seconds that a header ``Retry-After`` asks for (RFC 9110, 10.2.3: seconds or a date); None: it says nothing."""
    text = header.strip()
    if text.isascii() and text.isdigit():
        return float(min(int(text[:12]), MOST_RETRY_AFTER_S))
    try:
        then = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return None
    moment = then if then.tzinfo is not None else then.replace(tzinfo=UTC)
    seconds = (moment - datetime.fromtimestamp(now_us / 1e6, UTC)).total_seconds()
    return min(max(seconds, 0.0), float(MOST_RETRY_AFTER_S))
