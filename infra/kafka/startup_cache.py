"""Kafka's classes, parsed and linked once: a start then takes a third of the time and of the processor.

Java 25 can write what a program loaded into a file (JEP 483, 514) and map it at the next start. The file
fits one Java and one set of jars, so its name carries both; a JVM that finds it unfit ignores it. Purely an
optimisation: when it cannot be made, Kafka starts without.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from infra.kafka.admin import KafkaAdmin
from infra.kafka.errors import KafkaInfraError
from infra.kafka.node import KafkaNode
from infra.kafka.runtime import KafkaRuntime, Say, say_on_stderr, startup_cache_path

# The JVM writes the file while it ends: 10 to 15 s on two cores, more when they are busy.
WRITE_TIMEOUT_S = 120.0


def with_startup_cache(runtime: KafkaRuntime, say: Say = say_on_stderr) -> KafkaRuntime:
    """The runtime with its start-up file, which is made first when there is none (once, about 20 s).

    Safe to call from several processes at once: one makes it, the others wait. Never raises for a file that
    cannot be made; it says so and returns the runtime as it was.
    """
    path = startup_cache_path(runtime)
    if path is None:
        return runtime
    if not path.is_file():
        try:
            with _only_one(path.with_suffix(".lock")):
                if not path.is_file():
                    say("Kafka: preparing fast starts, once (about 20 s)")
                    _train(runtime, path)
        except (OSError, KafkaInfraError, subprocess.TimeoutExpired) as error:
            say(f"Kafka: fast starts could not be prepared, it starts without: {error}")
            return runtime
    return replace(runtime, startup_cache=path)


@contextmanager
def _only_one(lock_path: Path) -> Iterator[None]:
    with lock_path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _train(runtime: KafkaRuntime, path: Path) -> None:
    """Run a broker through what every start does, and have the JVM write down what it loaded."""
    handle, name = tempfile.mkstemp(prefix=".startup-", suffix=".aot", dir=path.parent)
    os.close(handle)
    partial = Path(name)
    partial.unlink()  # the JVM takes an existing file for one to read
    try:
        node = KafkaNode(runtime=runtime, flags=[f"-XX:AOTCacheOutput={partial}"])
        try:
            node.start()
            with KafkaAdmin(node.bootstrap) as admin:
                admin.ensure_topics([_TrainingTopic()])
                admin.group_lag("training", _TrainingTopic.name)
        finally:
            node.stop(timeout_s=WRITE_TIMEOUT_S)
        if not partial.is_file():
            raise KafkaInfraError("the Java runtime wrote no start-up file")
        partial.replace(path)
    finally:
        for left in path.parent.glob(partial.name + "*"):
            left.unlink(missing_ok=True)


class _TrainingTopic:
    name = "training"
    partitions = 1
    config: ClassVar[dict[str, str]] = {"retention.ms": "-1"}
