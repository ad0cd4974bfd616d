"""A plain consumer in a thread, for topics of little traffic: at least once, committed after the handler returned."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from kafka import ConsumerRebalanceListener, KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from infra.kafka.one_reader import OneReader

_log: Final = logging.getLogger(__name__)

POLL_MS: Final = 500
PAUSE_S: Final = 2.0
"""Before a handler or a broker that failed is tried again."""


@dataclass(frozen=True, slots=True)
class Followed:
    """One record as read: where it stands, when it was written (UTC ms), its bytes."""

    partition: int
    offset: int
    timestamp_ms: int
    value: bytes


class Follower:
    """Hands the records of a topic to a handler, in order per partition, again and again until it takes them."""

    def __init__(
        self,
        bootstrap: str,
        topic: str,
        group: str,
        handle: Callable[[Sequence[Followed]], None],
        most: int = 2_000,
        on_held: Callable[[bool], None] | None = None,
    ) -> None:
        """``handle`` must bear repeats; what it raises is logged and tried again. ``most``: records at once.

        With ``on_held`` one member of the group reads the whole topic while others stand by, and each is told, from the
        reading thread, when it begins (before its first record) and when it ends.
        """
        self._on_held = on_held
        self._holds = False
        self._bootstrap = bootstrap
        self._topic = topic
        self._group = group
        self._handle = handle
        self._most = most
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"follow-{topic}", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        """End after the records in hand."""
        self._ending.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._ending.is_set():
            try:
                self._read()
            except Exception as error:
                self._hold(False)
                # A fresh consumer starts from the last commit: nothing is lost, some is handled twice.
                _log.warning("topic %s cannot be followed for now: %s", self._topic, error)
                self._ending.wait(PAUSE_S)

    def _read(self) -> None:
        alone = {} if self._on_held is None else {"partition_assignment_strategy": [OneReader()]}
        consumer = KafkaConsumer(
            bootstrap_servers=self._bootstrap.split(","),
            group_id=self._group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_poll_records=self._most,
            # As the worker around it: a killed one is followed by another within seconds, not after the default 45.
            session_timeout_ms=10_000,
            heartbeat_interval_ms=2_000,
            **alone,
        )
        consumer.subscribe([self._topic], listener=_Listener(self._hold))
        try:
            while not self._ending.is_set():
                polled = consumer.poll(timeout_ms=POLL_MS)
                records = [
                    Followed(record.partition, record.offset, record.timestamp, record.value or b"")
                    for of_partition in polled.values()
                    for record in of_partition
                ]
                if records:
                    self._handle(records)
                    consumer.commit()
        finally:
            self._hold(False)
            try:
                consumer.close()
            except KafkaError as error:
                _log.info("the consumer of %s did not leave its group: %s", self._topic, error)

    def _hold(self, holds: bool) -> None:
        if holds != self._holds:
            self._holds = holds
            if self._on_held is not None:
                self._on_held(holds)


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    def __init__(self, hold: Callable[[bool], None]) -> None:
        self._hold = hold

    def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        # A rebalance takes everything for a moment; who goes on reading is told again at once.
        del revoked

    def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        self._hold(bool(assigned))
