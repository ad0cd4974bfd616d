"""The single-machine stack as a list of parts: the one place that knows all of them."""

from __future__ import annotations

import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import SecretStr

from infra.embedded.children import ChildSpec
from infra.embedded.ports import PortNeed, free_port
from infra.embedded.probes import http_ok, listens
from infra.embedded.supervisor import Part, Preparation
from schemas.topics import TOPICS, Topic
from services.cli import addresses
from services.cli.settings import StackSettings


@dataclass(frozen=True, slots=True)
class Ports:
    """Ports that the stack listens on."""

    kafka: int
    clickhouse: int
    clickhouse_http: int
    ingest: int
    alerting: int

    def by_name(self) -> dict[str, int]:
        """As in the state file."""
        return {
            addresses.KAFKA: self.kafka,
            addresses.CLICKHOUSE: self.clickhouse,
            addresses.CLICKHOUSE_HTTP: self.clickhouse_http,
            addresses.INGEST: self.ingest,
            addresses.ALERTING: self.alerting,
        }


def choose_ports(settings: StackSettings, *, free: bool) -> Ports:
    """The ports as set; with ``free``, free ones for those that are not set."""
    chosen: set[int] = set()

    def choose(field: str) -> int:
        port: int = getattr(settings, field)
        if free and not settings.is_set(field):
            port = free_port(avoid=frozenset(chosen))
        chosen.add(port)
        return port

    return Ports(
        choose("kafka_port"),
        choose("clickhouse_port"),
        choose("clickhouse_http_port"),
        choose("ingest_port"),
        choose("alerting_port"),
    )


def port_needs(settings: StackSettings, ports: Ports) -> list[PortNeed]:
    """What must be free before the start."""
    return [
        PortNeed("Kafka", ports.kafka, "TOUCHSTONE_KAFKA_PORT"),
        PortNeed("ClickHouse", ports.clickhouse, "TOUCHSTONE_CLICKHOUSE_PORT", settings.clickhouse_host),
        PortNeed(
            "ClickHouse over HTTP", ports.clickhouse_http, "TOUCHSTONE_CLICKHOUSE_HTTP_PORT", settings.clickhouse_host
        ),
        PortNeed("ingest", ports.ingest, "TOUCHSTONE_INGEST_PORT", settings.ingest_host),
        PortNeed("alerting", ports.alerting, "TOUCHSTONE_ALERTING_PORT", settings.alerting_host),
    ]


def topics(settings: StackSettings) -> list[Topic]:
    """The topics with the number of partitions that was set; those of a single partition keep it."""
    return [topic if topic.partitions == 1 else replace(topic, partitions=settings.partitions) for topic in TOPICS]


def environment(settings: StackSettings, ports: Ports) -> dict[str, str]:
    """What the children are told, as settings of their own."""
    credentials = settings.credentials(create=True)
    told = {
        "TOUCHSTONE_DATA_DIR": str(settings.data_dir),
        "TOUCHSTONE_KAFKA_BOOTSTRAP": f"127.0.0.1:{ports.kafka}",
        "TOUCHSTONE_CLICKHOUSE_HOST": addresses.reachable(settings.clickhouse_host),
        "TOUCHSTONE_CLICKHOUSE_PORT": str(ports.clickhouse),
        "TOUCHSTONE_CLICKHOUSE_HTTP_PORT": str(ports.clickhouse_http),
        "TOUCHSTONE_CLICKHOUSE_USER": settings.clickhouse_user,
        "TOUCHSTONE_CLICKHOUSE_PASSWORD": credentials.owner,
        "TOUCHSTONE_CLICKHOUSE_READER": settings.clickhouse_reader,
        "TOUCHSTONE_CLICKHOUSE_READER_PASSWORD": credentials.reader,
        "TOUCHSTONE_INGEST_HOST": settings.ingest_host,
        "TOUCHSTONE_INGEST_PORT": str(ports.ingest),
        "TOUCHSTONE_ALERTING_HOST": settings.alerting_host,
        "TOUCHSTONE_ALERTING_PORT": str(ports.alerting),
    }
    if settings.java_home is not None:
        told["TOUCHSTONE_JAVA_HOME"] = str(settings.java_home)
    if settings.cache_dir is not None:
        told["TOUCHSTONE_CACHE_DIR"] = str(settings.cache_dir)
    return told


def stack_parts(settings: StackSettings, ports: Ports) -> list[Part]:
    """Everything in the order of its start."""
    env = environment(settings, ports)
    return [
        _kafka(settings, ports, env),
        _clickhouse(settings, ports, env),
        Preparation("migrations", lambda: _migrate(settings, ports)),
        Preparation("topics", lambda: _ensure_topics(settings, ports)),
        *(_scoring(settings, number, env) for number in range(1, settings.scoring_workers + 1)),
        _alerting(settings, ports, env),
        _ingest(settings, ports, env),
    ]


def _module(name: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", name, *arguments)


def _kafka(settings: StackSettings, ports: Ports, env: Mapping[str, str]) -> ChildSpec:
    bootstrap = f"127.0.0.1:{ports.kafka}"

    def ready() -> bool:
        from infra.kafka.admin import is_ready

        return listens("127.0.0.1", ports.kafka) and is_ready(bootstrap, timeout_s=2.0)

    return ChildSpec(
        "kafka",
        _module(
            "infra.kafka.node",
            "--data",
            str(settings.data_dir / "kafka"),
            "--port",
            str(ports.kafka),
            "--heap-mib",
            str(settings.kafka_heap_mib),
        ),
        ready,
        env=env,
        # After a kill the log's last segments are read through once.
        ready_timeout_s=120.0,
        stop_timeout_s=30.0,
    )


def _clickhouse(settings: StackSettings, ports: Ports, env: Mapping[str, str]) -> ChildSpec:
    host = addresses.reachable(settings.clickhouse_host)
    return ChildSpec(
        "clickhouse",
        _module(
            "infra.embedded.clickhouse.main",
            "--data",
            str(settings.data_dir / "clickhouse"),
            "--native-port",
            str(ports.clickhouse),
            "--http-port",
            str(ports.clickhouse_http),
        ),
        lambda: http_ok(host, ports.clickhouse_http, "/ping"),
        # It listens where it was set to, and not where its clients connect.
        env={**env, "TOUCHSTONE_CLICKHOUSE_HOST": settings.clickhouse_host},
        ready_timeout_s=120.0,
        stop_timeout_s=30.0,
    )


def _scoring(settings: StackSettings, number: int, env: Mapping[str, str]) -> ChildSpec:
    name = f"scoring-{number}"
    ready_file = settings.data_dir / "run" / f"{name}.ready"
    return ChildSpec(
        name,
        _module("services.scoring.main"),
        ready_file.exists,
        env={
            **env,
            "TOUCHSTONE_SCORING_WORKER": str(number),
            "TOUCHSTONE_SCORING_READY_FILE": str(ready_file),
        },
        stop_timeout_s=30.0,
        # Whatever it had not committed is done again; nothing of it needs a farewell.
        on_supervisor_death=signal.SIGKILL,
        removed_before_start=(ready_file,),
    )


def _ingest(settings: StackSettings, ports: Ports, env: Mapping[str, str]) -> ChildSpec:
    host = addresses.reachable(settings.ingest_host)
    return ChildSpec(
        "ingest",
        _module("services.ingest.main"),
        lambda: http_ok(host, ports.ingest, "/health/ready"),
        env=env,
        stop_timeout_s=30.0,
        # What it had not acknowledged is sent again by the sender.
        on_supervisor_death=signal.SIGKILL,
    )


def _alerting(settings: StackSettings, ports: Ports, env: Mapping[str, str]) -> ChildSpec:
    host = addresses.reachable(settings.alerting_host)
    return ChildSpec(
        "alerting",
        _module("services.alerting.main"),
        lambda: http_ok(host, ports.alerting, "/health/ready"),
        env=env,
        stop_timeout_s=30.0,
        # A call under way is repeated with the same id.
        on_supervisor_death=signal.SIGKILL,
    )


def _migrate(settings: StackSettings, ports: Ports) -> None:
    from infra.clickhouse.client import connect
    from infra.clickhouse.migrate import migrate
    from infra.clickhouse.requirements import assert_settings
    from infra.clickhouse.settings import ClickHouseSettings

    where = ClickHouseSettings(
        host=addresses.reachable(settings.clickhouse_host),
        port=ports.clickhouse,
        http_port=ports.clickhouse_http,
        user=settings.clickhouse_user,
        password=SecretStr(settings.credentials(create=True).owner),
    )
    with connect(where) as client:
        migrate(client)
        assert_settings(client)


def _ensure_topics(settings: StackSettings, ports: Ports) -> None:
    from infra.kafka.admin import KafkaAdmin

    # A broker just started on a busy machine may take its time over the first topics.
    with KafkaAdmin(f"127.0.0.1:{ports.kafka}", timeout_s=30.0) as admin:
        admin.ensure_topics(topics(settings))


def run_dir(data_dir: Path) -> Path:
    """Folder of the files by which parts tell that they are ready."""
    return data_dir / "run"
