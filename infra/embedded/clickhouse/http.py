"""ClickHouse's HTTP interface as an ASGI application: the event loop moves bytes, threads run statements."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from typing import Any, Final, TypeVar

from infra.embedded.clickhouse import bodies, request, sql
from infra.embedded.clickhouse.access import Login, ReadGate, Users
from infra.embedded.clickhouse.binding import Stats
from infra.embedded.clickhouse.engine import Engine
from infra.embedded.clickhouse.errors import (
    AUTHENTICATION_FAILED,
    SERVER_ERROR,
    SYNTAX_ERROR,
    ClickHouseError,
    http_status,
)
from infra.embedded.clickhouse.http_query import QueryRun, get_reads_only
from infra.embedded.clickhouse.http_sessions import Sessions
from infra.embedded.clickhouse.insertion import Insertion

log = logging.getLogger(__name__)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
T = TypeVar("T")

APPEND_BYTES: Final = 1 << 20
MAX_OWNER_QUERY_BYTES: Final = 256 << 20
MAX_READER_QUERY_BYTES: Final = 4 << 20
# The head of an INSERT must end within this.
MAX_INSERT_HEAD_BYTES: Final = 1 << 20
RECEIVE_TIMEOUT_S: Final = 300.0


class ClientGoneError(Exception):
    """The client closed its connection before its request was complete."""


class HttpServer:
    """The application; `close` after the web server has stopped."""

    def __init__(self, engine: Engine, users: Users, gate: ReadGate, threads: int) -> None:
        self._engine = engine
        self._users = users
        self._gate = gate
        self._sessions = Sessions(engine)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="clickhouse-http")

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError("only HTTP is served")
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        method, path = scope["method"], scope["path"]
        if path in {"/ping", "/replicas_status"}:
            await _answer(send, 200, b"Ok.\n", {"Content-Type": "text/html; charset=UTF-8"}, method == "HEAD")
        elif path != "/":
            text = b"There is no handle here. Use / for queries or /ping for health checks.\n"
            await _answer(send, 404, text, {}, method == "HEAD")
        elif method not in {"GET", "POST", "HEAD"}:
            await _answer(send, 405, b"Use GET or POST.\n", {"Allow": "GET, HEAD, POST"})
        elif method != "POST" and not scope["query_string"]:
            await _answer(send, 200, b"Ok.\n", {"Content-Type": "text/html; charset=UTF-8"}, method == "HEAD")
        else:
            await _Exchange(self, method, scope["query_string"], headers, receive, send).run()

    async def in_thread(self, work: Callable[..., T], *arguments: Any) -> T:
        """Run blocking work beside the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work, *arguments)

    def expire_sessions(self) -> None:
        """Close sessions that nobody used in time; call it now and then."""
        self._sessions.expire()

    def close(self) -> None:
        """Wait for running statements and close all sessions."""
        self._pool.shutdown(wait=True)
        self._sessions.expire(everything=True)

    @property
    def parts(self) -> tuple[Engine, Users, ReadGate, Sessions]:
        """What one exchange needs."""
        return self._engine, self._users, self._gate, self._sessions


async def _answer(send: Send, status: int, body: bytes, headers: Mapping[str, str], head_only: bool = False) -> None:
    raw = [(name.lower().encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]
    raw.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": b"" if head_only else body})


class _Exchange:
    """One request and its response."""

    def __init__(
        self,
        server: HttpServer,
        method: str,
        raw_query: bytes,
        headers: Mapping[str, str],
        receive: Receive,
        send: Send,
    ) -> None:
        self._server = server
        self._engine, self._users, self._gate, self._sessions = server.parts
        self._method = method
        self._raw_query = raw_query
        self._headers = headers
        self._receive = receive
        self._send = send
        self._started = False
        self._more_body = True
        self._stats = Stats()
        self._reply: dict[str, str] = {}

    async def run(self) -> None:
        try:
            asked = request.read(self._method, self._raw_query, self._headers)
            self._reply = {"X-ClickHouse-Query-Id": asked.query_id, "X-ClickHouse-Timezone": self._engine.timezone}
            login = self._users.login(asked.user, asked.password)
            await self._logged_in(asked, login)
        except ClickHouseError as error:
            await self._fail(error)
        except ClientGoneError:
            log.info("an HTTP client left before its request was complete")
        except Exception as error:
            log.exception("an HTTP request failed")
            await self._fail(ClickHouseError(SERVER_ERROR, type(error).__name__))

    async def _fail(self, error: ClickHouseError) -> None:
        text = (error.text(self._engine.version) + "\n").encode("utf-8", "replace")
        if self._started:
            # The status is out: break the transfer off, so that nobody takes the rest for a whole result.
            await self._send({"type": "http.response.body", "body": text, "more_body": True})
            raise ConnectionAbortedError(f"query failed after its first rows: code {error.code}")
        headers = {**self._reply, "Content-Type": "text/plain; charset=UTF-8"}
        headers["X-ClickHouse-Exception-Code"] = str(error.code)
        if error.code == AUTHENTICATION_FAILED:
            headers["WWW-Authenticate"] = 'Basic realm="ClickHouse"'
        if self._more_body:
            headers["Connection"] = "close"  # the rest of the body was not read
        await _answer(self._send, http_status(error.code), text, headers, self._method == "HEAD")

    # -- request body -------------------------------------------------------------------------------------------

    async def _body(self) -> bytes:
        """The next piece of the body, at most what the web server had at hand; empty at the end."""
        while self._more_body:
            message = await asyncio.wait_for(self._receive(), RECEIVE_TIMEOUT_S)
            if message["type"] == "http.disconnect":
                raise ClientGoneError
            self._more_body = message.get("more_body", False)
            if piece := message.get("body", b""):
                return bytes(piece)
        return b""

    async def _all(self, unpack: bodies.Decoder, limit: int, begun: bytes = b"") -> bytes:
        parts, total = [begun], len(begun)
        while piece := await self._body():
            for plain in unpack.feed(piece):
                total += len(plain)
                if total > limit:
                    raise ClickHouseError(SYNTAX_ERROR, f"The query is longer than {limit} bytes", "QUERY_IS_TOO_LARGE")
                parts.append(plain)
        unpack.end()
        return b"".join(parts)

    # -- judging ------------------------------------------------------------------------------------------------

    async def _logged_in(self, asked: request.Request, login: Login) -> None:
        limit = MAX_READER_QUERY_BYTES if login.reader else MAX_OWNER_QUERY_BYTES
        unpack = bodies.decoder(self._headers.get("content-encoding", ""), asked.flag("decompress"))
        content_type = self._headers.get("content-type", "")
        body = b""
        if content_type.lower().startswith("multipart/form-data"):
            asked.take(request.form_fields(content_type, await self._all(unpack, request.MAX_FORM_BYTES)))
        text = asked.parameters.get("query", "").encode("utf-8", "surrogateescape")
        if not login.reader:
            found, body = await self._insert_head(text, unpack)
            if found is not None:
                await self._insert(asked, login, found, body, unpack)
                return
        rest = await self._all(unpack, limit, body)
        statement = text + b"\n" + rest if text and rest else text or rest
        if not statement.strip():
            raise ClickHouseError(SYNTAX_ERROR, "Empty query")
        await self._query(asked, login, statement.decode("utf-8", "surrogateescape"))

    async def _insert_head(self, text: bytes, unpack: bodies.Decoder) -> tuple[tuple[sql.Insert, bytes] | None, bytes]:
        """Find out whether this is an INSERT with data, reading no more of the body than its head.

        Returns (head and statement bytes, data or query bytes already read from the body).
        """
        body = b""
        # A separator: the statement in the URL ends where the body begins.
        known = text + b"\n" if text else b""
        while True:
            seen = (known + body).decode("latin-1")
            head = sql.parse_insert(seen, complete=not self._more_body)
            if head != "more":
                break
            if len(body) > MAX_INSERT_HEAD_BYTES:
                return None, body
            body += b"".join(unpack.feed(await self._body()))
        if not isinstance(head, sql.Insert):
            return None, body
        whole = known + body
        return (head, whole[: head.data_start]), whole[head.data_start :]

    async def _insert(
        self,
        asked: request.Request,
        login: Login,
        found: tuple[sql.Insert, bytes],
        begun: bytes,
        unpack: bodies.Decoder,
    ) -> None:
        head, _ = found
        if self._method != "POST":
            raise get_reads_only()
        in_thread = self._server.in_thread
        head = replace(head, target=_as_text(head.target), settings=_as_text(head.settings))
        session, give_back = await in_thread(self._sessions.take, login, asked)
        insertion: Insertion | None = None
        try:
            insertion = await in_thread(session.insert, head, asked.settings)
            await self._pour(insertion, begun, unpack)
            await in_thread(insertion.finish)
            self._stats = insertion.stats
        except BaseException:
            if insertion is not None:
                await in_thread(insertion.cancel)
            raise
        finally:
            await in_thread(give_back)
        headers = {**self._reply, "Content-Type": "text/plain; charset=UTF-8", **self._summary()}
        await _answer(self._send, 200, b"", headers)

    async def _pour(self, insertion: Insertion, begun: bytes, unpack: bodies.Decoder) -> None:
        """Stream the body into the engine; the next piece is received while the engine takes the last one."""
        pending: list[bytes] = [begun] if begun else []
        size = len(begun)
        running: asyncio.Future[None] | None = None
        try:
            while piece := await self._body():
                pending.append(piece)
                size += len(piece)
                if size >= APPEND_BYTES:
                    if running is not None:
                        await running
                    running = asyncio.ensure_future(self._server.in_thread(_append, insertion, unpack, pending, begun))
                    pending, size, begun = [], 0, b""
        finally:
            if running is not None:
                await running
        await self._server.in_thread(_append, insertion, unpack, pending, begun)
        unpack.end()

    # -- queries ------------------------------------------------------------------------------------------------

    async def _query(self, asked: request.Request, login: Login, statement: str) -> None:
        in_thread = self._server.in_thread
        accept = self._headers.get("accept-encoding", "")
        run = QueryRun(self._engine, self._gate, self._sessions, asked, login, statement, accept, self._stats)
        gone = asyncio.ensure_future(self._until_gone(run))
        try:
            body, done = await in_thread(run.begin)
            self._reply.update(run.headers)
            while not done:
                await self._stream(body, more=True)
                body, done = await in_thread(run.more)
        finally:
            gone.cancel()
            if not run.closed:
                await in_thread(run.close)
        if self._started:
            await self._stream(body, more=False)
        else:
            await _answer(self._send, 200, body, {**self._reply, **self._summary()}, self._method == "HEAD")

    async def _until_gone(self, run: QueryRun) -> None:
        """Stop the query of a client that closes its connection."""
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                await self._server.in_thread(run.cancel)
                return

    async def _stream(self, body: bytes, more: bool) -> None:
        if not self._started:
            raw = [(name.lower().encode(), value.encode("latin-1", "replace")) for name, value in self._reply.items()]
            await self._send({"type": "http.response.start", "status": 200, "headers": raw})
            self._started = True
        await self._send(
            {"type": "http.response.body", "body": b"" if self._method == "HEAD" else body, "more_body": more}
        )

    def _summary(self) -> dict[str, str]:
        numbers = {name: str(value) for name, value in asdict(self._stats).items()}
        numbers["total_rows_to_read"] = numbers["read_rows"]
        return {"X-ClickHouse-Summary": json.dumps(numbers, separators=(",", ":"))}


def _as_text(latin: str) -> str:
    """Text of a head that was read byte by byte."""
    return latin.encode("latin-1").decode("utf-8", "surrogateescape")


def _append(insertion: Insertion, unpack: bodies.Decoder, pieces: list[bytes], plain_start: bytes) -> None:
    """Unpack and hand over; `plain_start` is a first piece that is unpacked already."""
    if plain_start:
        pieces = pieces[1:]
        insertion.append(plain_start)
    parts: list[bytes] = []
    size = 0
    for piece in unpack.feed(b"".join(pieces)):
        parts.append(piece)
        size += len(piece)
        if size >= APPEND_BYTES:
            insertion.append(b"".join(parts))
            parts, size = [], 0
    if parts:
        insertion.append(b"".join(parts))
