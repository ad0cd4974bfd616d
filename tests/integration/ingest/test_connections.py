"""Connections that behave badly, and starts that must not happen. Needs no Kafka: nothing is accepted here."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import httpx
import pytest

Start = Callable[..., Any]
NOWHERE = "127.0.0.1:1"
HEAD = b"POST /v1/events HTTP/1.1\r\nHost: edge\r\n"


def answer(port: int, *parts: bytes, wait_s: float = 20) -> bytes:
    """Send the parts, then read until the other side closes."""
    with closing(socket.create_connection(("127.0.0.1", port), timeout=wait_s)) as connection:
        for part in parts:
            connection.sendall(part)
        received = b""
        try:
            while chunk := connection.recv(65_536):
                received += chunk
        except ConnectionResetError:
            pass
        return received


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}x",
        b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n",
        b"Content-Length: -1\r\n\r\n",
        b"No colon here\r\n\r\n",
        b"X: " + b"x" * 40_000 + b"\r\n\r\n",
        b"".join(b"X-%d: y\r\n" % n for n in range(5_000)) + b"\r\n",
    ],
    ids=["two lengths", "length and chunks", "bad chunk", "negative", "no colon", "long header", "many headers"],
)
def test_a_head_that_means_two_things_is_400_and_close(alone: Any, head: bytes) -> None:
    received = answer(alone.port, HEAD + head)
    assert received.split(b"\r\n")[0].split()[1:2] == [b"400"] or received == b""
    assert httpx.get(f"{alone.url}/health/live").status_code == 200


def test_silence_is_cut_off(start: Start) -> None:
    ingest = start(NOWHERE, TOUCHSTONE_INGEST_RECEIVE_TIMEOUT_S=1)
    for sent in (b"", HEAD, b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n" + HEAD):
        started = time.monotonic()
        answer(ingest.port, sent)
        assert 0.5 < time.monotonic() - started < 10
    slow_body = answer(ingest.port, HEAD + b"Content-Length: 100\r\n\r\n{")
    assert slow_body.startswith(b"HTTP/1.1 408")
    assert b"connection: close" in slow_body.lower()


def test_idle_sockets_do_not_keep_others_out(alone: Any) -> None:
    idle = [socket.create_connection(("127.0.0.1", alone.port)) for _ in range(300)]
    try:
        assert httpx.get(f"{alone.url}/health/live", timeout=5).status_code == 200
    finally:
        for connection in idle:
            connection.close()


def test_without_kafka_it_lives_is_not_ready_and_says_503(start: Start) -> None:
    ingest = start(NOWHERE, TOUCHSTONE_INGEST_DELIVERY_TIMEOUT_S=1)
    ready = httpx.get(f"{ingest.url}/health/ready", timeout=20)
    assert ready.status_code == 503
    assert NOWHERE in ready.json()["detail"]
    event = {
        "event_id": "1",
        "customer_id": "C",
        "occurred_at": "2026-03-02T09:14:05Z",
        "source": "test",
        "kind": "referral",
        "touchpoint": "store",
    }
    response = httpx.post(f"{ingest.url}/v1/events", content=json.dumps(event), timeout=20)
    assert response.status_code == 503
    assert response.json()["results"][0]["verdict"] == "retry"


def test_it_will_not_listen_elsewhere_without_keys(start: Start) -> None:
    ingest = start(NOWHERE, wait=False, TOUCHSTONE_INGEST_HOST="0.0.0.0")
    assert ingest.process.wait(20) == 2
    assert "TOUCHSTONE_API_KEYS" in ingest.log_path.read_text()


def test_a_taken_port_is_a_clear_message(alone: Any, start: Start) -> None:
    second = start(NOWHERE, wait=False, TOUCHSTONE_INGEST_PORT=alone.port)
    try:
        assert second.process.wait(20) != 0
    except subprocess.TimeoutExpired:
        pytest.fail("it did not end")
    text = second.log_path.read_text()
    assert "address already in use" in text
    assert str(alone.port) in text
