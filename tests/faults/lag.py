"""How far the committed positions are behind the log, in seconds, and how long each fault made them so."""

from __future__ import annotations

import threading
import time
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from confluent_kafka import Consumer, KafkaException, TopicPartition

from schemas.topics import CONSUMER_GROUP, TOUCHPOINTS

SAMPLE_S: Final = 0.2
COMMIT_S: Final = 0.5
"""A worker commits this much after it has written; that is no lag."""
RECOVERED_S: Final = 1.0 + COMMIT_S
"""Age of the oldest record not committed below which a stack has recovered: a second, and the commit's own delay."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What Kafka told at a moment (monotonic seconds); positions by partition."""

    at_s: float
    ends: Mapping[int, int]
    committed: Mapping[int, int]


def lags(samples: Sequence[Sample]) -> list[tuple[float, float]]:
    """(moment, lag in seconds) of each sample: how long the oldest uncommitted record has been in the log.

    As precise as the samples lie close: a record counts from the sample that first saw it. While Kafka could not be
    asked nothing was committed either, so a sample after a gap has a lag of at least that gap.
    """
    seen: dict[int, tuple[list[int], list[float]]] = defaultdict(lambda: ([], []))
    found: list[tuple[float, float]] = []
    for sample in samples:
        gap_s = sample.at_s - found[-1][0] if found else 0.0
        lag_s = gap_s if gap_s >= RECOVERED_S else 0.0
        for partition, end in sample.ends.items():
            ends, moments = seen[partition]
            if not ends or end > ends[-1]:
                ends.append(end)
                moments.append(sample.at_s)
            committed = sample.committed.get(partition, 0)
            if committed < end:
                lag_s = max(lag_s, sample.at_s - moments[bisect_right(ends, committed)])
        found.append((sample.at_s, lag_s))
    return found


def recovery_s(measured: Sequence[tuple[float, float]], began_s: float, over_s: float, until_s: float) -> float | None:
    """Seconds from ``over_s`` until the lag was small for good, looking from ``began_s`` to ``until_s``.

    0 if it never was large, or was small again before. None if nobody can say: it was large already when the fault
    began, or was still when something else happened, or that came before any lag could have shown.
    """
    before = [lag_s for at_s, lag_s in measured if at_s < began_s]
    window = [(at_s, lag_s) for at_s, lag_s in measured if began_s <= at_s <= until_s]
    if (before and before[-1] >= RECOVERED_S) or not window or until_s - began_s < 2 * RECOVERED_S:
        return None
    if until_s - window[-1][0] >= RECOVERED_S:
        return None  # Kafka could not be asked
    large = [number for number, (_, lag_s) in enumerate(window) if lag_s >= RECOVERED_S]
    if not large:
        return 0.0
    if large[-1] == len(window) - 1:
        return None
    return max(0.0, window[large[-1] + 1][0] - over_s)


class Watch:
    """Samples positions from a thread, by a door of Kafka that no fault touches."""

    def __init__(self, bootstrap: str) -> None:
        self.samples: list[Sample] = []
        self.went_back: list[str] = []
        """Committed positions that were lower than before."""
        self._highest: dict[int, int] = {}
        self._bootstrap = bootstrap
        self._consumer = self._connect()
        self._partitions: list[int] = []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lag", daemon=True)
        self._thread.start()

    def _connect(self) -> Any:
        return Consumer(
            {
                "bootstrap.servers": self._bootstrap,
                "group.id": CONSUMER_GROUP,
                "enable.auto.commit": False,
                "reconnect.backoff.max.ms": 500,
                "log_level": 0,
                "error_cb": lambda error: None,
            }
        )

    def close(self) -> None:
        self._end.set()
        self._thread.join()
        self._consumer.close()

    def is_quiet(self) -> bool:
        """The latest look, and one that is recent, found nothing uncommitted."""
        samples = self.samples
        if not samples or time.monotonic() - samples[-1].at_s > 1.0:
            return False
        last = samples[-1]
        return bool(last.ends) and all(last.committed.get(at, 0) >= end for at, end in last.ends.items())

    def forget(self) -> None:
        """Begin anew with samples; what went back stays known."""
        self.samples = self.samples[-1:]

    def _run(self) -> None:
        while not self._end.wait(SAMPLE_S):
            try:
                self._look()
            except KafkaException:
                continue  # away; there is no sample of such a moment

    def _look(self) -> None:
        if not self._partitions:
            self._partitions = [*self._consumer.list_topics(TOUCHPOINTS, 1.0).topics[TOUCHPOINTS].partitions]
        asked = [TopicPartition(TOUCHPOINTS, partition) for partition in self._partitions]
        committed = {at.partition: max(at.offset, 0) for at in self._consumer.committed(asked, 1.0)}
        ends = {at.partition: self._consumer.get_watermark_offsets(at, 1.0)[1] for at in asked}
        for partition, offset in committed.items():
            before = self._highest.get(partition, 0)
            if offset < before:
                self.went_back.append(f"partition {partition}: committed {offset} after {before}")
            self._highest[partition] = max(before, offset)
        self.samples.append(Sample(time.monotonic(), ends, committed))
