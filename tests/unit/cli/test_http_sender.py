"""Batches reach ingest once each, whatever it answers at first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import orjson
import pytest

from services.cli import http_sender
from services.cli.console import CommandError, ExitCode
from services.cli.http_sender import Sender, Sent

Answer = Callable[[list[dict[str, Any]]], httpx.Response]


def events(count: int) -> Iterator[dict[str, Any]]:
    return ({"event_id": str(number)} for number in range(count))


def verdicts(status: int, words: list[str], **headers: str) -> httpx.Response:
    results = [{"verdict": word, "reason": "unknown_kind" if word == "drop" else None} for word in words]
    return httpx.Response(status, headers=headers, content=orjson.dumps({"results": results, "detail": "d"}))


def all_good(batch: list[dict[str, Any]]) -> httpx.Response:
    return verdicts(202, ["ok"] * len(batch))


class Ingest:
    """Answers requests by a script, then accepts; remembers what it accepted."""

    def __init__(self, *script: Answer) -> None:
        self.script = list(script)
        self.requests: list[list[str]] = []
        self.keys: set[str | None] = set()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        batch = orjson.loads(request.content)
        self.keys.add(request.headers.get("authorization"))
        self.requests.append([event["event_id"] for event in batch])
        return (self.script.pop(0) if self.script else all_good)(batch)

    def send(self, count: int, **options: Any) -> Sent:
        sender = Sender("http://ingest", transport=httpx.MockTransport(self), **options)
        return sender.send(events(count), lambda sent: None)


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_sender, "FIRST_WAIT_S", 0.0)


def test_all_events_are_sent_once_in_batches() -> None:
    ingest = Ingest()
    sent = ingest.send(1234, batch_events=500, connections=3)
    assert (sent.sent, sent.accepted, sent.refused, sent.retries) == (1234, 1234, 0, 0)
    assert sorted(map(len, ingest.requests)) == [234, 500, 500]
    assert sorted(sum(ingest.requests, []), key=int) == [str(number) for number in range(1234)]  # noqa: RUF017


def test_refused_events_are_counted_by_reason_and_not_sent_again() -> None:
    ingest = Ingest(lambda batch: verdicts(202, ["ok", "drop", "warning"]))
    sent = ingest.send(3)
    assert (sent.sent, sent.accepted, sent.refused) == (3, 2, 1)
    assert sent.reasons == {"unknown_kind": 1}
    assert len(ingest.requests) == 1


def test_a_batch_of_which_nothing_was_taken_is_final() -> None:
    sent = Ingest(lambda batch: verdicts(422, ["drop"] * len(batch))).send(2)
    assert (sent.sent, sent.refused) == (2, 2)


def test_only_what_may_be_sent_again_is_sent_again() -> None:
    ingest = Ingest(lambda batch: verdicts(503, ["ok", "retry", "drop"], **{"retry-after": "0"}))
    sent = ingest.send(3)
    assert ingest.requests == [["0", "1", "2"], ["1"]]
    assert (sent.accepted, sent.refused, sent.retries) == (2, 1, 1)


@pytest.mark.parametrize("status", [408, 429, 503])
def test_a_request_that_was_not_looked_at_is_sent_again(status: int) -> None:
    ingest = Ingest(lambda batch: httpx.Response(status, headers={"retry-after": "0"}))
    assert ingest.send(2).accepted == 2
    assert ingest.requests == [["0", "1"], ["0", "1"]]


def test_a_broken_connection_is_tried_again() -> None:
    def breaks(batch: list[dict[str, Any]]) -> httpx.Response:
        raise httpx.ReadError("connection reset")

    assert Ingest(breaks, breaks).send(2).accepted == 2


def test_retry_after_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_sender, "MAX_WAIT_S", 0.01)
    asked: list[float | None] = []
    real = http_sender._retry_after_s

    def note(answer: httpx.Response) -> float | None:
        asked.append(real(answer))
        return asked[-1]

    monkeypatch.setattr(http_sender, "_retry_after_s", note)
    Ingest(lambda batch: httpx.Response(503, headers={"retry-after": "7"})).send(1)
    assert asked == [7.0]


def test_patience_ends_with_a_message() -> None:
    ingest = Ingest(*[lambda batch: httpx.Response(503, content=b'{"detail": "Kafka is away"}')] * 3)
    with pytest.raises(CommandError, match=r"http://ingest did not take the events.*Kafka is away") as raised:
        ingest.send(1, patience_s=0.0)
    assert raised.value.code is ExitCode.UNREACHABLE


def test_a_request_that_is_wrong_as_a_whole_ends_the_sending() -> None:
    ingest = Ingest(lambda batch: httpx.Response(401, content=b'{"detail": "A key is needed."}'))
    with pytest.raises(CommandError, match=r"401: A key is needed") as raised:
        ingest.send(1000)
    assert raised.value.code is ExitCode.NO


def test_nobody_listening_is_said_at_once() -> None:
    with pytest.raises(CommandError, match=r"cannot be reached.*touchstone up") as raised:
        Sender("http://127.0.0.1:9").require_listener()
    assert raised.value.code is ExitCode.UNREACHABLE


def test_the_key_is_sent() -> None:
    ingest = Ingest()
    ingest.send(1, api_key="k" * 16)
    assert ingest.keys == {f"Bearer {'k' * 16}"}


def test_the_rate_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    Ingest().send(400, batch_events=100, connections=1, rate=1000.0)
    assert slept[0] == 0.0
    assert slept[-1] == pytest.approx(0.3, abs=0.1)
