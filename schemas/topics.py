"""Topic names, partition counts and settings: spelled here and nowhere else.

Partition counts are fixed at creation: state is keyed by (customer, partition, offset), so adding partitions to a
live topic would split customers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

TOUCHPOINTS: Final = "touchpoints"
LOYALTY_SIGNALS: Final = "loyalty-signals"
REJECTED: Final = "rejected"
CONSUMER_GROUP: Final = "touchstone-scoring"
ALERTING_GROUP: Final = "touchstone-alerting"
"""Group of the alerting processes: one of them reads, others stand by."""
REJECTED_GROUP: Final = "touchstone-rejected"
"""Group that brings what ingest refused into table rejected_events."""

FOREVER: Final = {"retention.ms": "-1", "cleanup.policy": "delete"}
_ANY_CLOCK: Final = {
    # Record timestamps are received_at; a sender's wrong clock must not make the broker refuse or delete records.
    "message.timestamp.type": "CreateTime",
    "message.timestamp.before.max.ms": "9223372036854775807",
    "message.timestamp.after.max.ms": "9223372036854775807",
}


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as it is created. ``partitions`` may be overridden once, before first use."""

    name: str
    partitions: int
    config: dict[str, str] = field(default_factory=dict)


TOPICS: Final[tuple[Topic, ...]] = (
    Topic(TOUCHPOINTS, 4, {**FOREVER, **_ANY_CLOCK, "max.message.bytes": "1048576"}),
    Topic(LOYALTY_SIGNALS, 4, {"retention.ms": str(90 * 24 * 3600 * 1000)}),
    Topic(REJECTED, 1, {**FOREVER, **_ANY_CLOCK, "max.message.bytes": "2097152"}),
)
