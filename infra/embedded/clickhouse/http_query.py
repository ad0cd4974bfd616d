"""One query of an HTTP request, run in the threads of a pool."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Final

from infra.embedded.clickhouse import bodies, request, sql
from infra.embedded.clickhouse.access import Login, ReadGate
from infra.embedded.clickhouse.binding import Stats
from infra.embedded.clickhouse.blocks import for_revision
from infra.embedded.clickhouse.engine import Engine
from infra.embedded.clickhouse.errors import READONLY, AccessError
from infra.embedded.clickhouse.http_sessions import Sessions
from infra.embedded.clickhouse.session import Session

# A result this small goes out as one message, with an error status if it fails on the way.
RESPONSE_BUFFER_BYTES: Final = 1 << 20


def get_reads_only() -> AccessError:
    """The refusal of a GET that would change something."""
    return AccessError(
        READONLY,
        "Cannot execute query in readonly mode. For queries over HTTP, method GET implies readonly."
        " You should use method POST for modifying queries",
    )


class QueryRun:
    """One query in the threads of the pool: begun, read piece by piece, closed once."""

    def __init__(
        self,
        engine: Engine,
        gate: ReadGate,
        sessions: Sessions,
        asked: request.Request,
        login: Login,
        statement: str,
        accept_encoding: str,
        stats: Stats,
    ) -> None:
        self._engine, self._gate, self._sessions = engine, gate, sessions
        self._asked = asked
        self._login = login
        self._statement = statement
        self._accept_encoding = accept_encoding
        self._stats = stats
        self._session: Session | None = None
        self._give_back: Callable[[], None] | None = None
        self._chunks: Generator[bytes, None, None] | None = None
        self._packer: bodies.Encoder = bodies.PlainOut()
        self._revision = 0
        self.headers: dict[str, str] = {}
        self.closed = False

    def begin(self) -> tuple[bytes, bool]:
        """Judge and start the query; its first output, and whether that is all. Raises ClickHouseError."""
        asked, statement, settings = self._asked, self._statement, dict(self._asked.settings)
        self._session, self._give_back = self._sessions.take(self._login, asked)
        if self._login.reader:
            statement = self._gate.check(statement, asked.query_parameters)
            settings = self._gate.settings(settings)
        elif asked.method != "POST" and self._engine.classify(statement)[0] == "MUTATING":
            raise get_reads_only()
        if sql.without_outfile(statement) != statement:
            raise AccessError(READONLY, "INTO OUTFILE is not served over HTTP: redirect the response instead")
        format_ = sql.output_format(statement)[0] or asked.format
        self._packer, encoding = bodies.encoder(
            self._accept_encoding, asked.flag("enable_http_compression"), asked.flag("compress")
        )
        self._revision = asked.client_revision if format_.lower() == "native" else 0
        self.headers = {"X-ClickHouse-Format": format_, "Content-Type": request.content_type(format_)}
        if encoding:
            self.headers["Content-Encoding"] = encoding
        self._chunks = self._session.stream(statement, settings, asked.query_parameters, format_, self._stats)
        return self.more()

    def more(self) -> tuple[bytes, bool]:
        """The next output, and whether it is the last; with the last, the query is closed."""
        limit = None if self._asked.flag("wait_end_of_query") else RESPONSE_BUFFER_BYTES
        parts: list[bytes] = []
        size = 0
        for chunk in self._chunks or ():
            packed = self._packer.pack(for_revision(chunk, self._revision) if self._revision else chunk)
            parts.append(packed)
            size += len(packed)
            if limit is not None and size >= limit:
                return b"".join(parts), False
        parts.append(self._packer.finish())
        # Before the last byte goes out: with it, the client may use its session again.
        self.close()
        return b"".join(parts), True

    def cancel(self) -> None:
        """Stop the query, from another thread."""
        if self._session is not None and not self.closed:
            self._session.cancel()

    def close(self) -> None:
        """Give everything back."""
        self.closed = True
        if self._chunks is not None:
            self._chunks.close()
        give_back, self._give_back = self._give_back, None
        if give_back is not None:
            give_back()
