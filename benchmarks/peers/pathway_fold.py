"""Pathway: an incremental table grouped by customer, sums against a fixed time instead of the latest."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import pathway as pw

sys.path.insert(0, str(Path(__file__).parents[2]))
from benchmarks.peers.fold_state import HALF_LIFE_US, TOPIC, Meter, arguments, decode

options = arguments()
meter = Meter(options.events)
LANDMARK_US = time.time_ns() // 1000


class Folded(pw.Schema):
    customer: str
    weight: float
    weighted: float


@pw.udf
def read(value: bytes) -> tuple[str, float, float]:
    customer, at_us, valence = decode(value)
    weight = 2.0 ** ((at_us - LANDMARK_US) / HALF_LIFE_US)
    return customer, weight, valence * weight


records = pw.io.kafka.read(
    {"bootstrap.servers": options.bootstrap, "group.id": "peer-pathway", "auto.offset.reset": "earliest"},
    topic=TOPIC,
    format="raw",
    autocommit_duration_ms=500,
)
told = records.select(read=read(pw.this.data))
events = told.select(customer=pw.this.read[0], weight=pw.this.read[1], weighted=pw.this.read[2])
sums = events.groupby(pw.this.customer).reduce(
    pw.this.customer,
    events=pw.reducers.count(),
    weight=pw.reducers.sum(pw.this.weight),
    weighted=pw.reducers.sum(pw.this.weighted),
)
total = sums.reduce(events=pw.reducers.sum(pw.this.events))
seen = 0


def count(key: Any, row: dict[str, Any], time: int, is_addition: bool) -> None:
    """Called with the number of events so far whenever a set of them is through."""
    global seen
    if is_addition:
        new, seen = int(row["events"]) - seen, int(row["events"])
        if meter.add(new):
            os._exit(0)


pw.io.subscribe(total, on_change=count)
pw.run(monitoring_level=pw.MonitoringLevel.NONE)
