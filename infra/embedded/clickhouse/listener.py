"""The native port: listens and gives every connection a thread."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import Iterator

from infra.embedded.clickhouse.access import ReadGate, Users
from infra.embedded.clickhouse.engine import Engine
from infra.embedded.clickhouse.native import NativeConnection
from infra.embedded.clickhouse.watch import Watch

log = logging.getLogger(__name__)


class NativeServer:
    """Listens and gives every connection a thread."""

    def __init__(
        self, listening: socket.socket, engine: Engine, users: Users, gate: ReadGate, max_connections: int
    ) -> None:
        self._listening = listening
        self._engine = engine
        self._users = users
        self._gate = gate
        self._max_connections = max_connections
        self._watch = Watch()
        self._peers: dict[socket.socket, threading.Thread] = {}
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._accept, name="clickhouse-native", daemon=True)

    def start(self) -> None:
        """Begin to accept connections."""
        self._watch.start()
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self._listening.accept()
            except OSError:
                return
            with self._lock:
                if len(self._peers) >= self._max_connections:
                    log.warning("native connection refused: %s are open", len(self._peers))
                    peer.close()
                    continue
                thread = threading.Thread(target=self._serve, args=(peer,), name="clickhouse-client", daemon=True)
                self._peers[peer] = thread
            thread.start()

    def _serve(self, peer: socket.socket) -> None:
        try:
            NativeConnection(peer, self._engine, self._users, self._gate, self._watch).serve()
        finally:
            with self._lock:
                self._peers.pop(peer, None)

    def stop(self, grace_s: float) -> None:
        """Stop accepting, end reading on all connections, and wait for statements that run."""
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(grace_s)
        for peer, thread in self._snapshot():
            with contextlib.suppress(OSError):
                peer.shutdown(socket.SHUT_RD)
            thread.join(grace_s)
        self._watch.stop()

    def _snapshot(self) -> Iterator[tuple[socket.socket, threading.Thread]]:
        with self._lock:
            return iter([*self._peers.items()])
