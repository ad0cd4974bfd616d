"""Kafka, ClickHouse and scoring workers as processes that a test may stop, kill and continue."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from confluent_kafka import Consumer, TopicPartition

from infra.clickhouse.client import ClickHouse, connect
from infra.clickhouse.migrate import SqlFile, migrate
from infra.clickhouse.settings import ClickHouseSettings
from infra.embedded.launch import launch_command
from infra.embedded.ports import free_port
from infra.embedded.probes import http_ok
from infra.kafka.admin import KafkaAdmin
from infra.kafka.node import KafkaNode
from infra.kafka.runtime import KafkaRuntime
from schemas.topics import CONSUMER_GROUP, TOPICS, TOUCHPOINTS

ROOT: Final = Path(__file__).parents[3]
DEADLINE_S: Final = 60.0
NO_REVIEWS: Final = {"TOUCHSTONE_SCORING_REVIEW_INTERVAL_S": "3600"}
"""For tests in which nothing but the test may append to the log."""


class Part:
    """One process of ours and its log file; it ends with the test session whatever happens."""

    def __init__(self, name: str, argv: Sequence[str], folder: Path, env: dict[str, str]) -> None:
        self.name = name
        self.log_path = folder / f"{name}.log"
        clean = {key: value for key, value in os.environ.items() if not key.startswith("TOUCHSTONE_")}
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                launch_command([*argv], parent_pid=os.getpid(), on_parent_death=signal.SIGKILL),
                cwd=folder,
                env={**clean, "PYTHONPATH": str(ROOT), **env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        """kill -9, also of a process that is stopped."""
        self.process.kill()
        self.process.wait()

    def end(self) -> int:
        """SIGTERM; returns the exit code."""
        self.send(signal.SIGTERM)
        return self.exit_code()

    def exit_code(self) -> int:
        """Wait for the end."""
        try:
            return self.process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def tail(self) -> str:
        return f"--- {self.name} ({self.process.poll()})\n{self.log_path.read_text(errors='replace')[-3000:]}"


@dataclass
class Machine:
    """All parts of one machine; the log grows from test to test, customers belong to one test each."""

    folder: Path
    kafka: KafkaNode
    ports: tuple[int, int]
    """ClickHouse's, native and HTTP; kept over restarts."""

    def __post_init__(self) -> None:
        self.tables_server: Part | None = None
        self.workers: list[Part] = []
        self._started = 0

    @property
    def bootstrap(self) -> str:
        return self.kafka.bootstrap

    def client(self) -> ClickHouse:
        return connect(ClickHouseSettings(port=self.ports[0], http_port=self.ports[1], retry_s=0, timeout_s=30))

    def start_tables(self) -> None:
        """Start the ClickHouse server on its data and wait until it answers."""
        native, http = map(str, self.ports)
        module = (sys.executable, "-m", "infra.embedded.clickhouse.main", "--data", str(self.folder / "tables"))
        self.tables_server = Part(
            "clickhouse", (*module, "--native-port", native, "--http-port", http), self.folder, {}
        )
        self.until(lambda: http_ok("127.0.0.1", self.ports[1], "/ping"), "ClickHouse answers")

    def environment(self) -> dict[str, str]:
        return {
            "TOUCHSTONE_KAFKA_BOOTSTRAP": self.bootstrap,
            "TOUCHSTONE_CLICKHOUSE_PORT": str(self.ports[0]),
            "TOUCHSTONE_CLICKHOUSE_HTTP_PORT": str(self.ports[1]),
            "TOUCHSTONE_DATA_DIR": str(self.folder),
        }

    def start_worker(self, **settings: str) -> Part:
        """Start one more scoring worker; it joins its group in its own time."""
        self._started += 1
        name = f"worker-{self._started}"
        worker = Part(
            name, (sys.executable, "-m", "services.scoring.main"), self.folder, {**self.environment(), **settings}
        )
        self.workers.append(worker)
        return worker

    def start_crash_worker(self, effect: str, report: int, **settings: str) -> Part:
        """Start a worker that kills itself after an effect, see `crash_worker`, from where the group stands.

        It is none of ``workers``, nor a member of their group.
        """
        self._started += 1
        group = f"crash-{self._started}"
        standing = [TopicPartition(TOUCHPOINTS, at, committed) for at, (committed, _) in self.positions().items()]
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": group})
        try:
            consumer.commit(offsets=standing, asynchronous=False)
        finally:
            consumer.close()
        module = (sys.executable, "-m", "tests.e2e.scoring.crash_worker", effect, str(report), group)
        return Part(f"crash-worker-{self._started}", module, self.folder, {**self.environment(), **settings})

    def kill_worker(self, worker: Part) -> None:
        worker.kill()
        self.workers.remove(worker)

    def end_workers(self) -> None:
        """Let all workers end by themselves; each must call that a success."""
        ending, self.workers = self.workers, []
        for worker in ending:
            worker.send(signal.SIGTERM)
        codes = [worker.exit_code() for worker in ending]
        assert not any(codes), "\n".join(worker.tail() for worker in ending)

    def until(self, condition: Callable[[], bool], what: str, timeout_s: float = DEADLINE_S) -> None:
        """Wait until something holds. No worker may die meanwhile."""
        started_s = time.monotonic()
        deadline_s = started_s + timeout_s
        while not condition():
            dead = [worker for worker in self.workers if not worker.alive]
            late = time.monotonic() > deadline_s
            assert not dead, f"while waiting until {what}\n" + "\n".join(worker.tail() for worker in dead)
            assert not late, f"not within {timeout_s:.0f} s: {what}\n" + "\n".join(w.tail() for w in self.workers)
            time.sleep(0.02)
        print(f"{time.monotonic() - started_s:6.2f} s until {what}")

    def members(self) -> int:
        """Workers in the group, while it is at rest; 0 during a rebalance."""
        with KafkaAdmin(self.bootstrap) as admin:
            state = admin.group_state(CONSUMER_GROUP)
        return state.members if state.state == "STABLE" else 0

    def positions(self) -> dict[int, tuple[int, int]]:
        """Committed offset and end of each partition of the log."""
        with KafkaAdmin(self.bootstrap) as admin:
            return {at.partition: (at.committed or 0, at.end) for at in admin.group_lag(CONSUMER_GROUP, TOUCHPOINTS)}

    def committed(self) -> int:
        """Records of the log that are done with."""
        return sum(committed for committed, _ in self.positions().values())

    def settle(self) -> None:
        """Wait until everything is committed and let all workers end, whatever their timers appended meanwhile."""
        self.until_quiet()
        self.end_workers()
        if not self._is_quiet():
            self.start_worker(**NO_REVIEWS)
            self.until_quiet()
            self.end_workers()

    def _is_quiet(self) -> bool:
        return all(committed == end for committed, end in self.positions().values())

    def until_quiet(self, timeout_s: float = DEADLINE_S) -> None:
        """Wait until everything in the log is committed."""
        self.until(self._is_quiet, "everything in the log is committed", timeout_s)


@contextmanager
def machine(runtime: KafkaRuntime, folder: Path, files: Sequence[SqlFile] | None = None) -> Iterator[Machine]:
    """A fresh machine with topics and tables, no workers. ``files``: other migrations and views than those of now."""
    native = free_port()
    made: Machine | None = None
    with KafkaNode(runtime=runtime, heap_mib=256) as kafka:
        made = Machine(folder, kafka, (native, free_port(avoid=frozenset({native, kafka.port}))))
        try:
            made.start_tables()
            with made.client() as client:
                migrate(client, files)
            with KafkaAdmin(made.bootstrap) as admin:
                # Signals of a simulated half year are older than that topic keeps them.
                admin.ensure_topics(replace(topic, config={**topic.config, "retention.ms": "-1"}) for topic in TOPICS)
            yield made
        finally:
            for part in [*made.workers, *([made.tables_server] if made.tables_server else [])]:
                part.kill()
