"""Requests made from the OpenAPI description, against the served app: what it says is what is done.

`OPENAPI_EXAMPLES=5000 pytest tests/integration/ingest/test_openapi_description.py` looks longer.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest
import schemathesis
import uvicorn
from hypothesis import HealthCheck, Phase, assume, given, settings
from schemathesis import GenerationMode

from infra.guarded_http import guarded
from services.ingest.app import Edge, make_app
from services.ingest.metrics import Metrics
from services.ingest.openapi import openapi_document
from services.ingest.settings import IngestSettings
from services.ingest.writer import Writer
from tests.fakes.log import BusyError, FakeLog

EXAMPLES = int(os.environ.get("OPENAPI_EXAMPLES", "25"))
START_S = 20.0


class _Server(uvicorn.Server):
    """Reports the port it was given."""

    @property
    def port(self) -> int:
        port: int = self.servers[0].sockets[0].getsockname()[1]
        return port


def _ok(result: Any) -> Any:
    return result.ok()


@pytest.fixture(scope="module")
def served() -> Iterator[str]:
    """Address of ingest over a log in memory."""
    metrics = Metrics()
    writer = Writer(FakeLog(), busy=BusyError, delivery_timeout_s=5, metrics=metrics)
    app = make_app(Edge(SETTINGS, writer, metrics), writer, SETTINGS)
    server = _Server(
        uvicorn.Config(app, host="127.0.0.1", port=0, http=guarded(5.0), ws="none", lifespan="on", log_level="warning")
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + START_S
    while not server.started:
        assert time.monotonic() < deadline
        assert thread.is_alive()
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.port}"
    server.should_exit = True
    thread.join(START_S)
    assert not thread.is_alive()


SETTINGS = IngestSettings(receive_timeout_s=5, max_future_s=10**12)
"""A description cannot say what lies too far ahead of now."""

SCHEMA = schemathesis.openapi.from_dict(openapi_document(SETTINGS.limits, with_keys=False))
OPERATIONS = {f"{operation.method} {operation.path}": operation for operation in map(_ok, SCHEMA.get_all_operations())}
ALLOWANCE = settings(
    max_examples=EXAMPLES,
    suppress_health_check=list(HealthCheck),
    derandomize=EXAMPLES <= 100,  # the short run is the same every time
    database=None,
    phases=[Phase.generate],  # what fails is small enough to read
)


def describable(body: Any) -> bool:
    """JSON Schema cannot say of a double that it has six decimals: multipleOf refuses some that have."""
    events = body if isinstance(body, list) else [body]
    amounts = [
        event["amount"] for event in events if isinstance(event, dict) and isinstance(event.get("amount"), float)
    ]
    return all(round(amount, 6) == amount for amount in amounts)


def check(case: Any, url: str) -> None:
    case.call_and_validate(base_url=url, timeout=20)


MADE = [
    (name, mode) for name in OPERATIONS for mode in GenerationMode if "/v1/" in name or mode is GenerationMode.POSITIVE
]
"""Those that take nothing cannot be asked wrongly but by their edges."""


@pytest.mark.parametrize(("name", "mode"), MADE, ids=str)
def test_answers_are_as_described(served: str, name: str, mode: GenerationMode) -> None:
    operation = OPERATIONS[name]

    @ALLOWANCE
    @given(case=operation.as_strategy(generation_mode=mode))
    def run(case: Any) -> None:
        assume(mode is GenerationMode.NEGATIVE or describable(case.body))
        check(case, served)

    run()


@pytest.mark.parametrize("name", OPERATIONS)
def test_edges_of_the_description_are_answered_as_described(served: str, name: str) -> None:
    """Smallest, largest, missing, of another type, one by one for each member."""
    cases = SCHEMA.iter_coverage_cases(
        OPERATIONS[name], generation_modes=list(GenerationMode), generation_config=SCHEMA.config.generation
    )
    for case in islice(cases, 4 * EXAMPLES):
        check(case, served)
