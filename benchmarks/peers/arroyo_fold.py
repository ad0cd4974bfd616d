"""Sentry's arroyo: a consumer with one processing step, its states in a dict."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from arroyo.backends.kafka import KafkaConsumer, KafkaPayload
from arroyo.backends.kafka.configuration import build_kafka_consumer_configuration
from arroyo.commit import CommitPolicy
from arroyo.processing import StreamProcessor
from arroyo.processing.strategies import CommitOffsets, ProcessingStrategy, ProcessingStrategyFactory, RunTask
from arroyo.types import Commit, Message, Partition, Topic

sys.path.insert(0, str(Path(__file__).parents[2]))
from benchmarks.peers.fold_state import NEW, TOPIC, Meter, State, arguments, decode, fold

options = arguments()
meter = Meter(options.events)
states: dict[str, State] = {}


def score(message: Message[KafkaPayload]) -> Message[KafkaPayload]:
    customer, at_us, valence = decode(message.payload.value)
    states[customer] = fold(states.get(customer, NEW), at_us, valence)
    if meter.add():
        os._exit(0)
    return message


class Factory(ProcessingStrategyFactory[KafkaPayload]):
    def create_with_partitions(
        self, commit: Commit, partitions: Mapping[Partition, int]
    ) -> ProcessingStrategy[KafkaPayload]:
        return RunTask(score, CommitOffsets(commit))


settings = build_kafka_consumer_configuration(
    # Without the last one librdkafka waits up to a second whenever its queue was full.
    {"fetch.queue.backoff.ms": 5},
    bootstrap_servers=[options.bootstrap],
    group_id="peer-arroyo",
    auto_offset_reset="earliest",
)
StreamProcessor(KafkaConsumer(settings), Topic(TOPIC), Factory(), CommitPolicy(1.0, 10_000)).run()
