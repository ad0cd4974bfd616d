"""The fold that every peer does: per customer two sums that halve every 90 days, from one Avro record each.

It stands alone, as peers run in environments of their own: fastavro and the standard library, nothing of ours.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import time
from pathlib import Path
from typing import Any

import fastavro

SCHEMA_FILE = Path(__file__).parents[2] / "schemas" / "avro" / "touchpoint.v1.avsc"
HEADER_BYTES = 10
HALF_LIFE_US = 90 * 86_400 * 1_000_000
VALENCE = {"succeeded": 0.4, "failed": -0.8, "abandoned": -0.5}
TOPIC = "touchpoints"

# Times as plain integers: a datetime for each event would cost more than the rest.
_SCHEMA = json.loads(SCHEMA_FILE.read_text())
for _field in _SCHEMA["fields"]:
    if isinstance(_field["type"], dict):
        _field["type"].pop("logicalType", None)
SCHEMA = fastavro.parse_schema(_SCHEMA)

State = tuple[int, float, float]
NEW: State = (0, 0.0, 0.0)


def decode(value: bytes) -> tuple[str, int, float]:
    """Customer, time and valence of a record."""
    event: Any = fastavro.schemaless_reader(io.BytesIO(value[HEADER_BYTES:]), SCHEMA, None)
    return event["customer_id"], event["occurred_at"], VALENCE.get(event["outcome"], 0.0)


def fold(state: State, at_us: int, valence: float) -> State:
    """Latest time and both sums as of it, one event later."""
    reference, weight, weighted = state
    latest = max(reference, at_us)
    fade, share = 2.0 ** ((reference - latest) / HALF_LIFE_US), 2.0 ** ((at_us - latest) / HALF_LIFE_US)
    return latest, weight * fade + share, weighted * fade + valence * share


class Meter:
    """Counts events and says how long they took, from the first to the last of ``expected``."""

    def __init__(self, expected: int) -> None:
        self.expected = expected
        self.seen = 0
        self._started_s = 0.0

    def add(self, events: int = 1) -> bool:
        """Count; true when all have been seen, and then the result is printed."""
        if not self.seen:
            self._started_s = time.perf_counter()
        self.seen += events
        if self.seen < self.expected:
            return False
        print(json.dumps({"events": self.seen, "seconds": time.perf_counter() - self._started_s}), flush=True)
        return True


def arguments() -> argparse.Namespace:
    """``--bootstrap`` and ``--events``."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--events", type=int, required=True)
    return parser.parse_args(sys.argv[1:])
