"""Touchstone's topics on a cluster: made once, with as many copies as asked for.

``python -m infra.kafka.topics`` makes those that are missing and brings the settings of the others in line; exit code 0
done, 1 the topics that exist have another shape, 2 wrong settings, 3 Kafka cannot be reached.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from pydantic import ValidationError

from infra.kafka.admin import KafkaAdmin
from infra.kafka.errors import ClusterUnreachableError, KafkaInfraError
from infra.kafka.settings import TopicSettings
from schemas.topics import TOPICS, Topic

TIMEOUT_S: Final = 60.0
"""A cluster just started elects its leaders first."""


def topics_for(partitions: int, min_in_sync: int, topics: Iterable[Topic] = TOPICS) -> list[Topic]:
    """The topics as a cluster should have them; those of a single partition keep it."""
    return [
        replace(
            topic,
            partitions=topic.partitions if topic.partitions == 1 else partitions,
            config={**topic.config, "min.insync.replicas": str(min_in_sync)},
        )
        for topic in topics
    ]


def main() -> int:
    """Make what is missing; returns the exit code."""
    try:
        settings = TopicSettings()
    except ValidationError as error:
        print(f"wrong settings: {error}", file=sys.stderr)
        return 2
    try:
        with KafkaAdmin(settings.kafka_bootstrap, timeout_s=TIMEOUT_S) as admin:
            changes = admin.ensure_topics(
                topics_for(settings.partitions, settings.kafka_min_insync),
                replication_factor=settings.kafka_replication,
            )
    except KafkaInfraError as error:
        print(error, file=sys.stderr)
        return 3 if isinstance(error, ClusterUnreachableError) else 1
    told = [f"made {name}" for name in changes.created] + [f"changed {name}" for name in changes.reconfigured]
    print("\n".join(told) or "nothing to make")
    return 0


if __name__ == "__main__":
    sys.exit(main())
