"""Events to ingest over HTTP: batches on a few connections, with patience when it asks for some."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
import orjson
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_delay

from services.cli.console import CommandError, ExitCode

EVENTS_PATH: Final = "/v1/events"
LIVE_PATH: Final = "/health/live"
TIMEOUT_S: Final = 30.0
CONNECT_TIMEOUT_S: Final = 5.0
FIRST_WAIT_S: Final = 0.5
MAX_WAIT_S: Final = 10.0
REFUSALS_KEPT: Final = 5
_NOT_NOW: Final = frozenset({408, 429, 503})

Event = dict[str, Any]


@dataclass(slots=True)
class Sent:
    """What became of the events so far: sent = accepted + refused."""

    sent: int = 0
    accepted: int = 0
    refused: int = 0
    retries: int = 0
    """Requests that had to be sent again."""
    reasons: Counter[str] = field(default_factory=Counter)
    refusals: list[dict[str, Any]] = field(default_factory=list)
    """The first few verdicts of refused events."""


class _NotNowError(Exception):
    """Ingest asks to come back later, or cannot be reached."""

    def __init__(self, why: str, wait_s: float | None) -> None:
        super().__init__(why)
        self.wait_s = wait_s


@dataclass(frozen=True, slots=True)
class Sender:
    """Where and how to send. ``patience_s``: how long one batch is tried before the sending stops."""

    url: str
    batch_events: int = 500
    connections: int = 4
    patience_s: float = 60.0
    rate: float | None = None
    """Events per second at most; None for as fast as it goes."""
    api_key: str | None = None
    transport: httpx.AsyncBaseTransport | None = None

    def require_listener(self) -> None:
        """CommandError at once when nobody listens: patience is for an ingest that restarts, not for none."""
        try:
            with httpx.Client(base_url=self.url, timeout=CONNECT_TIMEOUT_S) as client:
                client.get(LIVE_PATH)
        except httpx.TransportError as error:
            raise CommandError(
                f"ingest at {self.url} cannot be reached: {error}. `touchstone up` starts it; "
                "TOUCHSTONE_INGEST_HOST and TOUCHSTONE_INGEST_PORT say where it is",
                ExitCode.UNREACHABLE,
            ) from error

    def send(self, events: Iterable[Event], on_progress: Callable[[Sent], None]) -> Sent:
        """Send all; ``on_progress`` is called after each batch. CommandError when ingest cannot be reached."""
        return asyncio.run(self._send(events, on_progress))

    async def _send(self, events: Iterable[Event], on_progress: Callable[[Sent], None]) -> Sent:
        sent = Sent()
        batches = _batches(events, self.batch_events)
        pace = _Pace(self.rate)
        headers = {"content-type": "application/json"}
        if self.api_key is not None:
            headers["authorization"] = f"Bearer {self.api_key}"
        limits = httpx.Limits(max_connections=self.connections, max_keepalive_connections=self.connections)
        async with httpx.AsyncClient(
            base_url=self.url, headers=headers, timeout=TIMEOUT_S, limits=limits, transport=self.transport
        ) as client:

            async def work() -> None:
                # Workers share one iterator; taking from it never awaits, so no batch is taken twice.
                for batch in batches:
                    await pace.wait(len(batch))
                    await self._post(client, batch, sent)
                    on_progress(sent)

            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(self.connections):
                        group.create_task(work())
            except* CommandError as errors:
                raise errors.exceptions[0] from None
        return sent

    async def _post(self, client: httpx.AsyncClient, batch: Sequence[Event], sent: Sent) -> None:
        """One batch until every event of it has a final verdict."""
        left = list(batch)

        def again(_: RetryCallState) -> None:
            sent.retries += 1

        try:
            async for attempt in AsyncRetrying(
                retry=retry_if_exception_type(_NotNowError),
                wait=_wait_s,
                stop=stop_after_delay(self.patience_s),
                before_sleep=again,
                reraise=True,
            ):
                with attempt:
                    await self._try(client, left, sent)
        except _NotNowError as error:
            raise CommandError(
                f"ingest at {self.url} did not take the events within {self.patience_s:.0f} s: {error}. "
                f"{sent.accepted:,} were accepted. Does it run? `touchstone status`",
                ExitCode.UNREACHABLE,
            ) from error

    async def _try(self, client: httpx.AsyncClient, left: list[Event], sent: Sent) -> None:
        """Send; what gets a final verdict is counted and taken out of ``left``. `_NotNowError` if any stays."""
        try:
            answer = await client.post(EVENTS_PATH, content=orjson.dumps(left))
        except httpx.TransportError as error:
            raise _NotNowError(str(error) or type(error).__name__, None) from error
        document = _json(answer)
        results = document.get("results")
        if isinstance(results, list) and len(results) == len(left):
            left[:] = _count(left, results, sent)
            if not left:
                return
        if answer.status_code in _NOT_NOW:
            raise _NotNowError(str(document.get("detail") or answer.status_code), _retry_after_s(answer))
        raise CommandError(
            f"ingest at {self.url} refuses the request with {answer.status_code}: "
            f"{document.get('detail') or answer.text[:200]}",
            ExitCode.NO,
        )


class _Pace:
    """Lets events through at a rate, evenly."""

    def __init__(self, rate: float | None) -> None:
        self._rate = rate
        self._next_s: float | None = None

    async def wait(self, events: int) -> None:
        if self._rate is None:
            return
        now_s = asyncio.get_running_loop().time()
        at_s = now_s if self._next_s is None else max(self._next_s, now_s)
        self._next_s = at_s + events / self._rate
        await asyncio.sleep(at_s - now_s)


def _batches(events: Iterable[Event], size: int) -> Iterator[list[Event]]:
    iterator = iter(events)
    while batch := list(itertools.islice(iterator, size)):
        yield batch


def _count(batch: Sequence[Event], results: Sequence[Any], sent: Sent) -> list[Event]:
    """Count final verdicts; return the events to send again."""
    left = []
    for event, result in zip(batch, results, strict=True):
        verdict = result.get("verdict")
        if verdict == "retry":
            left.append(event)
            continue
        sent.sent += 1
        if verdict in ("ok", "warning"):
            sent.accepted += 1
        else:
            sent.refused += 1
            sent.reasons[str(result.get("reason"))] += 1
            if len(sent.refusals) < REFUSALS_KEPT:
                sent.refusals.append(result)
    return left


def _json(answer: httpx.Response) -> dict[str, Any]:
    try:
        document = orjson.loads(answer.content)
    except orjson.JSONDecodeError:
        return {}
    return document if isinstance(document, dict) else {}


def _retry_after_s(answer: httpx.Response) -> float | None:
    value = answer.headers.get("retry-after", "")
    return float(value) if value.isdecimal() else None


def _wait_s(state: RetryCallState) -> float:
    """What ingest asked for, else twice as long each time."""
    error = state.outcome.exception() if state.outcome is not None else None
    asked_s = error.wait_s if isinstance(error, _NotNowError) else None
    return min(MAX_WAIT_S, asked_s if asked_s is not None else FIRST_WAIT_S * 2 ** (state.attempt_number - 1))
