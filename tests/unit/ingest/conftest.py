"""An edge in front of a log that a test holds in its hands."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from services.ingest.app import Edge, make_app
from services.ingest.metrics import Metrics
from services.ingest.settings import IngestSettings
from services.ingest.writer import Writer
from tests.fakes.log import BusyError, FakeLog

NOW_US = 1_772_443_245_000_000  # 2026-03-02T09:20:45Z


class Bench:
    """An edge before a `FakeLog`."""

    def __init__(self) -> None:
        self.log = FakeLog()
        self.metrics = Metrics()

    @asynccontextmanager
    async def client(self, **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
        configured = IngestSettings(**{"receive_timeout_s": 5, **settings})
        timeout_s = settings.get("delivery_timeout_s", 5)
        writer = Writer(self.log, busy=BusyError, delivery_timeout_s=timeout_s, metrics=self.metrics)
        edge = Edge(configured, writer, self.metrics, now_us=lambda: NOW_US)
        app = make_app(edge, writer, configured)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://edge") as client,
        ):
            yield client

    def count(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"touchstone_ingest_{name}", labels) or 0.0


@pytest.fixture
def bench() -> Bench:
    return Bench()
