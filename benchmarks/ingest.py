"""Throughput and latency of the ingest process before a real Kafka, beside a plain FastAPI handler.

``python -m benchmarks.ingest [--seconds S] [--repeats N] [--json]``. Broker, edge and load share the machine; the load
comes from a process of its own. Medians of the repeats.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import psutil

from infra.embedded.ports import free_port
from infra.kafka.admin import KafkaAdmin
from infra.kafka.node import KafkaNode
from schemas.topics import TOPICS

BATCH_EVENTS: Final = 500
BATCH_CONNECTIONS: Final = 8
SINGLE_CONNECTIONS: Final = 64
PLAIN_BATCH_EVENTS: Final = 50
START_TIMEOUT_S: Final = 60


@contextmanager
def _server(arguments: list[str], port: int, environment: dict[str, str]) -> Iterator[psutil.Process]:
    process = subprocess.Popen(
        [sys.executable, "-m", *arguments], env=os.environ | environment, stdout=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not _answers(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{arguments[0]} did not start")
            time.sleep(0.1)
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(60)


def _answers(port: int) -> bool:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/openapi.json", timeout=1).close()
    except (urllib.error.URLError, TimeoutError):
        return False
    return True


def _load(port: int, **options: float) -> dict[str, Any]:
    arguments = [f"--{name}={value}" for name, value in options.items()]
    output = subprocess.run(
        [sys.executable, "-m", "benchmarks.ingest_load", f"--port={port}", *arguments],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    figures: dict[str, Any] = json.loads(output)
    if figures["failed"]:
        raise RuntimeError(f"requests failed: {figures['failed']}")
    return figures


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def run(*, seconds: float = 5.0, repeats: int = 3) -> dict[str, float]:
    """All figures by name; units are in the names."""
    runs: dict[str, list[float]] = {}

    def note(name: str, value: float) -> None:
        runs.setdefault(name, []).append(value)

    with KafkaNode() as node:
        with KafkaAdmin(node.bootstrap) as admin:
            admin.ensure_topics(TOPICS)
        port, plain_port = free_port(), free_port()
        settings = {"TOUCHSTONE_INGEST_PORT": str(port), "TOUCHSTONE_KAFKA_BOOTSTRAP": node.bootstrap}
        with _server(["services.ingest.main"], port, settings) as edge:
            batch = {"events": BATCH_EVENTS, "connections": BATCH_CONNECTIONS}
            single = {"events": 1, "bodies": 2_000, "connections": SINGLE_CONNECTIONS}
            _load(port, **batch, seconds=1)  # warms the broker's code up
            for _ in range(repeats):
                before_s = _cpu_s(edge)
                figures = _load(port, **batch, seconds=seconds)
                note("ingest_batch_events_per_s", figures["events_per_s"])
                note("ingest_batch_p99_ms", figures["p99_ms"])
                events = figures["events_per_s"] * seconds
                note("ingest_batch_cpu_us_per_event", (_cpu_s(edge) - before_s) / max(1, events) * 1e6)
                figures = _load(port, **single, seconds=seconds)
                note("ingest_single_requests_per_s", figures["requests_per_s"])
                half = _load(port, **single, seconds=seconds, rate=figures["requests_per_s"] / 2)
                note("ingest_single_p50_ms", half["p50_ms"])
                note("ingest_single_p99_ms", half["p99_ms"])
            note("ingest_rss_mib", edge.memory_info().rss / (1 << 20))
        with _server(["benchmarks.plain_fastapi", str(plain_port), node.bootstrap], plain_port, {}):
            for _ in range(repeats):
                figures = _load(plain_port, events=PLAIN_BATCH_EVENTS, connections=8, seconds=seconds)
                note("plain_fastapi_events_per_s", figures["events_per_s"])
    medians = {name: statistics.median(values) for name, values in runs.items()}
    medians["ingest_over_plain_fastapi_ratio"] = (
        medians["ingest_batch_events_per_s"] / medians["plain_fastapi_events_per_s"]
    )
    return {name: round(value, 2) for name, value in medians.items()}


def main() -> None:
    """Print the figures as a table, or as JSON."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="length of each run")
    parser.add_argument("--repeats", type=int, default=3, help="runs of which the median counts")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    figures = run(seconds=options.seconds, repeats=options.repeats)
    if options.json:
        sys.stdout.write(json.dumps(figures) + "\n")
    else:
        width = max(map(len, figures))
        sys.stdout.writelines(f"{name:<{width}}  {value:>12,.2f}\n" for name, value in figures.items())


if __name__ == "__main__":
    main()
