"""The same fold in other engines: ``make bench-peers``. Each in an environment of its own, made on the spot.

All read the same topic on the same broker and fold each Avro record into two decaying sums per customer, in memory.
They measure themselves, from the first event to the last, without start, writes or the last commit. An engine that
cannot be installed here is skipped, and why is said.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from benchmarks.log import LogSpec, kept
from benchmarks.peers.fold_state import SCHEMA_FILE
from benchmarks.peers.run import FOLDER, PeerError, measure
from benchmarks.scoring import TIMEOUT_S, in_memory, loaded

DATA_DIR: Final = Path(os.environ.get("TOUCHSTONE_DATA_DIR", ".touchstone"))
INSTALL_TIMEOUT_S: Final = 900.0
PYTHON_PEERS: Final = {
    "plain Faust": ("plain_faust.py", "faust-streaming==0.15.3", "fastavro"),
    "arroyo": ("arroyo_fold.py", "sentry-arroyo", "fastavro"),
    "Quix Streams": ("quix_fold.py", "quixstreams", "fastavro"),
    "Pathway": ("pathway_fold.py", "pathway", "fastavro"),
}
"""Script and requirements; wheels alone, so that nothing has to be compiled."""
SLOW: Final = {"plain Faust": 100_000}
"""Events of those that would take minutes for all of them."""
JAVA: Final = "Kafka Streams"


def python_command(name: str, folder: Path) -> list[str]:
    """Make the peer's virtual environment, if it is not there; returns how to start it."""
    script, *requirements = PYTHON_PEERS[name]
    environment = folder / name.lower().replace(" ", "-")
    python = environment / "bin" / "python"
    done = environment / ".installed"
    if not done.exists():
        _install([sys.executable, "-m", "venv", "--clear", str(environment)])
        _install([str(python), "-m", "pip", "install", "--quiet", "--only-binary", ":all:", *requirements])
        done.touch()
    return [str(python), str(FOLDER / script)]


def java_command(folder: Path) -> list[str]:
    """Build the Java peer with Maven; returns how to start it."""
    for tool in ("mvn", "java"):
        if shutil.which(tool) is None:
            raise PeerError(f"{tool} is not on this machine")
    project = folder / "kafka-streams"
    shutil.copytree(FOLDER / "kafka_streams", project, dirs_exist_ok=True)
    _install(["mvn", "-q", "-B", "-f", str(project / "pom.xml"), "package"])
    target = project / "target"
    [jar] = target.glob("*.jar")
    class_path = f"{jar.absolute()}:{(target / 'dependency').absolute()}/*"
    return [
        "java",
        "-Xmx1g",
        "-cp",
        class_path,
        "Fold",
        str(SCHEMA_FILE),
    ]


def _install(command: list[str]) -> None:
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise PeerError(f"{command[0]} was not done after {INSTALL_TIMEOUT_S:.0f} s") from error
    if run.returncode:
        raise PeerError(f"{' '.join(command[:3])} failed: {(run.stdout + run.stderr).strip()[:400]}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    known = (*PYTHON_PEERS, JAVA)
    parser.add_argument("peers", nargs="*", metavar="PEER", help=f"of {', '.join(known)}; default all")
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    unknown = set(options.peers) - set(known)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    folder = (DATA_DIR / "bench" / "peers").absolute()
    folder.mkdir(parents=True, exist_ok=True)
    log = kept(LogSpec(options.events), DATA_DIR / "bench", time.time_ns() // 1000)
    rates: dict[str, float] = {}
    for name in options.peers or known:
        make: Callable[[], list[str]] = (
            (lambda: java_command(folder)) if name == JAVA else (lambda name=name: python_command(name, folder))  # type: ignore[misc]
        )
        try:
            command = make()
            runs = []
            for _ in range(options.repeats):
                # A broker for each run: no group of another run, no warmer cache than the others had.
                with loaded(log) as stack:
                    events = min(options.events, SLOW.get(name, options.events))
                    runs.append(measure(command, stack.bootstrap, events, TIMEOUT_S, stack.folder))
        except PeerError as error:
            print(f"{name:24s} skipped: {error}", flush=True)
            continue
        rates[name] = statistics.median(runs)
        print(f"{name:24s} {rates[name]:12,.0f} events/s", flush=True)
    with loaded(log) as stack:
        own = in_memory(stack, options.repeats, "Touchstone")
    rates["Touchstone, no writes"] = own.events_per_s
    print(f"{'Touchstone, no writes':24s} {own.events_per_s:12,.0f} events/s")
    (DATA_DIR / "bench-peers.json").write_text(json.dumps(rates, indent=1) + "\n")


if __name__ == "__main__":
    main()
