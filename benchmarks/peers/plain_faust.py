"""Plain Faust: an agent with a Table, event by event, as its documentation shows."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import faust

sys.path.insert(0, str(Path(__file__).parents[2]))
from benchmarks.peers.fold_state import NEW, TOPIC, Meter, arguments, decode, fold

options = arguments()
meter = Meter(options.events)
app = faust.App(
    "peer-plain-faust",
    broker=f"kafka://{options.bootstrap}",
    store="memory://",
    key_serializer="raw",
    value_serializer="raw",
    topic_partitions=4,
    web_enabled=False,
)
topic = app.topic(TOPIC)
sums = app.Table("sums", key_type=str, value_type=list, partitions=4, default=lambda: NEW)


@app.agent(topic)
async def score(stream: faust.StreamT[bytes]) -> None:
    async for value in stream:
        customer, at_us, valence = decode(value)
        sums[customer] = fold(sums[customer], at_us, valence)
        if meter.add():
            os._exit(0)


if __name__ == "__main__":
    faust.Worker(app, loglevel="WARNING", quiet=True, redirect_stdouts=False).execute_from_commandline()
