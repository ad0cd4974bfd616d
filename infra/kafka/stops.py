"""Which partitions stand still under a flood of rejections, and which an operator let go on.

Kept where the log is: as the committed offsets of a group that nobody joins. Of each partition there is one entry: an
offset, and what it means as JSON in the offset's metadata. ``stopped``: it stands before this offset. ``released``:
everything below this offset is let through. Kafka forgets the entries of such a group after
``offsets.retention.minutes`` (7 days); a stop is then told anew, a release is long used up.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from infra.kafka.admin import DEFAULT_TIMEOUT_S, KafkaAdmin
from schemas.topics import CONSUMER_GROUP, TOUCHPOINTS

GROUP: Final = f"{CONSUMER_GROUP}-stops"
_STOPPED: Final = "stopped"
_RELEASED: Final = "released"


@dataclass(frozen=True, slots=True)
class StopEntry:
    """A partition that stands still before ``offset``, after ``rejected`` of ``records`` in a row were rejected."""

    partition: int
    offset: int
    rejected: int
    records: int


class StopRegister:
    """Each call connects anew: they are rare. Raises ClusterUnreachableError and ClusterRefusedError."""

    def __init__(self, bootstrap: str, *, timeout_s: float = DEFAULT_TIMEOUT_S, topic: str = TOUCHPOINTS) -> None:
        self._bootstrap = bootstrap
        self._timeout_s = timeout_s
        self._topic = topic

    def announce(self, partition: int, offset: int, *, rejected: int, records: int, released_until: int) -> None:
        """Tell that a partition stands still before ``offset``, unless that is told already or was released.

        ``released_until``: an earlier release; it stays true.
        """
        with self._admin() as admin:
            entry = self._entries(admin).get(partition)
            if _released_until(entry) > offset:
                return
            said = {"state": _STOPPED, "rejected": rejected, "records": records, "released_until": released_until}
            if entry != (offset, said):
                self._write(admin, {partition: (offset, said)})

    def released_until(self, partition: int) -> int:
        """Below this offset everything is let through; 0 if nobody said so."""
        with self._admin() as admin:
            return _released_until(self._entries(admin).get(partition))

    def stops(self) -> list[StopEntry]:
        """Partitions that were told to stand still and not released since, in order."""
        with self._admin() as admin:
            entries = self._entries(admin)
        return [
            StopEntry(partition, offset, int(said.get("rejected", 0)), int(said.get("records", 0)))
            for partition, (offset, said) in sorted(entries.items())
            if said.get("state") == _STOPPED
        ]

    def release(self, until: dict[int, int]) -> None:
        """Let partitions go on: everything below an offset of each passes."""
        with self._admin() as admin:
            self._write(admin, {partition: (offset, {"state": _RELEASED}) for partition, offset in until.items()})

    def _admin(self) -> KafkaAdmin:
        return KafkaAdmin(self._bootstrap, timeout_s=self._timeout_s)

    def _entries(self, admin: KafkaAdmin) -> dict[int, tuple[int, dict[str, Any]]]:
        found = admin.notes(GROUP, self._topic)
        return {partition: (offset, _read(note)) for partition, (offset, note) in found.items()}

    def _write(self, admin: KafkaAdmin, entries: dict[int, tuple[int, dict[str, Any]]]) -> None:
        admin.note(
            GROUP, self._topic, {at: (offset, json.dumps(said)) for at, (offset, said) in sorted(entries.items())}
        )


def _released_until(entry: tuple[int, dict[str, Any]] | None) -> int:
    if entry is None:
        return 0
    offset, said = entry
    return offset if said.get("state") == _RELEASED else int(said.get("released_until", 0))


def _read(note: str) -> dict[str, Any]:
    """What somebody else wrote there says nothing."""
    try:
        said = json.loads(note)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}
