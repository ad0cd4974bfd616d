"""Several Kafka brokers on this machine: a cluster to try failures on, loopback only.

Every record has three copies (as many as there are nodes, if fewer), and a write counts once all but one of
them have it: so one broker may die, with its disk, without anything acknowledged being lost, and the others
go on taking writes. On one machine this shows how a cluster behaves; it protects against no power cut.

``python -m infra.kafka.cluster --data DIR --port N`` runs three of them on ports N, N+1, N+2 until SIGTERM.
"""

from __future__ import annotations

import argparse
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

from infra.embedded.ports import free_port
from infra.kafka.admin import KafkaAdmin
from infra.kafka.errors import ClusterRefusedError, ClusterUnreachableError, KafkaInfraError, NodeStartError
from infra.kafka.node import (
    DEFAULT_HEAP_MIB,
    MOST_COPIES,
    QUICK_FLAGS,
    START_TIMEOUT_S,
    STOP_TIMEOUT_S,
    KafkaNode,
    Membership,
    new_cluster_id,
)
from infra.kafka.runtime import KafkaRuntime, runtime_from_environment

NODES = 3
_POLL_S = 0.05
_CLUSTER_ID = re.compile(r"^cluster\.id=(\S+)$", re.MULTILINE)


class KafkaCluster:
    """Brokers as child processes. One may be killed and started again on its data while the others go on.

    Without ``data_dir`` it lives in a temporary folder that ``stop`` removes; without ``ports`` on free ones.
    """

    def __init__(
        self,
        data_dir: Path | None = None,
        *,
        nodes: int = NODES,
        ports: Sequence[int] | None = None,
        runtime: KafkaRuntime | None = None,
        heap_mib: int = DEFAULT_HEAP_MIB,
        flags: Sequence[str] = QUICK_FLAGS,
    ) -> None:
        self._temporary = data_dir is None
        self.data_dir = data_dir or Path(tempfile.mkdtemp(prefix="touchstone-kafka-"))
        chosen = list(ports or ())
        while len(chosen) < 2 * nodes:
            chosen.append(free_port(avoid=frozenset(chosen)))
        runtime = runtime or runtime_from_environment()
        cluster_id = _kept_cluster_id(self.data_dir) or new_cluster_id()
        self.nodes = [
            KafkaNode(
                self.data_dir / f"node-{number}",
                port=port,
                runtime=runtime,
                heap_mib=heap_mib,
                flags=flags,
                membership=Membership(number, cluster_id, tuple(chosen[nodes : 2 * nodes])),
            )
            for number, port in enumerate(chosen[:nodes], start=1)
        ]
        self.copies = min(MOST_COPIES, nodes)

    @property
    def bootstrap(self) -> str:
        """The addresses for clients, ``host:port`` with commas."""
        return ",".join(node.bootstrap for node in self.nodes)

    def start(self, timeout_s: float = START_TIMEOUT_S) -> KafkaCluster:
        """Start all nodes and wait until each takes part. NodeStartError when they do not in time."""
        deadline_s = time.monotonic() + timeout_s
        try:
            # Each formats its folder first, a program of its own. Children end with the thread that started
            # them, so the pool may only format.
            with ThreadPoolExecutor(len(self.nodes)) as pool:
                list(pool.map(lambda node: node.prepare(), self.nodes))
            for node in self.nodes:
                node.launch()
            for node in self.nodes:
                node.await_ready(deadline_s - time.monotonic())
            self.await_members(len(self.nodes), deadline_s - time.monotonic())
        except BaseException:
            self.kill()
            raise
        return self

    def await_members(self, count: int, timeout_s: float = START_TIMEOUT_S) -> None:
        """Wait until so many brokers take requests. NodeStartError when they do not in time."""
        deadline_s = time.monotonic() + timeout_s
        while (found := self._members()) != count:
            if time.monotonic() > deadline_s:
                raise NodeStartError(f"{found} of {count} brokers take part in the cluster at {self.bootstrap}")
            time.sleep(_POLL_S)

    def _members(self) -> int:
        try:
            with KafkaAdmin(self.bootstrap) as admin:
                return len(admin.cluster().brokers)
        except (ClusterUnreachableError, ClusterRefusedError):
            return 0

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """End all at once, cleanly where they can; removes a temporary folder.

        The last two have no majority left to say goodbye to and are killed after ``timeout_s``, harmlessly.
        """
        threads = [threading.Thread(target=node.stop, args=(timeout_s,)) for node in self.nodes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self._remove()

    def kill(self) -> None:
        """kill -9 for all; removes a temporary folder."""
        for node in self.nodes:
            node.kill()
        self._remove()

    def _remove(self) -> None:
        if self._temporary:
            shutil.rmtree(self.data_dir, ignore_errors=True)

    def __enter__(self) -> KafkaCluster:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Nothing of a temporary cluster is needed any more.
        if self._temporary:
            self.kill()
        else:
            self.stop()


def _kept_cluster_id(data_dir: Path) -> str | None:
    """The id that nodes of an earlier start were given."""
    for properties in sorted(data_dir.glob("node-*/log/meta.properties")):
        match = _CLUSTER_ID.search(properties.read_text(encoding="utf-8"))
        if match is not None:
            return match[1]
    return None


def main(arguments: Iterable[str] | None = None) -> None:
    """Run several brokers on this machine until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m infra.kafka.cluster", description=main.__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the nodes' data")
    parser.add_argument("--port", type=int, required=True, help="port of the first node; the others follow")
    parser.add_argument("--nodes", type=int, default=NODES, help="how many")
    parser.add_argument("--heap-mib", type=int, default=DEFAULT_HEAP_MIB, help="largest Java heap of each")
    options = parser.parse_args(None if arguments is None else list(arguments))
    ending = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ending.set())
    try:
        ports = range(options.port, options.port + options.nodes)
        cluster = KafkaCluster(
            options.data, nodes=options.nodes, ports=ports, heap_mib=options.heap_mib, flags=()
        ).start()
    except KafkaInfraError as error:
        sys.exit(str(error))
    print(f"ready: {cluster.bootstrap}", flush=True)
    ending.wait()
    cluster.stop()


if __name__ == "__main__":
    main()
