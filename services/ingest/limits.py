"""What one request may bring, in numbers. Every limit is answered by name: 413 for sizes, 422 for contents."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.touchpoint import FUTURE_REFUSED_US


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one ingest process; the event's own (text, attributes, ids) are in `schemas.touchpoint`."""

    max_body_bytes: int = 4 << 20
    """Of a body as it comes, and again of what it unpacks to. 4 MiB are some 12,000 usual events."""
    max_batch_events: int = 5_000
    """The loop is busy for about 10 us an event; 5,000 keep the pause of other requests under 0.1 s."""
    max_event_bytes: int = 1 << 20
    """Of one event's JSON text. The longest event that keeps all limits of its fields has 0.6 MiB, all escaped."""
    max_event_members: int = 100
    """Members of one event, attributes included, before it is looked at closely; a valid one has at most 51."""
    future_refused_us: int = FUTURE_REFUSED_US
    """An event further ahead of its arrival than this is refused: that clock is wrong."""
    future_warned_us: int = 60 * 1_000_000
    """An event further ahead than this is taken with a warning."""
