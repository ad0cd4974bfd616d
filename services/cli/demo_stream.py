"""What the demo sends: a company's events, with some broken and some repeated ones in between. Pure."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

PROBES: Final = 15
"""Events kept back, to be sent one by one when it is to be seen how fresh scores are."""
BROKEN: Final = 40
REPEATED: Final = 400

Event = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Stream:
    """The bulk, and the events kept back; each of these is the last one of its customer."""

    bulk: list[Event]
    probes: list[Event]

    @property
    def total(self) -> int:
        """Events to send in all."""
        return len(self.bulk) + len(self.probes)


def make_stream(events: Sequence[Event], seed: int) -> Stream:
    """Keep some back, repeat some later on, put broken ones in between; the same for the same seed."""
    chance = random.Random(seed)
    last = {event["customer_id"]: event for event in events}
    probes = chance.sample(sorted(last.values(), key=lambda event: str(event["event_id"])), min(PROBES, len(last)))
    kept_back = {event["event_id"] for event in probes}
    bulk = [event for event in events if event["event_id"] not in kept_back]
    repeated = chance.sample(bulk, min(REPEATED, len(bulk)))
    broken = [_broken(event, number) for number, event in enumerate(chance.sample(bulk, min(BROKEN, len(bulk))))]
    for event in broken:
        bulk.insert(chance.randrange(len(bulk) + 1), event)
    return Stream([*bulk, *repeated], probes)


def _broken(event: Event, number: int) -> Event:
    """One of four faults that senders really make."""
    faults: tuple[Event, ...] = (
        {"kind": "meeting"},
        {"occurred_at": event["occurred_at"].removesuffix("Z")},
        {"touchpoint": "Support Phone"},
        {"customer": event["customer_id"]},
    )
    return {**event, "event_id": f"broken-{number}", **faults[number % len(faults)]}
