"""The HTTP shell: bodies in, verdicts out; 202 only after the log has acknowledged what it speaks of."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Hashable
from time import perf_counter
from typing import Any, Final

import orjson
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from schemas.reasons import Reason, Verdict
from services.ingest import encodings
from services.ingest.admit import LINE_TYPES, Admission, RefusedBodyError, admit
from services.ingest.docs_page import docs_page
from services.ingest.keys import KeyRing, sender_at
from services.ingest.metrics import Metrics
from services.ingest.openapi import openapi_document
from services.ingest.problems import MEDIA_TYPE, errors_of, problem, status_of
from services.ingest.rates import Excess, Rates
from services.ingest.settings import IngestSettings
from services.ingest.writer import Writer

_log: Final = logging.getLogger(__name__)

EVENTS_PATH: Final = "/v1/events"

_JSON: Final = "application/json"
_READY_TIMEOUT_S: Final = 2.0
_CLOSE: Final = {"connection": "close"}
"""For answers given before the body was read: what is still on the wire is not a request."""


class _AnswerError(Exception):
    """An answer other than 202, on its way out of the handler."""

    def __init__(self, status: int, code: str, detail: str, **headers: str) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail, self.headers = status, code, detail, headers


class Edge:
    """Takes requests. ``now_us`` is the clock: UTC microseconds; ``elapsed_ns`` never goes back."""

    def __init__(
        self,
        settings: IngestSettings,
        writer: Writer,
        metrics: Metrics,
        *,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1_000,
        elapsed_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._settings = settings
        self._limits = settings.limits
        self._keys = KeyRing(settings.keys())
        self._writer = writer
        self._metrics = metrics
        self._rates = Rates(settings.key_rate, settings.overall_rate)
        self._now_us = now_us
        self._elapsed_ns = elapsed_ns
        self._inflight_bytes = 0
        self._inflight_requests = 0
        metrics.inflight_bytes.set_function(lambda: self._inflight_bytes)
        metrics.inflight_requests.set_function(lambda: self._inflight_requests)

    async def post_events(self, request: Request) -> Response:
        """``POST /v1/events``."""
        started = perf_counter()
        self._inflight_requests += 1
        held = _Held(self)
        try:
            response = await self._take(request, held)
        except _AnswerError as answer:
            response = self._answer(request, answer)
        finally:
            held.release()
            self._inflight_requests -= 1
        self._metrics.requests.labels(response.status_code).inc()
        self._metrics.request_seconds.observe(perf_counter() - started)
        return response

    async def _take(self, request: Request, held: _Held) -> Response:
        headers = _Head(request)
        sender = self._sender(request, headers)
        packed = await self._receive(request, headers.get(b"content-length") or "", held)
        body = _unpacked(packed, headers.get(b"content-encoding") or "", held, self._limits.max_body_bytes)
        # Whoever has spent everything need not be read; what a body brings is known afterwards.
        if self._rates.on:
            self._let_pass(self._rates.excess(sender, 1, self._elapsed_ns()))
        media_type = (headers.get(b"content-type") or "").partition(";")[0].strip().lower()
        received_at_us = self._now_us()
        started = perf_counter()
        try:
            admission = admit(body, lines=media_type in LINE_TYPES, received_at_us=received_at_us, limits=self._limits)
        except RefusedBodyError as error:
            self._let_pass(self._rates.take(sender, 1, self._elapsed_ns()))
            self._metrics.bodies_refused.labels(error.problem.reason).inc()
            raise _AnswerError(status_of([error.problem.reason]), error.problem.reason, error.problem.detail) from None
        self._metrics.admit_seconds.observe(perf_counter() - started)
        self._let_pass(self._rates.take(sender, len(admission.results), self._elapsed_ns()))
        self._count(admission)
        if admission.refused:
            self._writer.set_aside(admission.refused, received_at_us)
        unacknowledged = await self._writer.write(admission)
        return self._reply(request, admission, unacknowledged)

    def _sender(self, request: Request, headers: _Head) -> Hashable:
        """The number of the key that was sent, or the address where none is asked for."""
        if self._keys.open:
            client = request.scope.get("client")
            return sender_at(client[0]) if client and self._rates.on else None
        number = self._keys.find(headers.get(b"authorization"), headers.get(b"x-api-key"))
        if number is None:
            raise _AnswerError(
                401,
                "unauthorized",
                "Send a known key as Authorization: Bearer, as user name of Basic, or as X-API-Key.",
                **{"www-authenticate": 'Bearer realm="touchstone"'},
                **_CLOSE,
            )
        return number

    def _let_pass(self, excess: Excess | None) -> None:
        """Answer 429 for what is too much."""
        if excess is None:
            return
        self._metrics.rate_limited.labels(excess.scope).inc()
        whose = "This sender may" if excess.scope == "key" else "All senders together may"
        rate = excess.rate
        raise _AnswerError(
            429,
            "rate_limited",
            f"{whose} send {rate.events_per_s} events a second, {rate.burst_events} at once after a pause. Nothing of "
            f"this request was taken; send all of it again in {excess.retry_after_s} s.",
            **{"retry-after": str(excess.retry_after_s)},
        )

    async def _receive(self, request: Request, length: str, held: _Held) -> bytes:
        limit = self._limits.max_body_bytes
        if length.isdecimal() and int(length) > limit:
            raise _too_large(limit)
        chunks: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self._settings.receive_timeout_s):
                async for chunk in request.stream():
                    size += len(chunk)
                    if size > limit:
                        raise _too_large(limit)
                    if chunk:
                        held.take(len(chunk))
                        chunks.append(chunk)
        except TimeoutError:
            detail = f"The body did not arrive within {self._settings.receive_timeout_s:g} s."
            raise _AnswerError(408, "timeout", detail, **_CLOSE) from None
        except ClientDisconnect:
            raise _AnswerError(400, "disconnected", "The connection ended before the body did.", **_CLOSE) from None
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def take_bytes(self, count: int) -> None:
        """Count bytes in flight; refuse beyond the cap."""
        if self._inflight_bytes + count > self._settings.max_inflight_bytes:
            raise self._unavailable("Too much is being received at once; send again.", **_CLOSE)
        self._inflight_bytes += count

    def release_bytes(self, count: int) -> None:
        self._inflight_bytes -= count

    def _unavailable(self, detail: str, **headers: str) -> _AnswerError:
        return _AnswerError(
            503, Reason.UNAVAILABLE, detail, **{"retry-after": str(self._settings.retry_after_s)}, **headers
        )

    def _count(self, admission: Admission) -> None:
        metrics = self._metrics
        metrics.received.inc(len(admission.results))
        metrics.batch_events.observe(len(admission.results))
        for event in admission.refused:
            metrics.refused.labels(event.problems[0].reason).inc()

    def _reply(self, request: Request, admission: Admission, unacknowledged: list[int]) -> Response:
        accepted = len(admission.values) - len(unacknowledged)
        for position in unacknowledged:
            admission.results[position] = {
                "event_id": admission.results[position]["event_id"],
                "verdict": Verdict.RETRY,
                "reason": Reason.UNAVAILABLE,
                "detail": "Kafka did not acknowledge it in time; send it again with the same event_id.",
            }
        for reason in admission.warned:
            self._metrics.warned.labels(reason).inc()
        self._metrics.accepted.inc(accepted)
        if unacknowledged:
            self._metrics.retried.inc(len(unacknowledged))
        summary: dict[str, Any] = {
            "results": admission.results,
            "accepted": accepted,
            "refused": len(admission.refused),
        }
        if unacknowledged:
            return self._problem(
                request,
                self._unavailable(
                    f"{len(unacknowledged)} of {len(admission.results)} events are not in the log; send them again."
                ),
                admission,
                summary | {"retry": len(unacknowledged)},
            )
        if accepted:
            return Response(orjson.dumps(summary), 202, media_type=_JSON)
        reasons = [event.problems[0].reason for event in admission.refused]
        first = admission.refused[0].problems[0]
        detail = first.detail if len(reasons) == 1 else f"None of {len(reasons)} events was accepted; see errors."
        return self._problem(request, _AnswerError(status_of(reasons), first.reason, detail), admission, summary)

    def _problem(
        self, request: Request, answer: _AnswerError, admission: Admission, summary: dict[str, Any]
    ) -> Response:
        document = problem(
            answer.status,
            answer.code,
            answer.detail,
            instance=request.url.path,
            errors=errors_of(admission.refused, single=len(admission.results) == 1),
            more=summary,
        )
        return Response(document, answer.status, answer.headers, MEDIA_TYPE)

    def _answer(self, request: Request, answer: _AnswerError) -> Response:
        document = problem(answer.status, answer.code, answer.detail, instance=request.url.path)
        return Response(document, answer.status, answer.headers, MEDIA_TYPE)

    async def get_ready(self, request: Request) -> Response:
        """``GET /health/ready``: Kafka answers and has the topics."""
        try:
            missing = await self._writer.missing_topics(_READY_TIMEOUT_S)
        except Exception as error:  # whatever keeps Kafka from answering is the answer
            return self._answer(request, self._unavailable(str(error)))
        if missing:
            detail = f"Topics are missing: {', '.join(sorted(missing))}; `touchstone up` makes them."
            return self._answer(request, self._unavailable(detail))
        return Response(b'{"status":"ready"}', media_type=_JSON)

    async def get_metrics(self, _: Request) -> Response:
        """``GET /metrics``, in Prometheus' text format."""
        return Response(generate_latest(self._metrics.registry), headers={"content-type": CONTENT_TYPE_LATEST})


class _Head:
    """A request's headers, looked up by lower-case names; of a name that is there twice the first counts."""

    __slots__ = ("_values",)

    def __init__(self, request: Request) -> None:
        self._values: dict[bytes, bytes] = dict(reversed(request.scope["headers"]))

    def get(self, name: bytes) -> str | None:
        value = self._values.get(name)
        return None if value is None else value.decode("latin-1")


class _Held:
    """Bytes that one request holds, given back at its end."""

    __slots__ = ("_bytes", "_edge")

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self._bytes = 0

    def take(self, count: int) -> None:
        self._edge.take_bytes(count)
        self._bytes += count

    def release(self) -> None:
        self._edge.release_bytes(self._bytes)


def _too_large(limit: int) -> _AnswerError:
    return _AnswerError(413, Reason.TOO_LARGE, f"A body may have {limit} bytes; send fewer events at a time.", **_CLOSE)


def _unpacked(body: bytes, encoding: str, held: _Held, max_bytes: int) -> bytes:
    if not encoding:
        return body
    try:
        unpacked = encodings.unpack(body, encoding, max_bytes)
    except encodings.UnknownEncodingError as error:
        raise _AnswerError(415, "unknown_encoding", str(error), **{"accept-encoding": encodings.ACCEPTED}) from None
    except encodings.TooLargeError as error:
        raise _AnswerError(413, Reason.TOO_LARGE, f"{error} Send fewer events at a time.") from None
    except encodings.CorruptBodyError as error:
        raise _AnswerError(400, "corrupt_body", str(error)) from None
    held.take(len(unpacked))
    return unpacked


async def _get_live(_: Request) -> Response:
    return Response(b'{"status":"live"}', media_type=_JSON)


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "error")
    detail = "POST /v1/events takes events; GET /docs tells the rest."
    document = problem(error.status_code, code, detail, instance=request.url.path)
    return Response(document, error.status_code, error.headers, MEDIA_TYPE)


async def _on_crash(request: Request, error: Exception) -> Response:
    _log.error("request failed", exc_info=error)
    detail = "This is a fault of the server; the events may be sent again with the same ids."
    return Response(problem(500, "internal", detail, instance=request.url.path), 500, media_type=MEDIA_TYPE)


class _App(Starlette):
    """Hands events straight to the edge: the layers around a route take longer than an event."""

    edge: Edge

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != EVENTS_PATH or scope["method"] != "POST":
            await super().__call__(scope, receive, send)
            return
        request = Request(scope, receive, send)
        try:
            response = await self.edge.post_events(request)
        except Exception as error:
            response = await _on_crash(request, error)
        await response(scope, receive, send)


def make_app(edge: Edge, writer: Writer, settings: IngestSettings) -> Starlette:
    """All routes; the lifespan runs the writer and flushes it at the end."""
    document = openapi_document(settings.limits, with_keys=bool(settings.keys()))
    served = orjson.dumps(document, option=orjson.OPT_INDENT_2)
    page = docs_page(document)

    async def get_openapi(_: Request) -> Response:
        return Response(served, media_type=_JSON)

    async def get_docs(_: Request) -> Response:
        policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
        return Response(page, media_type="text/html", headers={"content-security-policy": policy})

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        pump = asyncio.create_task(writer.run())
        try:
            yield
        finally:
            pump.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await pump
            left = writer.flush(settings.delivery_timeout_s)
            _log.log(logging.ERROR if left else logging.INFO, "stopped; %d records left unacknowledged", left)

    app = _App(
        routes=[
            Route(EVENTS_PATH, edge.post_events, methods=["POST"]),
            Route("/health/live", _get_live),
            Route("/health/ready", edge.get_ready),
            Route("/metrics", edge.get_metrics),
            Route("/openapi.json", get_openapi),
            Route("/docs", get_docs),
        ],
        exception_handlers={HTTPException: _on_http_error, Exception: _on_crash},
        lifespan=lifespan,
    )
    app.edge = edge
    return app
