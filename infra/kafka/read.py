"""One partition of a topic from one offset to another, by a consumer that belongs to no group and commits nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from infra.kafka.errors import ClusterRefusedError, ClusterUnreachableError

_POLL_S: Final = 0.5
_NOBODY_ANSWERS: Final = frozenset({KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._TIMED_OUT})


@dataclass(frozen=True, slots=True)
class Records:
    """Records of one partition, offsets ascending; a value is None where the record has none."""

    offsets: npt.NDArray[np.int64]
    values: list[bytes | None]
    timestamps_ms: list[int]


def read_partition(
    bootstrap: str, topic: str, partition: int, start: int, end: int, *, most: int = 20_000, timeout_s: float = 30.0
) -> Iterator[Records]:
    """Everything from offset ``start`` up to and without ``end``, at most ``most`` records at once.

    Raises ClusterUnreachableError when nothing comes for ``timeout_s``, ClusterRefusedError when ``start`` is not kept
    any more or Kafka answers with another error.
    """
    if start >= end:
        return
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            # The library wants a name; without subscription or commit Kafka never hears of it.
            "group.id": "touchstone-reading",
            "client.id": "touchstone-reading",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "error",
            "log_level": 0,
            "error_cb": _ignore,
            "queued.max.messages.kbytes": 32_768,
        }
    )
    where = f"Kafka at {bootstrap}: {topic}, partition {partition}"
    place = TopicPartition(topic, partition, start)
    try:
        consumer.assign([place])
        reached, heard_s = start, time.monotonic()
        while reached < end:
            # Never more than there are: the library waits in vain for the rest.
            messages = consumer.consume(min(most, end - reached), timeout=_POLL_S)
            records, reached = _records(messages, reached, end)
            if len(records.offsets):
                heard_s = time.monotonic()
                yield records
                continue
            # The last places before ``end`` may hold no record, such as marks of a transaction.
            [at] = consumer.position([place])
            reached = max(reached, at.offset)
            if time.monotonic() - heard_s > timeout_s:
                raise ClusterUnreachableError(f"{where}: nothing came for {timeout_s:.0f} s at offset {reached}")
    except KafkaException as error:
        known = ClusterUnreachableError if error.args[0].code() in _NOBODY_ANSWERS else ClusterRefusedError
        raise known(f"{where}: {error.args[0]}") from error
    finally:
        consumer.close()


def _records(messages: list[Any], reached: int, end: int) -> tuple[Records, int]:
    offsets: list[int] = []
    values: list[bytes | None] = []
    stamps: list[int] = []
    for message in messages:
        error = message.error()
        if error is not None:
            raise KafkaException(error)
        offset = message.offset()
        reached = offset + 1
        if offset < end:
            offsets.append(offset)
            values.append(message.value())
            stamps.append(message.timestamp()[1])
    return Records(np.array(offsets, dtype=np.int64), values, stamps), reached


def _ignore(_: object) -> None:
    """A connection lost is told by the read that needed it."""
