"""One Kafka broker on this machine: KRaft, broker and controller in one process, loopback only.

It keeps what it acknowledged when its process is killed, not when the power goes: records reach the disk
when the operating system writes them. For that, run three brokers with min.insync.replicas=2, each on a
machine of its own; ``infra.kafka.cluster`` runs three on this one, to see how that behaves.

``python -m infra.kafka.node --data DIR --port N`` formats the folder when it is new and becomes the broker
by exec, so that a supervisor's signals and exit codes are the broker's own. Tests use ``KafkaNode``.
"""

from __future__ import annotations

import argparse
import base64
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from infra.embedded.launch import launch_command
from infra.embedded.ports import LOOPBACK, free_port, is_free
from infra.kafka.admin import is_ready
from infra.kafka.errors import KafkaInfraError, NodeStartError
from infra.kafka.runtime import KafkaRuntime, runtime_from_environment

DEFAULT_HEAP_MIB = 512
# Formatting takes one to three seconds on two busy cores; start two to eight. Both far below.
FORMAT_TIMEOUT_S = 60.0
START_TIMEOUT_S = 60.0
# A clean end takes half a second; a broker with many dirty segments somewhat more.
STOP_TIMEOUT_S = 20.0
_POLL_S = 0.02
MOST_COPIES = 3

# A broker that lives for a few tests does not earn back what the optimising compiler costs: half of its start.
QUICK_FLAGS = ("-XX:TieredStopAtLevel=1",)

# Kafka maps its indexes into memory. A page that a full disk has no room for is an InternalError there, which Kafka
# takes for a failed request and goes on: the batch stays in the log's file and the next one is given the same offsets.
# Readers then differ in what stands at a place, and the recovery after a kill may throw the whole segment away. So the
# fault has to end the process at once, as a failed write does; the JVM does that while the log is still locked.
FAULT_FLAGS = (
    "-XX:+UnlockDiagnosticVMOptions",
    "-XX:AbortVMOnException=java.lang.InternalError",
    # Of the two messages that the JVM has for it, what is in both.
    "-XX:AbortVMOnExceptionMessage=unsafe memory access",
    "-XX:-CreateCoredumpOnCrash",
)

SERVER_CLASS = "kafka.Kafka"
STORAGE_TOOL_CLASS = "kafka.tools.StorageTool"

_SERVER_PROPERTIES = """\
process.roles=broker,controller
node.id={node_id}
controller.quorum.voters={voters}
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller_port}
advertised.listeners=PLAINTEXT://{host}:{port}
controller.listener.names=CONTROLLER
log.dirs={log_dir}
# One node holds the only copy of everything; of several, a write is acknowledged by all but one.
default.replication.factor={copies}
min.insync.replicas={in_sync}
offsets.topic.replication.factor={copies}
transaction.state.log.replication.factor={copies}
transaction.state.log.min.isr={in_sync}
share.coordinator.state.topic.replication.factor={copies}
share.coordinator.state.topic.min.isr={in_sync}
# The default of 50 partitions each serves clusters; here it would be 50 folders a topic to open at every
# start.
offsets.topic.num.partitions=4
transaction.state.log.num.partitions=4
share.coordinator.state.topic.num.partitions=4
# Committed positions outlive any pause of the workers (the default forgets a silent group after 7 days).
offsets.retention.minutes=525600
group.initial.rebalance.delay.ms=0
# After a kill the node is let in again only when its former session has ended: 9 s by default.
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=3000
auto.create.topics.enable=false
# A wrong clock of a sender must not make the broker refuse records; topics say so too.
log.message.timestamp.after.max.ms=9223372036854775807
# Sized for one machine: the default compaction buffer alone would be a quarter of the heap.
log.cleaner.dedupe.buffer.size=16777216
num.network.threads=2
num.io.threads=4
background.threads=2
"""

_LOG4J = """\
Configuration:
  status: error
  Appenders:
    Console:
      name: out
      PatternLayout:
        pattern: "%d{yyyy-MM-dd'T'HH:mm:ss.SSS}{UTC}Z %-5p %c{1}: %m%n"
  Loggers:
    Root:
      level: INFO
      AppenderRef:
        - ref: out
    Logger:
      # Some 300 lines of settings at every start.
      - name: org.apache.kafka.common.config.AbstractConfig
        level: WARN
"""


@dataclass(frozen=True, slots=True)
class Membership:
    """A node's place in a cluster whose nodes are all known beforehand."""

    node_id: int
    """From 1."""
    cluster_id: str
    controller_ports: tuple[int, ...]
    """Of all nodes, by node id from 1: where they agree on who leads. Kept over restarts."""


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """Where a node lives. ``controller_port`` is for the nodes themselves; no client uses it.

    Without ``membership`` the node is a cluster by itself.
    """

    data_dir: Path
    port: int
    controller_port: int
    host: str = LOOPBACK
    heap_mib: int = DEFAULT_HEAP_MIB
    membership: Membership | None = None

    @property
    def voters(self) -> str:
        """Nodes that elect the controller, as Kafka spells them."""
        ports = (self.controller_port,) if self.membership is None else self.membership.controller_ports
        return ",".join(f"{number}@{self.host}:{port}" for number, port in enumerate(ports, start=1))

    @property
    def copies(self) -> int:
        """How many nodes hold each record: three, or as many as there are."""
        return min(MOST_COPIES, 1 if self.membership is None else len(self.membership.controller_ports))

    @property
    def log_dir(self) -> Path:
        return self.data_dir / "log"

    @property
    def properties_file(self) -> Path:
        return self.data_dir / "server.properties"

    @property
    def log4j_file(self) -> Path:
        return self.data_dir / "log4j2.yaml"

    @property
    def java_error_file(self) -> Path:
        """What the JVM writes when it ends itself; one of an earlier time is written over."""
        return self.data_dir / "java-error.log"


def write_files(settings: NodeSettings) -> None:
    """Write server.properties and the log settings; they follow the ports of each start."""
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    settings.properties_file.write_text(
        _SERVER_PROPERTIES.format(
            host=settings.host,
            port=settings.port,
            controller_port=settings.controller_port,
            node_id=1 if settings.membership is None else settings.membership.node_id,
            voters=settings.voters,
            copies=settings.copies,
            in_sync=max(1, settings.copies - 1),
            log_dir=settings.log_dir.absolute(),
        ),
        encoding="utf-8",
    )
    settings.log4j_file.write_text(_LOG4J, encoding="utf-8")


def java_command(
    runtime: KafkaRuntime,
    settings: NodeSettings,
    main_class: str,
    arguments: Sequence[str],
    flags: Sequence[str] = (),
) -> list[str]:
    """The command line of one of Kafka's programs."""
    # No JVM chatter on stdout, but its errors stay.
    command = [str(runtime.java.executable), "-Xlog:disable", "-Xlog:all=error:stderr", "-XX:+UseSerialGC"]
    if runtime.startup_cache is not None:
        command.append(f"-XX:AOTCache={runtime.startup_cache}")
    return [
        *command,
        *flags,
        f"-Dlog4j2.configurationFile={settings.log4j_file.absolute()}",
        "-cp",
        runtime.class_path,
        main_class,
        *arguments,
    ]


def server_command(runtime: KafkaRuntime, settings: NodeSettings, flags: Sequence[str] = ()) -> list[str]:
    """The command line of the broker."""
    own = [f"-Xmx{settings.heap_mib}m", *FAULT_FLAGS, f"-XX:ErrorFile={settings.java_error_file.absolute()}"]
    return java_command(runtime, settings, SERVER_CLASS, [str(settings.properties_file.absolute())], [*own, *flags])


def new_cluster_id() -> str:
    """As Kafka makes them: a random uuid in 22 characters."""
    # A leading dash would be read as an option.
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode("ascii").rstrip("=").replace("-", "_")


def format_storage(runtime: KafkaRuntime, settings: NodeSettings) -> None:
    """Give a new folder its cluster id; a folder that has one is left alone. NodeStartError when it fails."""
    if (settings.log_dir / "meta.properties").is_file():
        return
    cluster_id = new_cluster_id() if settings.membership is None else settings.membership.cluster_id
    command = java_command(
        runtime,
        settings,
        STORAGE_TOOL_CLASS,
        ["format", "--cluster-id", cluster_id, "--config", str(settings.properties_file.absolute())],
        # A second's work is not worth an optimising compiler.
        ["-Xmx128m", *QUICK_FLAGS],
    )
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=FORMAT_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NodeStartError(f"Kafka's storage in {settings.log_dir} could not be formatted: {error}") from error
    if run.returncode != 0:
        raise NodeStartError(
            f"Kafka's storage in {settings.log_dir} could not be formatted:\n{_tail(run.stdout + run.stderr)}"
        )


def _tail(text: str, lines: int = 15) -> str:
    return "\n".join(text.strip().splitlines()[-lines:])


class KafkaNode:
    """A broker as a child process, for tests and tools.

    Without ``data_dir`` it lives in a temporary folder that ``stop`` removes; without ``port`` on a free
    port, kept over restarts. It may be stopped or killed and started again on the same data. On Linux it
    ends with the thread that started it, so start it from one that lives as long as the node should.
    """

    def __init__(
        self,
        data_dir: Path | None = None,
        *,
        port: int | None = None,
        runtime: KafkaRuntime | None = None,
        heap_mib: int = DEFAULT_HEAP_MIB,
        flags: Sequence[str] = QUICK_FLAGS,
        membership: Membership | None = None,
    ) -> None:
        self._temporary = data_dir is None
        self.data_dir = data_dir or Path(tempfile.mkdtemp(prefix="touchstone-kafka-"))
        self.port = port if port is not None else free_port()
        self._runtime = runtime
        self._heap_mib = heap_mib
        self._flags = tuple(flags)
        self._membership = membership
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        """The address for clients, ``host:port``."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def log_path(self) -> Path:
        return self.data_dir / "kafka.log"

    @property
    def pid(self) -> int:
        """Process id of the broker; KafkaInfraError when it was not started."""
        if self._process is None:
            raise KafkaInfraError("the node has not been started")
        return self._process.pid

    def start(self, timeout_s: float = START_TIMEOUT_S) -> KafkaNode:
        """Start and wait until the broker answers a client. NodeStartError when it does not in time."""
        self.launch()
        self.await_ready(timeout_s)
        return self

    def launch(self) -> None:
        """Start without waiting: a node of a cluster answers only once most of the others do."""
        if self._process is not None and self._process.poll() is None:
            raise KafkaInfraError("the node runs already")
        if not is_free(self.port):
            raise NodeStartError(f"port {self.port} is taken")
        runtime, settings = self.prepare()
        command = launch_command(
            server_command(runtime, settings, self._flags),
            parent_pid=os.getpid(),
            on_parent_death=signal.SIGKILL,
        )
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def prepare(self) -> tuple[KafkaRuntime, NodeSettings]:
        """Write the node's files and format its folder if it is new; NodeStartError when that fails."""
        runtime = self._runtime = self._runtime or runtime_from_environment()
        membership = self._membership
        settings = NodeSettings(
            self.data_dir,
            self.port,
            free_port(avoid=frozenset({self.port}))
            if membership is None
            else membership.controller_ports[membership.node_id - 1],
            heap_mib=self._heap_mib,
            membership=membership,
        )
        write_files(settings)
        format_storage(runtime, settings)
        return runtime, settings

    def await_ready(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Wait until the broker answers a client; kills it and raises NodeStartError when it does not in time."""
        try:
            self._await_ready(time.monotonic() + timeout_s)
        except BaseException:
            self.kill()
            raise

    def _await_ready(self, deadline: float) -> None:
        process = self._process
        assert process is not None
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise NodeStartError(f"Kafka ended with code {process.returncode}:\n{self._log_tail()}")
            if _listens(self.port) and is_ready(self.bootstrap, timeout_s=max(1.0, deadline - time.monotonic())):
                return
            time.sleep(_POLL_S)
        raise NodeStartError(f"Kafka did not answer on port {self.port} in time:\n{self._log_tail()}")

    def _log_tail(self) -> str:
        return _tail(self.log_path.read_text(encoding="utf-8", errors="replace"))

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """End it cleanly (SIGTERM, then SIGKILL after ``timeout_s``); removes a temporary folder."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self.kill()
        if self._temporary:
            shutil.rmtree(self.data_dir, ignore_errors=True)

    def kill(self) -> None:
        """kill -9; the data stays."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> KafkaNode:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _listens(port: int) -> bool:
    try:
        socket.create_connection((LOOPBACK, port), timeout=1.0).close()
    except OSError:
        return False
    return True


def main(arguments: Sequence[str] | None = None) -> None:
    """Become the broker of a data folder."""
    parser = argparse.ArgumentParser(prog="python -m infra.kafka.node", description=main.__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the node's data")
    parser.add_argument("--port", type=int, required=True, help="port for clients, on loopback")
    parser.add_argument("--heap-mib", type=int, default=DEFAULT_HEAP_MIB, help="largest Java heap")
    options = parser.parse_args(arguments)
    settings = NodeSettings(
        options.data, options.port, free_port(avoid=frozenset({options.port})), heap_mib=options.heap_mib
    )
    try:
        runtime = runtime_from_environment()
        write_files(settings)
        format_storage(runtime, settings)
    except KafkaInfraError as error:
        sys.exit(str(error))
    command = server_command(runtime, settings)
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
