"""How soon the scores show an event: from before its POST to the moment when `customer_scores` has it.

Events come over HTTP at a steady rate, in small batches from a few senders. Some of the batches carry a probe, the
first event of a customer that nobody has heard of; the view is asked for those that are still missing, again and again.
"""

from __future__ import annotations

import argparse
import http.client
import threading
import time
import uuid
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import cycle
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson

from benchmarks.log import Log, LogSpec, customer_id, kept
from benchmarks.scoring import TIMEOUT_S, loaded
from benchmarks.stack import BenchmarkError, Stack
from schemas.tables import DATABASE
from services.simulator import SimulationConfig, simulate

SENDERS: Final = 4
POLL_S: Final = 0.1
"""Pause between two looks: part of the result, so that looking does not become the load."""
PATIENCE_S: Final = 30.0
WARM_S: Final = 20.0
"""The same load before it counts: the broker's machine code is made, parts of the tables are merged."""


@dataclass(frozen=True, slots=True)
class Load:
    """What is sent."""

    rate_per_s: float = 5_000.0
    batch_events: int = 50
    seconds: float = 20.0
    customers: int = 100_000
    probes_per_s: float = 10.0
    probe: str = "probe"
    """What the names of the probes begin with; of each load its own, as they must be nobody yet."""


@dataclass(slots=True)
class Board:
    """What was sent so far, and the probes under way; senders write, the observer reads."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    accepted: int = 0
    """Events."""
    took_s: list[tuple[float, float]] = field(default_factory=list)
    """When each request was sent (monotonic) and how long its answer took, seconds."""
    sent_s: dict[str, float] = field(default_factory=dict)
    acknowledged_s: dict[str, float] = field(default_factory=dict)
    late_s: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Freshness:
    """Milliseconds of each probe, and the rate that was really reached."""

    seen_ms: list[float]
    acknowledged_ms: list[float]
    events_per_s: float

    def percentile(self, share: float) -> float:
        """Of `seen_ms`."""
        return float(np.percentile(self.seen_ms, share))


def measure(stack: Stack, load: Load) -> Freshness:
    """Send for a while and watch. The stack's ingest, scoring and ClickHouse must run."""
    board = Board()
    senders = start_senders(stack, load, board)
    seen: dict[str, float] = {}
    end_s = time.monotonic() + load.seconds + PATIENCE_S
    with stack.clickhouse() as client:
        while any(sender.is_alive() for sender in senders) or len(seen) < len(board.sent_s):
            stack.require_alive()
            if board.errors or time.monotonic() > end_s:
                raise BenchmarkError(board.errors[0] if board.errors else "some events were never seen in the scores")
            with board.lock:
                missing = [name for name in board.sent_s if name not in seen]
            if missing:
                rows = client.query(
                    f"SELECT customer_id FROM {DATABASE}.customer_scores WHERE customer_id IN %(names)s",
                    # Beside one that is there: the embedded server plans a query without rows twice.
                    {"names": [*missing, customer_id(0)]},
                )
                now_s = time.monotonic()
                seen |= {name: now_s for (name,) in rows if name in board.sent_s}
            time.sleep(POLL_S)
    late_s = max(board.late_s)
    return Freshness(
        [1000 * (at_s - board.sent_s[name]) for name, at_s in seen.items()],
        [1000 * (at_s - board.sent_s[name]) for name, at_s in board.acknowledged_s.items()],
        load.rate_per_s * load.seconds / (load.seconds + late_s),
    )


def start_senders(stack: Stack, load: Load, board: Board) -> list[threading.Thread]:
    """Start sending to the stack's ingest; the threads end with the load, or with an error on the board."""
    templates = simulate(SimulationConfig(200, time.time_ns() // 1000)).events
    begin_s = time.monotonic() + 0.2
    senders = [
        threading.Thread(target=_send, args=(stack.ports.ingest, load, number, begin_s, templates, board), daemon=True)
        for number in range(SENDERS)
    ]
    for sender in senders:
        sender.start()
    return senders


def on_fresh_stack(log: Log, load: Load) -> Freshness:
    """Score the log first, so that the tables are no empty ones, then measure."""
    with loaded(log) as stack:
        stack.fresh_tables()
        stack.measure_drain([stack.start_worker()], TIMEOUT_S)
        stack.start("ingest")
        measure(stack, replace(load, seconds=WARM_S, probe="warm"))
        return measure(stack, load)


def _send(port: int, load: Load, number: int, begin_s: float, templates: list[dict[str, Any]], board: Board) -> None:
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
        bodies = _Bodies(load, number, templates)
        step_s = load.batch_events / load.rate_per_s
        turns = range(number, int(load.seconds / step_s), SENDERS)
        # A probe in each of so many batches.
        every = max(1, round(load.rate_per_s / load.batch_events / load.probes_per_s))
        for turn in turns:
            probe = f"{load.probe}-{turn:06d}" if turn % every == 0 else None
            body = bodies.make(probe)
            due_s = begin_s + turn * step_s
            time.sleep(max(0.0, due_s - time.monotonic()))
            started_s = time.monotonic()
            if probe is not None:
                with board.lock:
                    board.sent_s[probe] = started_s
            connection.request("POST", "/v1/events", body, {"content-type": "application/json"})
            answer = connection.getresponse()
            text = answer.read()
            if answer.status != http.client.ACCEPTED or b'"drop"' in text:
                raise BenchmarkError(f"ingest answered {answer.status}: {text[:300].decode(errors='replace')}")
            ended_s = time.monotonic()
            if probe is not None:
                board.acknowledged_s[probe] = ended_s
            board.late_s.append(started_s - due_s)
            with board.lock:
                board.accepted += load.batch_events
                board.took_s.append((started_s, ended_s - started_s))
        connection.close()
    except Exception as error:  # a thread's end has nobody to tell
        board.errors.append(f"{type(error).__name__}: {error}")


class _Bodies:
    """Makes the bodies of one sender: simulated events of random customers that happen now."""

    def __init__(self, load: Load, number: int, templates: list[dict[str, Any]]) -> None:
        self._load = load
        self._rng = np.random.default_rng(number)
        self._templates = cycle(templates[number::SENDERS])

    def make(self, probe: str | None) -> bytes:
        now = datetime.now(UTC).isoformat()
        numbers = self._rng.integers(0, self._load.customers, self._load.batch_events).tolist()
        events = [
            {**template, "event_id": str(uuid.uuid4()), "occurred_at": now, "customer_id": customer_id(number)}
            for number, template in zip(numbers, self._templates, strict=False)
        ]
        if probe is not None:
            events[len(events) // 2]["customer_id"] = probe
        return orjson.dumps(events)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.freshness", description=__doc__)
    parser.add_argument("--rate", type=float, default=5_000.0)
    parser.add_argument("--batch", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--history", type=int, default=200_000, help="events that are in the tables before")
    parser.add_argument("--data", type=Path, default=Path(".touchstone/bench"))
    options = parser.parse_args()
    log = kept(LogSpec(options.history), options.data, time.time_ns() // 1000)
    result = on_fresh_stack(log, Load(options.rate, options.batch, options.seconds))
    for name, values in (("acknowledged", result.acknowledged_ms), ("seen in customer_scores", result.seen_ms)):
        shown = ", ".join(f"p{share} {np.percentile(values, share):,.0f} ms" for share in (50, 90, 99, 100))
        print(f"{name:26s} {shown}  ({len(values)} probes)")
    print(f"reached {result.events_per_s:,.0f} events/s")


if __name__ == "__main__":
    main()
