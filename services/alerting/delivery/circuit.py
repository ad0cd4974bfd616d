"""Whether a receiver may be called now. Pure.

Closed, calls go. After some failures in a row it opens: calls wait in their queue and use up no attempt. When its time
is over one call is let through as a probe; that decides whether it closes or opens for twice as long.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from services.alerting.delivery.retry import Verdict

FAILURES_TO_OPEN: Final = 5
FIRST_OPEN_S: Final = 10
MOST_OPEN_S: Final = 300
"""A receiver that is back is found out within this."""
MOST_PAUSE_S: Final = 3_600
"""What a receiver asks for by ``Retry-After`` holds back all its calls for no longer than this."""


class Mode(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    PROBING = "probing"
    DISABLED = "disabled"
    """The receiver said 410, gone: until somebody sends a call again by hand, or a restart."""


@dataclass(frozen=True, slots=True)
class Circuit:
    mode: Mode = Mode.CLOSED
    failures: int = 0
    """In a row."""
    openings: int = 0
    """In a row, without a success between them."""
    until_us: int = 0
    """Open until then."""

    def admits_from_us(self) -> int | None:
        """When a call may start; 0: now; None: not before something changes."""
        if self.mode is Mode.CLOSED:
            return 0
        return self.until_us if self.mode is Mode.OPEN else None

    def started(self) -> Circuit:
        """A call has been let through."""
        return replace(self, mode=Mode.PROBING) if self.mode is Mode.OPEN else self

    def after(self, verdict: Verdict, now_us: int, retry_after_s: float | None = None) -> Circuit:
        """An attempt has ended. A refused body says that the receiver is well, so it counts as a success."""
        if verdict is Verdict.GONE:
            return Circuit(Mode.DISABLED)
        if self.mode is Mode.DISABLED:
            return self
        if verdict in (Verdict.DELIVERED, Verdict.NEVER):
            return Circuit()
        failures = self.failures + 1
        if verdict is Verdict.SLOW_DOWN and retry_after_s is not None:
            pause_s = min(max(retry_after_s, 1.0), MOST_PAUSE_S)
            return Circuit(Mode.OPEN, failures, self.openings, max(self.until_us, now_us + round(pause_s * 1e6)))
        if self.mode is Mode.OPEN or (self.mode is Mode.CLOSED and failures < FAILURES_TO_OPEN):
            return replace(self, failures=failures)
        open_s = min(FIRST_OPEN_S * 2 ** min(self.openings, 10), MOST_OPEN_S)
        return Circuit(Mode.OPEN, failures, self.openings + 1, now_us + open_s * 1_000_000)

    def by_hand(self) -> Circuit:
        """Somebody wants a call sent now: the next one is a probe."""
        return self if self.mode is Mode.CLOSED else Circuit(Mode.OPEN)
