"""Watches the sockets of clients whose query runs: a cancel packet or a closed connection stops the query."""

from __future__ import annotations

import contextlib
import logging
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from infra.embedded.clickhouse.errors import ClickHouseError

log = logging.getLogger(__name__)

CANCEL_PACKET: Final = b"\x03"
KEEP_ALIVE_S: Final = 5.0
_POLL_S: Final = 1.0


@dataclass(slots=True)
class Watched:
    """A running query and its client."""

    peer: socket.socket
    cancel: Callable[[], object]
    keep_alive: Callable[[], None]
    next_sign_s: float
    given_up: bool = False
    finished: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)


class Watch:
    """One thread for all running queries."""

    def __init__(self) -> None:
        self._poll = select.epoll()
        self._watched: dict[int, Watched] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="clickhouse-watch", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    @contextlib.contextmanager
    def during(
        self, peer: socket.socket, cancel: Callable[[], object], keep_alive: Callable[[], None]
    ) -> Iterator[Watched]:
        """While a query runs: call `cancel` when its client gives up, `keep_alive` every few seconds."""
        number = peer.fileno()
        watched = Watched(peer, cancel, keep_alive, time.monotonic() + KEEP_ALIVE_S)
        self._watched[number] = watched
        self._poll.register(number, select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLONESHOT)
        try:
            yield watched
        finally:
            self._watched.pop(number, None)
            with watched.lock:
                # A late cancel must not meet the next query of this session.
                watched.finished = True
            with contextlib.suppress(OSError, ValueError):
                self._poll.unregister(number)

    def _run(self) -> None:
        while not self._stopping.is_set():
            for number, _ in self._poll.poll(_POLL_S):
                if (found := self._watched.get(number)) is not None:
                    self._look(found)
            now_s = time.monotonic()
            for found in [*self._watched.values()]:
                if found.next_sign_s <= now_s:
                    found.next_sign_s = now_s + KEEP_ALIVE_S
                    with contextlib.suppress(OSError):
                        found.keep_alive()

    def _look(self, found: Watched) -> None:
        try:
            first = found.peer.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            first = b""
        if first in (b"", CANCEL_PACKET):
            with found.lock:
                if found.finished:
                    return
                found.given_up = True
                try:
                    found.cancel()
                except ClickHouseError:
                    log.exception("could not stop the query of a client that gave up")

    def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        self._thread.join(2 * _POLL_S)
        self._poll.close()
