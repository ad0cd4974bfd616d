"""Quix Streams: a streaming data frame with state (RocksDB, no changelog)."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from quixstreams import Application, State

sys.path.insert(0, str(Path(__file__).parents[2]))
from benchmarks.peers.fold_state import NEW, TOPIC, Meter, arguments, decode, fold

options = arguments()
meter = Meter(options.events)
app = Application(
    broker_address=options.bootstrap,
    consumer_group="peer-quix",
    auto_offset_reset="earliest",
    state_dir=tempfile.mkdtemp(dir=Path.cwd()),
    use_changelog_topics=False,
    loglevel="WARNING",
    consumer_extra_config={"fetch.queue.backoff.ms": 5},
)


def score(value: bytes, state: State) -> Any:
    _, at_us, valence = decode(value)
    known = state.get("sums", None)
    state.set("sums", fold(tuple(known) if known else NEW, at_us, valence))
    if meter.add():
        os._exit(0)
    return None


frame = app.dataframe(app.topic(TOPIC, key_deserializer="str", value_deserializer="bytes"))
frame = frame.apply(score, stateful=True)
app.run()
