"""Mutations of what real clients said to the ports of the embedded ClickHouse, from a seed."""

from __future__ import annotations

import contextlib
import random
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from shutil import which
from typing import Any, Final

import clickhouse_connect
from clickhouse_driver import Client

NATIVE: Final = "native"
HTTP: Final = "http"
HUGE: Final = (
    b"\xff" * 9 + b"\x01",  # 2^64 - 1
    b"\x80" * 9 + b"\x01",  # 2^63
    b"\xff\xff\xff\xff\x07",  # 2^31 - 1
    b"\xff\xff\xff\xff\x7f",
    b"\xff" * 40,  # never ends
)
WORDS: Final = (
    b"18446744073709551615",
    b"-1",
    b"\r\n\r\n",
    b"\r\nTransfer-Encoding: chunked\r\n",
    b"\r\nContent-Encoding: zstd\r\n",
    b"%00%ff",
    b"' OR 1 -- ",
    b"file('",
    b"\x00" * 16,
)


@dataclass(frozen=True, slots=True)
class Talk:
    """What one client sent over one connection; ``login`` bytes of it are the greeting of the native protocol."""

    name: str
    port: str
    sent: bytes
    login: int = 0


class _Recorder:
    """A proxy in front of a port that keeps what clients send, connection by connection."""

    def __init__(self, port: int) -> None:
        self._behind = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.sent: list[list[bytes]] = []
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                front, _ = self._listening.accept()
            except OSError:
                return
            back = socket.create_connection(("127.0.0.1", self._behind))
            self._open += [front, back]
            pieces: list[bytes] = []
            self.sent.append(pieces)
            for source, target, keep in ((front, back, pieces.append), (back, front, lambda _: None)):
                thread = threading.Thread(target=self._pump, args=(source, target, keep), daemon=True)
                thread.start()
                self._threads.append(thread)

    @staticmethod
    def _pump(source: socket.socket, target: socket.socket, keep: Callable[[bytes], object]) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(65_536):
                keep(piece)
                target.sendall(piece)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for end in self._open:  # some clients keep their connections
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        for end in self._open:
            end.close()


@contextlib.contextmanager
def _recorded(port: int) -> Iterator[_Recorder]:
    recorder = _Recorder(port)
    try:
        yield recorder
    finally:
        recorder.close()


def record(server: Any, owner: tuple[str, str], reader: tuple[str, str], secret: str) -> list[Talk]:
    """Let real clients talk: clickhouse-driver with and without compression, clickhouse-connect, curl where it is.

    Owners create and fill ``fuzzed``; readers ask, also for the file ``secret``, which they are refused.
    """
    talks: list[Talk] = []
    rows = [(number, f"text {number}", None if number % 3 else number / 7) for number in range(50)]
    for compression in (False, "lz4"):
        with _recorded(server.native_port) as recorder:
            client = Client("127.0.0.1", recorder.port, user=owner[0], password=owner[1], compression=compression)
            client.execute("SELECT 1")
            columns = "a UInt64, s String, f Nullable(Float64)"
            client.execute(f"CREATE TABLE IF NOT EXISTS fuzzed ({columns}) ENGINE = MergeTree ORDER BY a")
            client.execute("INSERT INTO fuzzed (a, s, f) VALUES", rows)
            client.execute("SELECT s, count(), max(f) FROM fuzzed GROUP BY s ORDER BY s", settings={"max_threads": 2})
            client.disconnect()
        talks += _native(f"driver, owner, {compression}", recorder)
        with _recorded(server.native_port) as recorder:
            client = Client("127.0.0.1", recorder.port, user=reader[0], password=reader[1], compression=compression)
            outside = {"name": "given", "structure": [("a", "String"), ("n", "Nullable(UInt8)")], "data": []}
            outside["data"] = [{"a": "x", "n": 1}, {"a": "y", "n": None}]
            client.execute("SELECT * FROM given", external_tables=[outside])
            for refused in (f"SELECT * FROM file('{secret}')", "INSERT INTO kept_from_readers SELECT 2"):
                with contextlib.suppress(Exception):
                    client.execute(refused)
            client.execute("SELECT name FROM system.tables WHERE database = currentDatabase()")
            client.disconnect()
        talks += _native(f"driver, reader, {compression}", recorder)
    for user, password in (owner, reader):
        with _recorded(server.http_port) as recorder:
            http = clickhouse_connect.get_client(
                host="127.0.0.1", port=recorder.port, username=user, password=password, compress="lz4"
            )
            http.query("SELECT * FROM numbers(10)")
            if user == owner[0]:
                http.insert("fuzzed", rows, column_names=["a", "s", "f"])
            else:
                with contextlib.suppress(Exception):
                    http.query(f"SELECT * FROM file('{secret}')")
            http.close()
        talks += [Talk(f"connect, {user}", HTTP, b"".join(pieces)) for pieces in recorder.sent if pieces]
        curl = which("curl")
        if curl is not None:
            with _recorded(server.http_port) as recorder:
                url = f"http://127.0.0.1:{recorder.port}/?query=SELECT%20{{n:UInt8}}&param_n=7&max_threads=2"
                subprocess.run(
                    [curl, "-s", "-u", f"{user}:{password}", "--compressed", "-F", "a=b", url],
                    check=True,
                    capture_output=True,
                    timeout=20,
                )
            talks += [Talk(f"curl, {user}", HTTP, b"".join(pieces)) for pieces in recorder.sent if pieces]
    return talks


def _native(name: str, recorder: _Recorder) -> list[Talk]:
    # Clients wait for the answer to their greeting, so it is what came first.
    return [Talk(name, NATIVE, b"".join(pieces), len(pieces[0])) for pieces in recorder.sent if pieces]


def mutate(talk: Talk, chance: random.Random) -> bytes:
    """Other bytes than were recorded; in most of those of the native protocol the greeting stays whole."""
    start = talk.login if talk.login and chance.random() < 0.8 else 0
    kept, data = talk.sent[:start], bytearray(talk.sent[start:])
    for _ in range(chance.choice((1, 1, 2, 4, 12))):
        at = chance.randrange(len(data) + 1)
        length = min(len(data) - at, chance.choice((1, 2, 4, 8, 64, 1024)))
        what = chance.randrange(8)
        if what == 0 and length:
            data[at] ^= 1 << chance.randrange(8)
        elif what == 1 and length:
            data[at : at + length] = chance.randbytes(length)
        elif what == 2:
            data[at:at] = chance.choice(HUGE)
        elif what == 3 and length:
            data[at : at + 1] = chance.choice(HUGE)
        elif what == 4:
            data[at:at] = data[chance.randrange(len(data) + 1) :][: chance.choice((1, 16, 256, 4096))]
        elif what == 5:
            del data[at : at + length]
        elif what == 6:
            data[at:at] = chance.choice(WORDS)
        else:
            data[at : at + length] = chance.choice(WORDS)
    if chance.random() < 0.3:
        del data[chance.randrange(len(data) + 1) :]
    return kept + bytes(data)


def say(port: int, data: bytes, chance: random.Random, wait_s: float = 0.05) -> bytes:
    """Send, in one piece or several, and return what came back within a moment of the last."""
    got = b""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as peer:
        peer.settimeout(2)
        cut = chance.randrange(len(data) + 1) if chance.random() < 0.3 else len(data)
        peer.sendall(data[:cut])
        if cut < len(data):
            peer.sendall(data[cut:])
        how = chance.random()
        if how < 0.15:
            return got  # gone without waiting
        if how < 0.6:
            peer.shutdown(socket.SHUT_WR)
        peer.settimeout(wait_s)
        while len(got) < 1 << 20 and (piece := peer.recv(65_536)):
            got += piece
    return got
