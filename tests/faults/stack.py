"""The real stack in child processes, with links between its parts, disks that fill and clocks that jump.

senders ──HTTP──▶ ingest ──[ingest-kafka]──▶ Kafka ──[worker-kafka]──▶ workers ──[worker-clickhouse]──▶ ClickHouse
   └───────────────── Kafka, by a door of its own ─────▲
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from pydantic import SecretStr

from infra.clickhouse.client import ClickHouse, connect
from infra.clickhouse.settings import ClickHouseSettings
from infra.embedded.children import ChildSpec
from infra.embedded.ports import free_port
from infra.embedded.supervisor import Preparation
from infra.kafka.admin import KafkaAdmin
from infra.kafka.runtime import ensure_runtime
from infra.kafka.startup_cache import with_startup_cache
from services.cli.parts import Ports, choose_ports, run_dir, stack_parts, topics
from services.cli.settings import StackSettings
from tests.e2e.checker import Expected
from tests.faults.clock import Clock
from tests.faults.disk import Disk
from tests.faults.keeper import Keeper
from tests.faults.lag import Watch
from tests.faults.plan import INGEST, INGEST_KAFKA, KAFKA, TABLES, VISITOR, WORKER, WORKER_KAFKA, WORKER_TABLES
from tests.faults.weather import Link, Links

ROOT: Final = Path(__file__).parents[2]
_POLL_S: Final = 0.05
_MOST_CUSTOMERS: Final = 20_000
_TABLES_HTTP: Final = "worker-clickhouse-http"
QUICKER: Final = {
    # Faults of seconds have to be as long as what waits for them.
    "TOUCHSTONE_CLICKHOUSE_TIMEOUT_S": "4",
    "TOUCHSTONE_CLICKHOUSE_CONNECT_TIMEOUT_S": "2",
    "TOUCHSTONE_INGEST_DELIVERY_TIMEOUT_S": "4",
    # Small sets, so that a fault finds many of them in every stage; reviews are part of the load.
    "TOUCHSTONE_SCORING_WRITE_INTERVAL_MS": "50",
    "TOUCHSTONE_SCORING_REVIEW_INTERVAL_S": "2",
}
"""Settings of the stack under test that are not the defaults."""


class Stack:
    """A running stack in a folder of its own on free ports. A context manager; faults are undone by `heal`."""

    def __init__(
        self,
        *,
        worker: Sequence[str] = ("-m", "services.scoring.main"),
        ingest: Sequence[str] = ("-m", "services.ingest.main"),
        seed: int = 0,
    ) -> None:
        """``worker``, ``ingest``: what Python runs in their place. ``seed``: of the delays on links."""
        self.folder = Path(tempfile.mkdtemp(prefix="touchstone-faults-"))
        self.settings = StackSettings(_env_file=None, data_dir=self.folder, scoring_workers=2, kafka_heap_mib=256)
        self.ports: Ports = choose_ports(self.settings, free=True)
        self.expected = Expected(seed, _MOST_CUSTOMERS)
        """What the log leads to; read on by each run's checks."""
        self.runs = 0
        self.refusals: dict[str, int] = {}
        """By the prefix of a run, what ingest refused in it: still to be found in the tables."""
        self._jumping: set[str] = set()
        self._programs = {INGEST: ingest, WORKER: worker, VISITOR: worker}
        self._held = ExitStack()
        chosen = set(self.ports.by_name().values())

        def port() -> int:
            chosen.add(found := free_port(avoid=frozenset(chosen)))
            return found

        doors = {WORKER_KAFKA: port(), INGEST_KAFKA: port()}
        behind = {**doors, WORKER_TABLES: self.ports.clickhouse, _TABLES_HTTP: self.ports.clickhouse_http}
        self.links = Links({name: Link(name, port(), to, seed) for name, to in behind.items()})
        self._doors = [f"{name.split('-')[0]}:{to}:{self.links[name].listen}" for name, to in doors.items()]
        self.clocks = {name: Clock(self.folder / f"{name}.clock") for name in (WORKER, INGEST)}
        self._parts = stack_parts(self.settings, self.ports)
        specs = [self._changed(part) for part in self._parts if isinstance(part, ChildSpec)]
        self._specs = {spec.name: spec for spec in specs}
        (self.folder / "logs").mkdir()
        run_dir(self.folder).mkdir()
        self.keeper = Keeper(specs, self.folder / "logs")
        self.disks = {
            KAFKA: Disk(self.folder / "kafka", lambda: self.keeper.pid(KAFKA)),
            TABLES: Disk(self.folder / "clickhouse", lambda: self.keeper.pid(TABLES)),
        }

    @property
    def bootstrap(self) -> str:
        """Kafka's own door."""
        return f"127.0.0.1:{self.ports.kafka}"

    @property
    def log_dir(self) -> Path:
        return self.folder / "logs"

    def _changed(self, spec: ChildSpec) -> ChildSpec:
        """A part as the product starts it, told to go through its links."""
        env = {**spec.env, **QUICKER, "PYTHONPATH": str(ROOT)}
        argv = spec.argv
        if spec.name == KAFKA:
            options = [word for door in self._doors for word in ("--door", door)]
            argv = (sys.executable, "-m", "tests.faults.broker", *argv[3:], *options)
        elif spec.name == INGEST:
            env["TOUCHSTONE_KAFKA_BOOTSTRAP"] = f"127.0.0.1:{self.links[INGEST_KAFKA].listen}"
        elif spec.name in (WORKER, VISITOR):
            env["TOUCHSTONE_KAFKA_BOOTSTRAP"] = f"127.0.0.1:{self.links[WORKER_KAFKA].listen}"
            env["TOUCHSTONE_CLICKHOUSE_PORT"] = str(self.links[WORKER_TABLES].listen)
            env["TOUCHSTONE_CLICKHOUSE_HTTP_PORT"] = str(self.links[_TABLES_HTTP].listen)
        if spec.name in self._programs:
            argv = (sys.executable, *self._programs[spec.name])
        return replace(spec, argv=argv, env=env)

    def __enter__(self) -> Self:
        try:
            with_startup_cache(ensure_runtime(java_home=self.settings.java_home, cache_dir=self.settings.cache_dir))
            self._held.callback(self._remove)
            self._held.callback(self.keeper.close)
            self._held.enter_context(self.links)
            for part in self._parts:
                if isinstance(part, Preparation):
                    part.run()
                elif part.name != VISITOR:
                    self.keeper.start(part.name)
                    self.keeper.wait_ready(part.name)
            with KafkaAdmin(self.bootstrap, timeout_s=30) as admin:
                # Signals of a simulated past are older than that topic keeps them.
                admin.ensure_topics(
                    replace(topic, config={**topic.config, "retention.ms": "-1"}) for topic in topics(self.settings)
                )
            self.watch = Watch(self.bootstrap)
            self._held.callback(self.watch.close)
        except BaseException:
            self._held.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held.close()

    def keep_logs(self, folder: Path) -> None:
        """Copy what the parts wrote, for whoever looks into a red run."""
        shutil.copytree(self.log_dir, folder, dirs_exist_ok=True)

    def _remove(self) -> None:
        for disk in self.disks.values():
            disk.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def client(self) -> ClickHouse:
        """A client of the tables, as their owner, by no link."""
        return connect(
            ClickHouseSettings(
                port=self.ports.clickhouse,
                http_port=self.ports.clickhouse_http,
                user=self.settings.clickhouse_user,
                password=SecretStr(self.settings.credentials().owner),
                timeout_s=60,
                retry_s=20,
            )
        )

    def link(self, name: str) -> list[Link]:
        """The links of that name: ClickHouse has one for each of its protocols."""
        return [self.links[name], *([self.links[_TABLES_HTTP]] if name == WORKER_TABLES else [])]

    def prepare(self, jumping: Iterable[str]) -> None:
        """Start parts anew whose clocks will jump, and those whose clocks did in an earlier run."""
        wanted = set(jumping)
        for name, clock in self.clocks.items():
            if (name in wanted) != (name in self._jumping) and clock.can_jump:
                spec = self._specs[name]
                if name in wanted:
                    python, minus_m, *program = spec.argv
                    argv = (python, minus_m, "tests.faults.clocked", *program)
                    spec = replace(spec, argv=argv, env={**spec.env, **clock.environment()})
                self.keeper.restart(name, spec)
                self._jumping ^= {name}

    def heal(self) -> None:
        """End whatever faults are still on; parts that died come back by themselves."""
        self.links.clear()
        for clock in self.clocks.values():
            clock.set(0)
        for disk in self.disks.values():
            disk.free()
        for name in self.keeper.kept:
            self.keeper.resume(name)

    def settle(self, timeout_s: float) -> float | None:
        """Wait until everything in the log is committed; seconds that took, or None if it was not in time."""
        started_s = time.monotonic()
        return time.monotonic() - started_s if _until(self.watch.is_quiet, timeout_s) else None


def _until(condition: Callable[[], bool], timeout_s: float) -> bool:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline_s:
            return False
        time.sleep(_POLL_S)
    return True
