"""uvicorn with what it lacks: limits on time and size of a request's head, and a quiet end after a signal."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Iterator
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES: Final = 32 << 10
HEAD_TIMEOUT_S: Final = 10.0
"""From the opening of a connection, or the first byte of a later request on it, to the end of its head."""


class _HeadTooLargeError(ValueError):
    """Raised inside the parser, which answers 400 and closes."""


class GuardedProtocol(HttpToolsProtocol):
    """Closes connections that open and say nothing, or never come to the end of their head."""

    head_timeout_s = HEAD_TIMEOUT_S
    max_head_bytes = MAX_HEAD_BYTES
    _head_timer: asyncio.TimerHandle | None = None
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        self._head_bytes = 0
        if self._head_timer is None:
            self._start_timer()
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value) + 4)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._stop_timer()
        super().on_headers_complete()

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > self.max_head_bytes:
            raise _HeadTooLargeError(f"a request's head may have {self.max_head_bytes} bytes")

    def _start_timer(self) -> None:
        self._head_timer = self.loop.call_later(self.head_timeout_s, self._close)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _close(self) -> None:
        self._head_timer = None
        if not self.transport.is_closing():
            self.transport.close()


def guarded(head_timeout_s: float = HEAD_TIMEOUT_S, max_head_bytes: int = MAX_HEAD_BYTES) -> type[asyncio.Protocol]:
    """A protocol class with other limits, for uvicorn's setting ``http``."""
    members: dict[str, Any] = {"head_timeout_s": head_timeout_s, "max_head_bytes": max_head_bytes}
    return type("GuardedProtocol", (GuardedProtocol,), members)


class Server(uvicorn.Server):
    """Ends with code 0 after a signal: uvicorn's own would raise it again once everything is done."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
