"""One reader for a whole topic, with others standing by: for work that must not be done twice at a time.

Whoever reads keeps reading when another joins; when it goes, the member with the lowest id takes over.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from kafka.coordinator.assignors.abstract import AbstractPartitionAssignor
from kafka.protocol.consumer.metadata import ConsumerProtocolAssignment, ConsumerProtocolSubscription

_VERSION: Final = 0
_HOLDS: Final = b"holds "
"""Before the generation of the group in which this member was last made the reader."""


class OneReader(AbstractPartitionAssignor):  # type: ignore[misc]
    """Assigns every partition to one member of the group. An instance belongs to one consumer."""

    name = "one-reader"

    def __init__(self) -> None:
        self._since: int | None = None

    def metadata(self, topics: Iterable[str]) -> Any:
        """What this member tells the others: whether it reads now."""
        return ConsumerProtocolSubscription(_VERSION, sorted(topics), self._told())

    def _told(self) -> bytes:
        return b"" if self._since is None else _HOLDS + str(self._since).encode()

    def assign(self, cluster: Any, members: Iterable[Any]) -> dict[str, Any]:
        """By member id; all but one get nothing. Of two who say that they read, the one who began last does.

        The other was silent for too long, has been replaced, and does not know it yet.
        """
        told = {member.member_id: member.metadata for member in members}
        reader = min(told, key=lambda member: (-_since(told[member].user_data), member), default=None)
        assigned = {}
        for member, metadata in told.items():
            topics = metadata.topics if member == reader else ()
            mine = [(topic, sorted(cluster.partitions_for_topic(topic) or ())) for topic in sorted(topics)]
            assigned[member] = ConsumerProtocolAssignment(_VERSION, mine, b"")
        return assigned

    def on_assignment(self, assignment: Any, generation: int) -> None:
        """Remember whether this member reads, and since when."""
        if not assignment.partitions():
            self._since = None
        elif self._since is None:
            self._since = generation


def _since(user_data: bytes | None) -> int:
    """The generation in which a member began to read; -1: it does not."""
    told = bytes(user_data or b"")
    number = told.removeprefix(_HOLDS)
    return int(number) if told.startswith(_HOLDS) and number.isdigit() else -1
