"""Bytes that no client would send: they end their own connection and nothing else."""

from __future__ import annotations

import gzip
import os
import random
import socket
import struct
from pathlib import Path
from typing import Any

import psutil
import pytest
import zstandard

from infra.embedded.clickhouse.wire import string, varint

pytestmark = pytest.mark.stack

REVISION = 54453


def hello(user: str = "touchstone", password: str = "own er's", revision: int = REVISION) -> bytes:
    head = b"\x00" + string("test") + varint(20) + varint(1) + varint(revision)
    return head + string("") + string(user) + string(password)


def query(text: str, compressed: bool = False) -> bytes:
    info = b"\x01" + string("") * 2 + string("0.0.0.0:0") + b"\x00" * 8 + b"\x01" + string("") * 3
    info += varint(20) + varint(1) + varint(REVISION) + string("") + varint(0) + varint(0) + b"\x00" + varint(0) * 3
    tail = b"\x00" + string("") + varint(2) + varint(int(compressed)) + string(text)
    return b"\x01" + string("") + info + tail


READER = hello("analyst", "read")
EMPTY_BLOCK = b"\x02\x00" + b"\x01\x00\x02\xff\xff\xff\xff\x00" + b"\x00\x00"


def send(port: int, *parts: bytes, wait: bool = True) -> bytes:
    """Send and read until the server closes or says nothing more for a moment."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as peer:
        got = b""
        try:
            for part in parts:
                peer.sendall(part)
            if wait:
                peer.shutdown(socket.SHUT_WR)
                while piece := peer.recv(65536):
                    got += piece
        except (ConnectionResetError, BrokenPipeError):
            pass
        return got


def talk(port: int, wanted: bytes, *parts: bytes) -> bytes:
    """Send well-formed packets and read until `wanted` has come."""
    got = b""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as peer:
        for part in parts:
            peer.sendall(part)
        while wanted not in got:
            piece = peer.recv(65536)
            assert piece, f"the server closed the connection after {got!r}"
            got += piece
    return got


def alive(server: Any) -> None:
    assert server.process.poll() is None
    assert server.run("SELECT 1") == "1\n"
    assert server.client().execute("SELECT 1") == [(1,)]


def test_the_handwritten_client_itself_works(server: Any) -> None:
    got = talk(server.native_port, b"\x05found", hello(), query("SELECT 'found'"), EMPTY_BLOCK)
    assert b"ClickHouse" in got


def test_an_error_keeps_the_connection_and_its_session(server: Any) -> None:
    got = talk(
        server.native_port,
        b"size 97",
        hello(),
        query("SET max_block_size = 97") + EMPTY_BLOCK,
        query("SELECT * FROM nowhere") + EMPTY_BLOCK,
        query("SELECT concat('size ', toString(getSetting('max_block_size')))") + EMPTY_BLOCK,
    )
    assert b"UNKNOWN_TABLE" in got


HUGE = varint((1 << 63) + 5)
BLOCK = hello() + query("SELECT 1") + EMPTY_BLOCK[:-2]
FRAME = hello() + query("SELECT 1", True) + b"\x02\x00"
MALFORMED = {
    "no hello": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "huge name": b"\x00" + HUGE + b"x" * 100,
    "endless varint": b"\x00" + b"\xff" * 64,
    "too old": hello(revision=50000),
    "unknown packet": hello() + b"\x77",
    "huge query": hello() + query("SELECT 1")[:-9] + HUGE,
    "data without a query": hello() + EMPTY_BLOCK,
    "huge column count": BLOCK + HUGE + b"\x01",
    "huge rows": BLOCK + b"\x01" + HUGE + string("a") + string("UInt64") + b"x" * 64,
    "unknown type": BLOCK + b"\x01\x01" + string("a") + string("Wat(1"),
    "deep type": BLOCK + b"\x01\x01" + string("a") + string("Array(" * 5000 + "Int8" + ")" * 5000),
    "bad frame": FRAME + b"\x11" * 80,
    "huge frame": FRAME + b"\x00" * 16 + struct.pack("<BII", 0x82, 100, 1 << 30),
    "block info": hello() + query("SELECT 1") + b"\x02\x00\x63",
    "status of many tables": hello() + b"\x05" + HUGE,
}  # fmt: skip


@pytest.mark.parametrize("what", MALFORMED)
def test_malformed_packets_end_their_connection_only(server: Any, what: str) -> None:
    memory = psutil.Process(server.process.pid)
    before = memory.memory_info().rss
    send(server.native_port, MALFORMED[what])
    assert memory.memory_info().rss - before < 64 << 20
    alive(server)


def test_unfinished_and_broken_inserts_write_nothing(server: Any, table: Any, until: Any) -> None:
    name = table("a UInt64, s String")
    block = (
        EMPTY_BLOCK[:-2] + b"\x02\x02" + string("a") + string("UInt64") + b"\x01" + b"\x00" * 7 + b"\x02" + b"\x00" * 7
    )
    block += string("s") + string("String") + string("x") + string("y")
    begin = hello() + query(f"INSERT INTO {name} VALUES") + EMPTY_BLOCK
    for end in (block, block[:-1], block + block, block + b"\x63", block + b"\x02\x00\x63", block + b"\x03"):
        send(server.native_port, begin, end)
    running = f"SELECT count() FROM system.processes WHERE query LIKE 'INSERT INTO {name}%'"
    until(lambda: server.run(running) == "0\n")
    assert server.run(f"SELECT count() FROM {name}") == "0\n"
    send(server.native_port, begin, block, EMPTY_BLOCK)
    until(lambda: server.run(f"SELECT count() FROM {name}") == "2\n")


def test_the_type_of_an_external_table_is_no_way_around_the_gate(server: Any, tmp_path: Path) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("s3cr3t\n")
    for type_ in (f"Enum8('a' = 1)) ENGINE = File(CSV, '{secret}')", f"String) ENGINE = File(CSV, '{secret}') --"):
        outside = b"\x02" + string("t") + EMPTY_BLOCK[2:-2] + b"\x01\x00" + string("a") + string(type_)
        got = talk(server.native_port, b"DB::Exception", READER, query("SELECT * FROM t"), outside, EMPTY_BLOCK)
        assert b"s3cr3t" not in got
    outside = b"\x02" + string("t") + EMPTY_BLOCK[2:-2] + b"\x01\x01" + string("a") + string("String") + string("fine")
    talk(server.native_port, b"\x04fine", READER, query("SELECT * FROM t"), outside, EMPTY_BLOCK)


def test_random_and_mutated_bytes(server: Any) -> None:
    seed = int.from_bytes(os.urandom(4), "little")
    print(f"seed {seed}")
    chance = random.Random(seed)
    good = hello() + query("SELECT number FROM numbers(10)") + EMPTY_BLOCK + query("SELECT 1") + EMPTY_BLOCK
    for _ in range(60):
        send(server.native_port, chance.randbytes(chance.randrange(1, 400)))
        broken = bytearray(good)
        for _ in range(chance.randrange(1, 6)):
            broken[chance.randrange(len(broken))] = chance.randrange(256)
        send(server.native_port, bytes(broken[: chance.randrange(1, len(broken) + 1)]))
        send(server.http_port, chance.randbytes(chance.randrange(1, 400)))
    alive(server)


def test_bombs_over_http(server: Any) -> None:
    memory = psutil.Process(server.process.pid)
    before = memory.memory_info().rss
    zeros = bytes(256 << 20)
    for encoding, body in (("gzip", gzip.compress(zeros, 1)), ("zstd", zstandard.ZstdCompressor().compress(zeros))):
        response = server.http(None, body, reader=True, headers={"Content-Encoding": encoding})
        assert response.status_code == 400
    assert memory.memory_info().rss - before < 200 << 20
    alive(server)
