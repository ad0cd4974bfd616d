"""Faults of the Kafka side, one tree.

KafkaInfraError
├── RuntimeUnavailableError   no usable Java, or Kafka's jars cannot be brought
├── NodeStartError            the broker process ended or did not answer in time
├── ClusterUnreachableError   no broker answers at the address
├── ClusterRefusedError       a broker answered, with an error
└── TopicMismatchError        a topic exists in another shape than asked for
"""

from __future__ import annotations


class KafkaInfraError(Exception):
    """Base of everything that infra.kafka raises on purpose; the message names the remedy."""


class RuntimeUnavailableError(KafkaInfraError):
    """No usable Java runtime, or Kafka's jars are missing and cannot be brought."""


class NodeStartError(KafkaInfraError):
    """The broker process ended, or did not answer a client in time."""


class ClusterUnreachableError(KafkaInfraError):
    """No broker answered at the given address within the time allowed."""


class ClusterRefusedError(KafkaInfraError):
    """A broker answered with an error."""


class TopicMismatchError(KafkaInfraError):
    """A topic exists with another number of partitions than asked for."""
