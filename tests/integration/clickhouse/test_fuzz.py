"""Mutated conversations on both ports: the server lives, keeps nothing of them, and gives nothing away.

`CLICKHOUSE_FUZZ_S=180 pytest -s tests/integration/clickhouse/test_fuzz.py` looks longer; `CLICKHOUSE_FUZZ_SEED` again.
"""

from __future__ import annotations

import os
import random
import socket
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.integration.clickhouse.fuzz import HTTP, NATIVE, Talk, mutate, record, say

pytestmark = pytest.mark.stack

SECONDS = float(os.environ.get("CLICKHOUSE_FUZZ_S", "6"))
SEED = int(os.environ.get("CLICKHOUSE_FUZZ_SEED", "0")) or int.from_bytes(os.urandom(4), "little")
SECRET = "s3cr3t-of-the-machine"
OWNER = ("touchstone", "own er's")
READER = ("analyst", "read")


@pytest.fixture(scope="module")
def talks(server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Talk]]:
    secret = tmp_path_factory.mktemp("secret") / "secret.csv"
    secret.write_text(f"{SECRET}\n")
    server.run("CREATE TABLE kept_from_readers (a UInt8) ENGINE = MergeTree ORDER BY a")
    server.run("INSERT INTO kept_from_readers VALUES (1)")
    yield record(server, OWNER, READER, str(secret))
    server.run("DROP TABLE IF EXISTS fuzzed SYNC")
    server.run("DROP TABLE IF EXISTS kept_from_readers SYNC")


def healthy(server: Any) -> None:
    assert server.process.poll() is None, "the server ended"
    assert server.run("SELECT 1") == "1\n"
    client = server.client()
    assert client.execute("SELECT 1") == [(1,)]
    client.disconnect()


def test_mutated_conversations(server: Any, talks: list[Talk], until: Any) -> None:
    print(f"CLICKHOUSE_FUZZ_SEED={SEED}, {len(talks)} conversations")
    assert {talk.port for talk in talks} == {NATIVE, HTTP}
    chance = random.Random(SEED)
    process = psutil.Process(server.process.pid)
    ports = {NATIVE: server.native_port, HTTP: server.http_port}

    def attack() -> None:
        talk = chance.choice(talks)
        if chance.random() < 0.05:
            port, data = chance.choice(list(ports.values())), chance.randbytes(chance.randrange(1, 2_000))
        else:
            port, data = ports[talk.port], mutate(talk, chance)
        answer = say(port, data, chance)
        said[talk.port, "answered" if answer else "closed"] += 1
        assert SECRET.encode() not in answer, data

    said: Counter[tuple[str, str]] = Counter()
    for _ in range(60):  # what a server keeps for good, it has by then
        attack()
    healthy(server)
    connections, threads, rss = process.num_fds(), process.num_threads(), process.memory_info().rss
    deadline, tried = time.monotonic() + SECONDS, 0
    while time.monotonic() < deadline:
        for _ in range(25):
            attack()
        tried += 25
        healthy(server)
    assert server.run("SELECT groupArray(a) FROM kept_from_readers") == "[1]\n"
    until(lambda: process.num_fds() <= connections + 40, 30.0)
    until(lambda: process.num_threads() <= threads + 40, 30.0)
    grown = process.memory_info().rss - rss
    print(
        f"{tried} attacks: {dict(said)}; descriptors {process.num_fds() - connections:+}, "
        f"threads {process.num_threads() - threads:+}, memory {grown / 2**20:+.0f} MiB"
    )
    assert grown < 256 << 20


def test_who_does_not_log_in_is_cut_off(start: Any, talks: list[Talk], tmp_path: Path) -> None:
    """A deadline for each byte would let one client hold a connection for hours, and a few all there are."""
    server = start(tmp_path / "data", TOUCHSTONE_CLICKHOUSE_MAX_CONNECTIONS="20")
    beginnings = {
        port: next(talk.sent for talk in talks if talk.port == kind)
        for port, kind in ((server.native_port, NATIVE), (server.http_port, HTTP))
    }
    peers: dict[socket.socket, Iterator[int]] = {}
    for port, sent in beginnings.items():
        for number in range(30):
            peer = socket.create_connection(("127.0.0.1", port), timeout=5)
            peers[peer] = iter(sent[:15] + b"A" * 1_000 if number % 2 else b"")
    left = list(peers)
    deadline = time.monotonic() + 25
    while left:
        assert time.monotonic() < deadline, f"{len(left)} are still listened to"
        for peer in list(left):
            try:
                peer.sendall(bytes([byte for byte in [next(peers[peer], None)] if byte is not None]))
                peer.settimeout(0.005)
                if peer.recv(65_536) == b"":
                    left.remove(peer)
            except TimeoutError:
                continue
            except OSError:
                left.remove(peer)
    for peer in peers:
        peer.close()
    healthy(server)
