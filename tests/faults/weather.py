"""TCP links with weather: a proxy between a part of the stack and what it talks to.

A link forwards connections to a port on this machine. What happens on it is set from any thread and holds for open
connections and new ones alike: they can be refused, reset, held up in either direction, delayed, slowed down, or cut
after so many bytes of an answer. Bytes that are held up are passed on when the weather clears, like packets that are
sent again after a partition: they may reach a server whose client has long gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

HOST: Final = "127.0.0.1"
_CHUNK_BYTES: Final = 64 << 10
_MOST_HELD: Final = 16
"""Pieces per direction of a connection, as kernel buffers would hold them; then the sender blocks."""
_LOOK_S: Final = 0.02
_RESET: Final = struct.pack("ii", 1, 0)
"""SO_LINGER of zero seconds: closing sends RST."""


@dataclass(frozen=True, slots=True)
class Weather:
    """What happens on a link. The default is none: bytes pass."""

    refuse: bool = False
    """New connections are accepted and reset at once; a listener that is gone would refuse them likewise."""
    hold_up: bool = False
    """Nothing reaches the server."""
    hold_down: bool = False
    """Nothing reaches the client: its request may be carried out, and it will not know."""
    delay_s: tuple[float, float] = (0.0, 0.0)
    """Least and most one-way delay of each piece; pieces stay in order."""
    bytes_per_s: float = 0.0
    """Rate in each direction; 0 means as fast as can be."""


CLEAR: Final = Weather()


@dataclass(slots=True, eq=False)
class _Connection:
    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    answered_bytes: int = 0
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def reset(self) -> None:
        """End both sides with RST."""
        for writer in (self.client, self.server):
            _reset(writer)
        for task in self.tasks:
            task.cancel()


class Link:
    """One listening port and the port that it leads to. Its methods may be called from any thread."""

    def __init__(self, name: str, listen: int, to: int, seed: int) -> None:
        self.name = name
        self.listen = listen
        self.to = to
        self.weather = CLEAR
        self.connected = 0
        """Connections ever passed on."""
        self.cut_replies = 0
        """Answers cut short so far."""
        self._cut_after: deque[int] = deque()
        self._chance = random.Random(seed)
        self._open: set[_Connection] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    def set(self, weather: Weather) -> None:
        self.weather = weather

    def clear(self) -> None:
        """Fair weather from now on."""
        self.weather = CLEAR
        self._cut_after.clear()

    def cut_reply_after(self, count: int) -> None:
        """Reset the next connection whose server has sent ``count`` more bytes from now; the rest is lost."""
        self._on_loop(lambda: self._arm(count))

    @property
    def is_armed(self) -> bool:
        """An answer is still to be cut."""
        return bool(self._cut_after)

    def reset_all(self) -> None:
        """Reset every open connection."""
        self._on_loop(self._reset_open)

    @property
    def open_connections(self) -> int:
        return len(self._open)

    def _reset_open(self) -> None:
        for connection in tuple(self._open):
            connection.reset()

    def _arm(self, count: int) -> None:
        for connection in self._open:
            connection.answered_bytes = 0
        self._cut_after.append(count)

    def _on_loop(self, call: Callable[[], None]) -> None:
        assert self._loop is not None, "the link does not run"
        self._loop.call_soon_threadsafe(call)

    async def serve(self) -> asyncio.Server:
        """Listen; called by `Links`."""
        self._loop = asyncio.get_running_loop()
        return await asyncio.start_server(self._accept, HOST, self.listen)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.weather.refuse:
            _reset(writer)
            return
        try:
            from_server, to_server = await asyncio.open_connection(HOST, self.to)
        except OSError:
            _reset(writer)  # nobody listens behind: the client sees what it would see without us
            return
        self.connected += 1
        connection = _Connection(writer, to_server)
        self._open.add(connection)
        up: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_MOST_HELD)
        down: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_MOST_HELD)
        connection.tasks += [
            asyncio.create_task(work)
            for work in (
                self._read(reader, up),
                self._write(up, to_server, connection, down=False),
                self._read(from_server, down),
                self._write(down, writer, connection, down=True),
            )
        ]
        try:
            await asyncio.gather(*connection.tasks)
        except (OSError, asyncio.CancelledError):
            connection.reset()
        finally:
            self._open.discard(connection)
            for side in (writer, to_server):
                side.close()

    async def _read(self, reader: asyncio.StreamReader, pieces: asyncio.Queue[tuple[float, bytes]]) -> None:
        """Take in what one side sends, and say when each piece is due at the other."""
        due_s, data = 0.0, b"some"
        while data:
            data = await reader.read(_CHUNK_BYTES)
            due_s = max(due_s, time.monotonic() + self._chance.uniform(*self.weather.delay_s))
            await pieces.put((due_s, data))

    async def _write(
        self,
        pieces: asyncio.Queue[tuple[float, bytes]],
        writer: asyncio.StreamWriter,
        connection: _Connection,
        *,
        down: bool,
    ) -> None:
        """Pass pieces on when they are due and nothing holds them."""
        while True:
            due_s, data = await pieces.get()
            while (held := self._holds(down)) or time.monotonic() < due_s:
                await asyncio.sleep(_LOOK_S if held else due_s - time.monotonic())
            if not data:
                with contextlib.suppress(OSError):
                    writer.write_eof()
                return
            if down and self._cuts(connection, data, writer):
                return
            writer.write(data)
            await writer.drain()
            if self.weather.bytes_per_s:
                await asyncio.sleep(len(data) / self.weather.bytes_per_s)

    def _holds(self, down: bool) -> bool:
        return self.weather.hold_down if down else self.weather.hold_up

    def _cuts(self, connection: _Connection, data: bytes, writer: asyncio.StreamWriter) -> bool:
        if not self._cut_after:
            return False
        connection.answered_bytes += len(data)
        if connection.answered_bytes < self._cut_after[0]:
            return False
        left = len(data) - (connection.answered_bytes - self._cut_after.popleft())
        writer.write(data[: max(left, 0)])
        self.cut_replies += 1
        connection.reset()
        return True


class Links:
    """All links of a stack, on an event loop of their own. A context manager."""

    def __init__(self, links: dict[str, Link]) -> None:
        self.by_name = links
        self._ready = threading.Event()
        self._stop: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="links", daemon=True)

    def __getitem__(self, name: str) -> Link:
        return self.by_name[name]

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        if self._error is not None:
            raise self._error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._loop is not None
        assert self._stop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def clear(self) -> None:
        """Fair weather on all links."""
        for link in self.by_name.values():
            link.clear()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # told to whoever waits for the start
            self._error = error
            self._ready.set()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        servers = [await link.serve() for link in self.by_name.values()]
        self._ready.set()
        await self._stop.wait()
        for server in servers:
            server.close()
        for link in self.by_name.values():
            link._reset_open()
        left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


def _reset(writer: asyncio.StreamWriter) -> None:
    raw: socket.socket | None = writer.get_extra_info("socket")
    if raw is not None:
        with contextlib.suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()
