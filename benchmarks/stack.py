"""The single-machine stack for a benchmark: in a temporary folder, on free ports, its parts started one by one."""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import psutil
from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from pydantic import SecretStr

from infra.clickhouse.client import ClickHouse, connect
from infra.clickhouse.settings import ClickHouseSettings
from infra.embedded.children import Child, ChildSpec
from infra.embedded.supervisor import Preparation
from infra.kafka.admin import KafkaAdmin
from infra.kafka.runtime import ensure_runtime
from infra.kafka.startup_cache import with_startup_cache
from schemas.topics import CONSUMER_GROUP, TOUCHPOINTS
from services.cli.parts import Ports, choose_ports, environment, run_dir, stack_parts
from services.cli.settings import StackSettings

POLL_S: Final = 0.05
MOST_WORKERS: Final = 4


class BenchmarkError(RuntimeError):
    """A benchmark cannot go on; what it measured so far is worth nothing."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process used between two moments; of several of a kind, the sum of their time and the largest peak."""

    cpu_s: float
    peak_rss_mib: float


class Part:
    """A running part of the stack."""

    def __init__(self, child: Child) -> None:
        self.child = child
        self.process = psutil.Process(child.pid)

    def cpu_s(self) -> float:
        """Processor seconds since its start."""
        times = self.process.cpu_times()
        return times.user + times.system

    def peak_rss_mib(self) -> float:
        """Most memory it ever held; the present one where the system does not tell."""
        status = Path(f"/proc/{self.child.pid}/status")
        if status.exists():
            for line in status.read_text().splitlines():
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) / 1024
        return self.process.memory_info().rss / (1 << 20)


class Stack:
    """Parts of a stack by name: kafka, clickhouse, scoring-1, ingest. Everything ends with the context."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="touchstone-bench-", dir=folder))
        # Nothing from the environment or a .env file: a benchmark is the same wherever it runs.
        self.settings = StackSettings(_env_file=None, data_dir=self.folder, scoring_workers=MOST_WORKERS)
        self.ports: Ports = choose_ports(self.settings, free=True)
        self._running: dict[str, Part] = {}
        self._parts = stack_parts(self.settings, self.ports)
        (self.folder / "logs").mkdir()
        run_dir(self.folder).mkdir()

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.ports.kafka}"

    @property
    def ingest_url(self) -> str:
        return f"http://127.0.0.1:{self.ports.ingest}"

    def environment(self) -> dict[str, str]:
        """Settings of the stack's processes."""
        return environment(self.settings, self.ports)

    def __enter__(self) -> Self:
        # Told to end, a benchmark still removes its folder.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        with_startup_cache(ensure_runtime(java_home=self.settings.java_home, cache_dir=self.settings.cache_dir))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in reversed([*self._running]):
            self.stop(name)
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self, *names: str) -> None:
        """Start children and run preparations, in the order given, each ready before the next."""
        for name in names:
            part = next(part for part in self._parts if part.name == name)
            if isinstance(part, Preparation):
                part.run()
            else:
                self.start_child(part)

    def spec(self, name: str) -> ChildSpec:
        """How a child of the stack is started."""
        return next(part for part in self._parts if isinstance(part, ChildSpec) and part.name == name)

    def start_child(self, spec: ChildSpec) -> Part:
        """Start a child and wait until it is ready."""
        child = Child(spec, self.folder / "logs" / f"{spec.name}.log")
        child.start()
        part = self._running[spec.name] = Part(child)
        self.wait(spec.ready, spec.ready_timeout_s, f"{spec.name} to be ready")
        return part

    def start_worker(
        self,
        module: str | None = None,
        arguments: tuple[str, ...] = (),
        settings: Mapping[str, str] | None = None,
        number: int = 1,
    ) -> Part:
        """Start a scoring worker, or another program in its place, with settings of its own."""
        spec = self.spec(f"scoring-{number}")
        if module is not None:
            spec = replace(spec, argv=(*spec.argv[:-1], module, *arguments))
        return self.start_child(replace(spec, env={**spec.env, **(settings or {})}))

    def part(self, name: str) -> Part:
        """A part that runs."""
        return self._running[name]

    def running(self) -> Mapping[str, Part]:
        """The parts that run, by name."""
        return dict(self._running)

    def stop(self, name: str) -> None:
        """End a part and wait for its end."""
        part = self._running.pop(name)
        part.child.stop(part.child.spec.stop_timeout_s)

    def stop_workers(self) -> None:
        """End every scoring worker that runs."""
        for name in [name for name in self._running if name.startswith("scoring-")]:
            self.stop(name)

    def wait(self, condition: Callable[[], bool], timeout_s: float, what: str) -> float:
        """Wait until something holds; returns when it did (monotonic seconds)."""
        deadline_s = time.monotonic() + timeout_s
        while not condition():
            self.require_alive()
            if time.monotonic() > deadline_s:
                raise BenchmarkError(f"waited {timeout_s:.0f} s in vain for {what}; logs: {self._tails()}")
            time.sleep(POLL_S)
        return time.monotonic()

    def require_alive(self) -> None:
        """BenchmarkError if a part has ended."""
        for name, part in self._running.items():
            if not part.child.is_running():
                raise BenchmarkError(f"{name} ended with code {part.child.exit_code()}:\n{part.child.log_tail()}")

    def _tails(self) -> str:
        return "\n".join(f"{name}:\n{part.child.log_tail()}" for name, part in self._running.items())

    @contextmanager
    def clickhouse(self) -> Iterator[ClickHouse]:
        """A client of the stack's tables, as their owner."""
        where = ClickHouseSettings(
            port=self.ports.clickhouse,
            http_port=self.ports.clickhouse_http,
            user=self.settings.clickhouse_user,
            password=SecretStr(self.settings.credentials(create=True).owner),
            timeout_s=600,
        )
        with connect(where) as client:
            yield client

    def fresh_tables(self) -> None:
        """A ClickHouse without data, migrated."""
        if "clickhouse" in self._running:
            self.stop("clickhouse")
        shutil.rmtree(self.folder / "clickhouse", ignore_errors=True)
        self.start("clickhouse", "migrations")

    def forget_positions(self) -> None:
        """The consumer group starts at the beginning of the log again."""
        admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 4})

        def forgotten() -> bool:
            try:
                admin.delete_consumer_groups([CONSUMER_GROUP])[CONSUMER_GROUP].result(10)
            except KafkaException as error:
                # A fresh broker has no group yet, or is still looking for it.
                if error.args[0].name() in ("COORDINATOR_NOT_AVAILABLE", "COORDINATOR_LOAD_IN_PROGRESS"):
                    return False
                if error.args[0].name() not in ("GROUP_ID_NOT_FOUND", "NOT_COORDINATOR"):
                    raise
            return True

        self.wait(forgotten, 30.0, "Kafka to forget the group's positions")

    def end_offsets(self, topic: str = TOUCHPOINTS) -> Mapping[int, int]:
        """Where each partition of a topic ends."""
        with KafkaAdmin(self.bootstrap) as admin:
            return admin.end_offsets(topic)

    def measure_drain(self, workers: Sequence[Part], timeout_s: float) -> Drain:
        """Watch workers that were just started until their group has committed all that the log holds now."""
        ends = self.end_offsets()
        watched = {name: [part] for name, part in self._running.items() if name in ("kafka", "clickhouse")}
        watched["worker"] = list(workers)
        with KafkaAdmin(self.bootstrap) as admin:

            def joined() -> bool:
                group = admin.group_state(CONSUMER_GROUP)
                return group.state.upper() == "STABLE" and group.members == len(workers)

            started_s = self.wait(joined, timeout_s, "the workers to join")
        before = {name: sum(part.cpu_s() for part in parts) for name, parts in watched.items()}
        with closing(Uncommitted(self.bootstrap, ends)) as uncommitted:
            # One worker has just joined; of several the first has been at work while the others started.
            events = uncommitted.before(ends) if len(workers) > 1 else sum(ends.values())
            ended_s = self.wait(
                lambda: not uncommitted.before(ends), timeout_s, "the workers to commit the end of the log"
            )
        used = {
            name: Usage(sum(part.cpu_s() for part in parts) - before[name], max(part.peak_rss_mib() for part in parts))
            for name, parts in watched.items()
        }
        return Drain(events, ended_s - started_s, used)


class Uncommitted:
    """Counts records that the workers' group has not committed; what a member had in work when another joined is read
    again. A consumer that never joins: `close` it."""

    def __init__(self, bootstrap: str, partitions: Iterable[int]) -> None:
        self._consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": CONSUMER_GROUP})
        self._asked = [TopicPartition(TOUCHPOINTS, partition) for partition in partitions]

    def before(self, ends: Mapping[int, int]) -> int:
        """Records below these offsets, by partition."""
        committed = self._consumer.committed(self._asked, 10)
        return sum(max(0, ends[at.partition] - max(at.offset, 0)) for at in committed)

    def close(self) -> None:
        """Leave Kafka."""
        self._consumer.close()


@dataclass(frozen=True, slots=True)
class Drain:
    """How a worker went through a log that was there before it: from having joined its group to the last commit."""

    events: int
    seconds: float
    used: Mapping[str, Usage]
    """By process: worker, kafka, clickhouse."""

    @property
    def events_per_s(self) -> float:
        return self.events / self.seconds

    def cpu_us_per_event(self, name: str) -> float:
        """Processor time of one process for each event, microseconds."""
        return 1e6 * self.used[name].cpu_s / self.events
