"""Load for an HTTP edge, in a process of its own: keeps connections busy and times each answer.

``closed`` keeps every connection busy; ``open`` sends at a fixed rate and counts latency from the moment a request
was due, so that a server that stalls cannot hide it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import uuid
from collections import deque
from time import perf_counter
from typing import Any, Final, cast

import uvloop

SEED: Final = 20_260_302
CUSTOMERS: Final = 100_000


def make_events(count: int, seed: int = SEED) -> list[dict[str, Any]]:
    """Events as a company sends them: half interactions with rating and text, some surveys, purchases."""
    rng = random.Random(seed)
    events: list[dict[str, Any]] = []
    for _ in range(count):
        event: dict[str, Any] = {
            "event_id": str(uuid.UUID(int=rng.getrandbits(128), version=4)),
            "customer_id": f"C-{rng.randrange(CUSTOMERS)}",
            "occurred_at": f"2026-02-{rng.randint(1, 28):02d}T{rng.randint(0, 23):02d}:30:{rng.uniform(0, 59):09.6f}Z",
            "source": rng.choice(("crm", "shop", "helpdesk")),
        }
        sort = rng.random()
        if sort < 0.5:
            event |= {
                "kind": "interaction",
                "touchpoint": rng.choice(("support.phone", "support.chat", "store", "app.login")),
                "channel": rng.choice(("phone", "web", "app")),
                "outcome": rng.choice(("succeeded", "failed")),
                "metric": "csat",
                "rating": rng.randint(1, 5),
                "emotion": rng.choice(("frustrated", "pleased", "neglected")),
                "intensity": round(rng.uniform(0.1, 1), 2),
                "text": "I had to explain everything twice." if rng.random() < 0.3 else None,
            }
        elif sort < 0.7:
            event |= {
                "kind": "survey_response",
                "touchpoint": "delivery",
                "metric": "nps",
                "rating": rng.randint(0, 10),
            }
        else:
            event |= {
                "kind": "purchase",
                "touchpoint": "checkout",
                "channel": "web",
                "amount": f"{rng.uniform(5, 200):.2f}",
                "currency": "EUR",
                "attributes": {"order": f"O-{rng.randrange(10**6)}"},
            }
        events.append({name: value for name, value in event.items() if value is not None})
    return events


def make_requests(bodies: int, events_per_body: int, path: str) -> list[bytes]:
    """Whole HTTP requests, ready to be written; a body of one event is that event."""
    requests = []
    for number in range(bodies):
        events = make_events(events_per_body, SEED + number)
        body = json.dumps(events if events_per_body > 1 else events[0]).encode()
        head = (
            f"POST {path} HTTP/1.1\r\nHost: bench\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        requests.append(head.encode() + body)
    return requests


class Connection(asyncio.Protocol):
    """One kept-alive connection; reads answers with a Content-Length."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._received = bytearray()
        self._due: deque[float] = deque()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop has a class of its own

    @property
    def busy(self) -> int:
        return len(self._due)

    def send(self, request: bytes, due: float) -> None:
        assert self._transport is not None
        self._due.append(due)
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            head = bytes(self._received[:end]).lower()
            at = head.index(b"content-length:") + 15
            size = int(head[at:].split(b"\r\n", 1)[0])
            if len(self._received) < end + 4 + size:
                return
            del self._received[: end + 4 + size]
            self._load.answered(self, int(head[9:12]), self._due.popleft())

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class Load:
    """Drives connections for a while and keeps the latencies of answers with status 2xx."""

    def __init__(self, requests: list[bytes], *, rate: float | None) -> None:
        self._requests = requests
        self._rate = rate
        self._next = 0
        self._until = 0.0
        self.latencies_s: list[float] = []
        self.failed: dict[int, int] = {}

    def answered(self, connection: Connection, status: int, due: float) -> None:
        now = perf_counter()
        if 200 <= status < 300:
            if now <= self._until:
                self.latencies_s.append(now - due)
        else:
            self.failed[status] = self.failed.get(status, 0) + 1
        if self._rate is None and now < self._until:
            self._send(connection, now)

    def _send(self, connection: Connection, due: float) -> None:
        connection.send(self._requests[self._next % len(self._requests)], due)
        self._next += 1

    async def run(self, port: int, connections: int, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        pool = [
            (await loop.create_connection(lambda: Connection(self), "127.0.0.1", port))[1] for _ in range(connections)
        ]
        started = perf_counter()
        self._until = started + seconds
        if self._rate is None:
            for connection in pool:
                self._send(connection, perf_counter())
            await asyncio.sleep(seconds)
        else:
            sent = 0
            while (now := perf_counter()) < self._until:
                while sent < (now - started) * self._rate:
                    self._send(min(pool, key=lambda one: one.busy), started + sent / self._rate)
                    sent += 1
                await asyncio.sleep(0.001)
        deadline = perf_counter() + 30
        while any(connection.busy for connection in pool) and perf_counter() < deadline:
            await asyncio.sleep(0.01)
        for connection in pool:
            connection.close()


def main() -> None:
    """Run one load and print its figures as JSON."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", default="/v1/events")
    parser.add_argument("--events", type=int, required=True, help="events per request")
    parser.add_argument("--bodies", type=int, default=40, help="different requests, sent in turn")
    parser.add_argument("--connections", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--rate", type=float, help="requests per second; left out: as many as can be")
    options = parser.parse_args()
    load = Load(make_requests(options.bodies, options.events, options.path), rate=options.rate)
    uvloop.run(load.run(options.port, options.connections, options.seconds))
    latencies = sorted(load.latencies_s)
    figures = {
        "requests_per_s": len(latencies) / options.seconds,
        "events_per_s": len(latencies) * options.events / options.seconds,
        "p50_ms": latencies[len(latencies) // 2] * 1_000 if latencies else 0.0,
        "p99_ms": latencies[int(len(latencies) * 0.99)] * 1_000 if latencies else 0.0,
        "failed": load.failed,
    }
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
