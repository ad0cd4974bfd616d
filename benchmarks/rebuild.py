"""History: how fast a file comes in by `touchstone import`, and how fast the whole log is scored anew."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Final

import orjson

from benchmarks.log import LogSpec, kept
from benchmarks.scoring import Result, loaded, whole_path
from benchmarks.stack import BenchmarkError, Stack
from services.simulator import SimulationConfig, simulate

HISTORY_DAYS: Final = 180.0
MAPPING: Final = Path(__file__).parents[1] / "docs" / "mappings" / "events.toml"
FILE_CUSTOMERS: Final = 1_000


def write_file(path: Path, events: int, now_us: int) -> None:
    """NDJSON as `touchstone simulate --out` writes it; simulated customers under several names."""
    simulated = simulate(SimulationConfig(FILE_CUSTOMERS, now_us)).events
    with path.open("wb") as file:
        for number, event in enumerate(itertools.islice(itertools.cycle(simulated), events)):
            round_number = number // len(simulated)
            file.write(
                orjson.dumps(
                    event
                    | {
                        "event_id": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{round_number}{event['event_id']}")),
                        "customer_id": f"{event['customer_id']}-{round_number}",
                    },
                    option=orjson.OPT_APPEND_NEWLINE,
                )
            )


def import_events(stack: Stack, path: Path, events: int) -> float:
    """Rows per second of the import, by its own clock: reading, judging, encoding, and Kafka's acknowledgement."""
    run = subprocess.run(
        [sys.executable, "-m", "services.cli.main", "import", str(path), "--mapping", str(MAPPING), "--json"],
        env={**os.environ, **stack.environment()},
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode:
        raise BenchmarkError(f"the import ended with code {run.returncode}:\n{run.stderr[-1000:]}")
    counts = json.loads(run.stdout)
    if counts["accepted"] != events:
        raise BenchmarkError(f"the import took {counts['accepted']:,} of {events:,} events")
    return float(counts["accepted"] / counts["seconds"])


def measure_import(stack: Stack, events: int) -> float:
    """Write a file and import it once; the stack's Kafka must run."""
    path = stack.folder / "events.ndjson"
    write_file(path, events, time.time_ns() // 1000)
    return import_events(stack, path, events)


def rebuild(folder: Path, events: int, customers: int, repeats: int) -> Result:
    """Score a log of imported history from its beginning, into empty tables, by a group without a position.

    Nothing of it is live, so nothing is judged on the way.
    """
    spec = LogSpec(events, customers, rate_per_s=50_000, history_days=HISTORY_DAYS)
    with loaded(kept(spec, folder, time.time_ns() // 1000)) as stack:
        return whole_path(stack, repeats, "rebuild")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rebuild", description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--file-events", type=int, default=200_000)
    parser.add_argument("--customers", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--data", type=Path, default=Path(".touchstone/bench"))
    options = parser.parse_args()
    with Stack() as stack:
        stack.start("kafka", "topics")
        print(f"import   {measure_import(stack, options.file_events):12,.0f} events/s", flush=True)
    print(rebuild(options.data, options.events, options.customers, options.repeats).line())


if __name__ == "__main__":
    main()
