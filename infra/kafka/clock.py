"""A wall clock that was set back, which librdkafka does not get over.

Its threads wait for moments of the wall clock (pthread_cond_timedwait on CLOCK_REALTIME). Set back by an hour, they
wait an hour longer: nothing is sent, no timeout is reported, no connection made anew. A new client has no such waits.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

TOLERANCE_S: Final = 0.5
"""Steps of time synchronisation; a wait that is so much longer hurts nobody."""


class SetBack:
    """Tells when the wall clock has lost more than `TOLERANCE_S` on the monotonic one."""

    def __init__(
        self, wall_s: Callable[[], float] = time.time, monotonic_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._wall_s, self._monotonic_s = wall_s, monotonic_s
        self._ahead_s = wall_s() - monotonic_s()

    def happened(self) -> bool:
        """Whether the clock was set back since this was last true, or since the beginning."""
        ahead_s = self._wall_s() - self._monotonic_s()
        if ahead_s < self._ahead_s - TOLERANCE_S:
            self._ahead_s = ahead_s
            return True
        self._ahead_s = max(self._ahead_s, ahead_s)
        return False
