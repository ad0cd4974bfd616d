"""Three brokers on this machine, and what goes on in front of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from infra.kafka.admin import KafkaAdmin
from infra.kafka.cluster import KafkaCluster
from infra.kafka.runtime import KafkaRuntime
from infra.kafka.topics import topics_for

PARTITIONS = 6  # each broker leads two of the log


@pytest.fixture
def cluster(kafka_runtime: KafkaRuntime) -> Iterator[KafkaCluster]:
    """Three brokers with Touchstone's topics: three copies, two of which acknowledge."""
    with KafkaCluster(runtime=kafka_runtime, heap_mib=256) as running:
        with KafkaAdmin(running.bootstrap, timeout_s=30) as admin:
            admin.ensure_topics(topics_for(PARTITIONS, 2), replication_factor=3)
        yield running
