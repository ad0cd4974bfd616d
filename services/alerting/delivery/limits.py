"""What the dispatcher may do at most."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of the dispatcher."""

    at_once: int = 8
    """Calls under way to one receiver."""
    send_s: float = 20.0
    """Longest attempt, whatever its sender does; senders stop at 15 s by themselves."""
    unrecorded: int = 500
    """Attempts made whose rows are not written yet: beyond, nothing is sent. A crash repeats as many at most."""
    linger_s: float = 0.05
    """Attempts are gathered for this long, so that rows are written together."""
    fates: int = 100_000
    """Ends of calls kept in memory; older ones are looked up in the store."""
