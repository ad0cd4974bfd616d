"""One reader for a whole topic, with others standing by: for work that must not be done twice at a time.

Whoever reads keeps reading when another joins; when it goes, the member with the lowest id takes over.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from kafka.coordinator.assignors.abstract import AbstractPartitionAssignor
from kafka.protocol.consumer.metadata import ConsumerProtocolAssignment, ConsumerProtocolSubscription

_VERSION: Final = 0
_HOLDS: Final = b"holds"


class OneReader(AbstractPartitionAssignor):  # type: ignore[misc]
    """Assigns every partition to one member of the group. An instance belongs to one consumer."""

    name = "one-reader"

    def __init__(self) -> None:
        self._holds = False

    def metadata(self, topics: Iterable[str]) -> Any:
        """What this member tells the others: whether it reads now."""
        return ConsumerProtocolSubscription(_VERSION, sorted(topics), _HOLDS if self._holds else b"")

    def assign(self, cluster: Any, members: Iterable[Any]) -> dict[str, Any]:
        """By member id; all but one get nothing."""
        told = {member.member_id: member.metadata for member in members}
        reader = min(told, key=lambda member: (told[member].user_data != _HOLDS, member), default=None)
        assigned = {}
        for member, metadata in told.items():
            topics = metadata.topics if member == reader else ()
            mine = [(topic, sorted(cluster.partitions_for_topic(topic) or ())) for topic in sorted(topics)]
            assigned[member] = ConsumerProtocolAssignment(_VERSION, mine, b"")
        return assigned

    def on_assignment(self, assignment: Any, generation: int) -> None:
        """Remember whether this member reads."""
        del generation
        self._holds = bool(assignment.partitions())
