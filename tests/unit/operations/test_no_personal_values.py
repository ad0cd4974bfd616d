"""What the worker and the edge log when things go wrong with somebody's data in hand, in either form."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
import numpy as np
import pytest

from infra.clickhouse.errors import of_code
from infra.logs.formats import JsonLines, TextLines
from services.ingest import app as edge
from services.ingest.main import make_server
from services.ingest.settings import IngestSettings
from services.scoring.record_batches.app import RecordBatchApp, StreamOptions, build_app
from services.scoring.record_batches.batch import RecordBatch
from services.scoring.reviews import Reviews
from services.scoring.shell import Effect, Shell, ShellLimits
from tests.fakes.stream import FakeTables, FakeTopics, TablesDownError, event, make_core

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # kafka-python reads its files in an old way
    from infra.kafka.follow import Followed, Follower

PERSON = "Xaviera-Quillfeather"
LIMITS = ShellLimits(max_unwritten_records=1000, min_write_interval_s=0.0, retry_s=0.0)


class Both:
    """All that is logged, in both forms."""

    def __init__(self) -> None:
        self.json, self.text = io.StringIO(), io.StringIO()
        self.handlers = [logging.StreamHandler(self.json), logging.StreamHandler(self.text)]
        for handler, formatter in zip(self.handlers, (JsonLines(), TextLines()), strict=True):
            handler.setFormatter(formatter)

    def messages(self) -> list[str]:
        """After a look that nobody's name is in any line."""
        for text in (self.json.getvalue(), self.text.getvalue()):
            assert PERSON not in text
            assert PERSON.encode().hex() not in text
        return [json.loads(line)["message"] for line in self.json.getvalue().splitlines()]


@pytest.fixture
def logs() -> Iterator[Both]:
    both = Both()
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.DEBUG)
    for handler in both.handlers:
        root.addHandler(handler)
    yield both
    for handler in both.handlers:
        root.removeHandler(handler)
    root.setLevel(level)


def batch(acknowledged: list[int]) -> RecordBatch:
    values: list[bytes | None] = [
        event("a", f"C-{PERSON}", text=f"{PERSON} was here"),
        PERSON.encode(),
        event("b", f"C-{PERSON}", kind="complaint_opened", outcome=None, case_id=PERSON),
        None,
    ]

    def acknowledge(serial: int) -> bool:
        acknowledged.append(serial)
        return True

    offsets = np.arange(len(values), dtype=np.int64)
    key = PERSON.encode()
    return RecordBatch("touchpoints", 0, 0, 3, offsets, [key] * 4, values, [1_760_000_000_000] * 4, 1, acknowledge)


SERVER_SAYS = of_code(
    241, f"Memory limit exceeded: while executing SELECT ... IN ('C-{PERSON}')", "ClickHouse at h:9000"
)


class OutsideError(TablesDownError):
    """Not one of ours, with a text that quotes."""


@pytest.mark.parametrize("trouble", [SERVER_SAYS, OutsideError(f"row ('C-{PERSON}', ...)")])
async def test_a_worker_whose_tables_fail(logs: Both, trouble: Exception) -> None:
    tables = FakeTables()
    observed: list[Effect] = []
    acknowledged: list[int] = []
    shell = Shell(
        make_core(tables),
        tables,
        FakeTopics([]),
        LIMITS,
        (TablesDownError, type(SERVER_SAYS)),
        lambda effect, _: observed.append(effect),
    )
    tables.failures += [trouble]
    await shell.handle([batch(acknowledged)])
    tables.failures += [trouble] * 4
    task = asyncio.create_task(shell.run())
    async with asyncio.timeout(10):
        while Effect.ACKNOWLEDGED not in observed:
            await asyncio.sleep(0.001)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert acknowledged
    assert len(tables.rejected) == 2, "one is junk and one is empty"
    said = logs.messages()
    assert any("could not be read, trying again" in message for message in said)
    assert any("could not be written, trying again" in message for message in said)
    assert any("MEMORY_LIMIT_EXCEEDED (241)" in message for message in said) == (trouble is SERVER_SAYS)


async def test_an_app_that_stops_by_an_error_with_data_in_it(logs: Both) -> None:
    app = offline_app()
    await app.fail(ValueError(f"cannot cast {PERSON}"))
    logging.getLogger("services.scoring.record_batches.worker").critical(
        "the worker stopped: %r", app.crash_reason, exc_info=app.crash_reason
    )
    assert any("the worker stopped: ValueError" in message for message in logs.messages())


def offline_app() -> RecordBatchApp:
    class Nobody:
        async def on_partitions_revoked(self, revoked: set[Any]) -> None: ...
        async def on_partitions_assigned(self, assigned: set[Any]) -> None: ...

    async def handle(batches: list[RecordBatch]) -> None: ...

    return build_app(StreamOptions("127.0.0.1:1", "touchpoints", "g"), handle, Nobody())


def test_a_batch_shows_no_record(logs: Both) -> None:
    logging.getLogger("faust").warning("in hand: %r", batch([]))
    assert "RecordBatch(topic='touchpoints'" in logs.messages()[0]


async def test_reviews_that_cannot_be_looked_up(logs: Both) -> None:
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()

    def crossings(partitions: Sequence[int], limit: int) -> Sequence[tuple[str, int, int]]:
        loop.call_soon_threadsafe(asked.set)
        raise OutsideError(f"customer {PERSON}")

    reviews = Reviews(crossings, _publish, lambda: frozenset({0}), lambda: False, lambda: 0, 3600, (TablesDownError,))
    task = asyncio.create_task(reviews.run())
    async with asyncio.timeout(10):
        await asked.wait()
        while "no reviews" not in logs.text.getvalue():
            await asyncio.sleep(0.001)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert any("no reviews this time: OutsideError" in message for message in logs.messages())


def _publish(customers: Sequence[str], values: Sequence[bytes], timestamp_ms: int) -> None:
    raise AssertionError("nothing was found")


def test_refusals_that_cannot_be_kept(logs: Both) -> None:
    def refuse(records: Sequence[Followed]) -> None:
        raise OutsideError(f"cannot insert {records}")

    follower = Follower("127.0.0.1:1", "rejected", "g", refuse)

    def read() -> None:
        follower._ending.set()
        refuse([Followed(0, 1, 2, PERSON.encode())])

    follower._read = read  # type: ignore[method-assign]
    follower._run()
    assert logs.messages() == ["topic rejected cannot be followed for now: OutsideError"]


@pytest.mark.parametrize("crash", [ValueError(PERSON), KeyError(PERSON), RuntimeError(f"event {PERSON}")])
async def test_an_edge_that_crashes(logs: Both, crash: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def admit(*_: object, **__: object) -> None:
        raise crash

    monkeypatch.setattr(edge, "admit", admit)
    server = make_server(IngestSettings(port=0, kafka_bootstrap="127.0.0.1:1", log_level="debug"))
    transport = httpx.ASGITransport(server.config.app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://edge") as client:
        answer = await client.post("/v1/events", content=json.dumps({"customer_id": PERSON}))
    assert answer.status_code == 500
    assert PERSON not in answer.text
    assert "request failed" in logs.messages()
