"""One client's session on the engine: its connection, settings, current database."""

from __future__ import annotations

import contextlib
import logging
import uuid
from collections.abc import Generator, Mapping
from typing import TYPE_CHECKING, Any, Final

from infra.embedded.clickhouse import sql
from infra.embedded.clickhouse.binding import FAILURES, Stats
from infra.embedded.clickhouse.errors import (
    NOT_IMPLEMENTED,
    QUERY_WAS_CANCELLED,
    SYNTAX_ERROR,
    UNKNOWN_SETTING,
    ClickHouseError,
    EngineError,
)
from infra.embedded.clickhouse.insertion import Insertion
from infra.embedded.clickhouse.limits import OWNER_SETTINGS, SESSION_MARK, UNHEARD_SETTINGS
from infra.embedded.clickhouse.wire import ByteReader

if TYPE_CHECKING:
    from infra.embedded.clickhouse.engine import Engine

log = logging.getLogger(__name__)

# Chunks of these formats may be joined; of every other format each chunk is a document of its own.
JOINABLE: Final = frozenset(
    name.lower()
    for name in (
        "Native", "TabSeparated", "TSV", "TabSeparatedRaw", "TSVRaw", "Raw", "CSV", "RowBinary", "JSONEachRow",
        "JSONLines", "NDJSON", "JSONCompactEachRow", "JSONStringsEachRow", "JSONCompactStringsEachRow", "TSKV",
        "LineAsString", "RawBLOB", "MsgPack", "SQLInsert",
    )
)  # fmt: skip

# DROP, TRUNCATE and DETACH may run on a full disk: they make room.
_WRITING_WORDS: Final = frozenset({"INSERT", "ALTER", "OPTIMIZE"})

_REMEMBERED_INSERTS: Final = 100


class Session:
    """One client's engine connection with its settings and current database. Not for several threads at once."""

    def __init__(self, engine: Engine, reader: bool, database: str = "") -> None:
        self.engine = engine
        self.reader = reader
        self.mark = f"touchstone-{uuid.uuid4()}"
        self.broken = False
        self._base = engine.limits.settings() if reader else OWNER_SETTINGS
        self._applied: dict[str, str] = {}
        self._history: list[str] = []
        self._own: dict[str, str] = {}
        self._connection: Any = None
        self._database = ""
        # What inserts take, by table and columns, and the state of the engine's tables that this is true of.
        self._takes: dict[tuple[str, str], list[tuple[str, str]]] = {}
        self._takes_since = -1
        self._open()
        if database:
            try:
                self.use(database)
            except ClickHouseError:
                self.close()
                raise

    def twin(self) -> Session:
        """Another session in the same state (temporary tables apart), for use while this one is busy."""
        other = Session(self.engine, self.reader)
        other._history, other._own = [*self._history], {**self._own}
        other.broken = True
        return other

    def use(self, database: str) -> None:
        """Make a database the current one; raises EngineError 81 when it does not exist."""
        if database != self._database:
            self.run(f"USE {sql.quote_name(database)}")
            self._database = database

    def _open(self) -> None:
        self._connection = self.engine.connect()
        self._applied, self._takes = {}, {}
        self.broken = False
        pairs = {**self._base, SESSION_MARK: self.mark}
        if self.reader:
            pairs["readonly"] = "2"
        self.engine_query(_set(pairs))
        for statement in self._history:
            self.engine_query(statement)

    def _ready(self, settings: Mapping[str, str]) -> None:
        """A usable connection with exactly these settings on top of the session's own."""
        self.engine.room.wait_in_place()
        if self.broken:
            self._connection.close()
            self._open()
        wanted = {
            name: value for name, value in settings.items() if name not in UNHEARD_SETTINGS and name != SESSION_MARK
        }
        if wanted == self._applied:
            return
        changes = {name: value for name, value in wanted.items() if self._applied.get(name) != value}
        for name in self._applied.keys() - wanted.keys():
            changes[name] = self._own.get(name, self._base.get(name, ""))
        for name in wanted:
            if name not in self.engine.setting_types:
                raise ClickHouseError(UNKNOWN_SETTING, f"Unknown setting '{name}'")
        self.engine_query(_set(changes))
        self._applied = wanted

    def run(
        self,
        text: str,
        settings: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        format_: str = "Native",
        stats: Stats | None = None,
    ) -> bytes:
        """Run one statement to its end and return its whole output. Raises ClickHouseError."""
        reads = self._check(text)
        begun = self.engine.room.begin() if sql.first_word(text) in _WRITING_WORDS else None
        with self.engine.slot(self):
            self._ready(settings or {})
            try:
                result = self._connection.query(text, format_, params=dict(params or {}))
            except FAILURES as error:
                raise self._failure(error) from error
            finally:
                if not reads:
                    self.engine.changed()
        if begun is not None:
            self.engine.room.end(begun)
        if stats is not None:
            stats.add(result)
        self._remember(text)
        return bytes(result.bytes())

    def _failure(self, error: BaseException) -> ClickHouseError:
        self.broken = True
        failure = EngineError.parse(error)
        if not self.reader and failure.code != QUERY_WAS_CANCELLED:
            # Clients keep the words out of their logs, as they may quote values; here they are without.
            log.warning(
                "refused: code %d %s: %s", failure.code, failure.name, failure.without_values(self.engine.address)
            )
        return self.engine.room.reading_failed(failure)

    def _check(self, text: str) -> bool:
        """Whether a statement only reads. Raises ClickHouseError for one that must not run."""
        kind, statements = self.engine.classify(text)
        if statements > 1:
            raise ClickHouseError(SYNTAX_ERROR, "Syntax error (Multi-statements are not allowed)")
        if sql.creates_kafka_table(text):
            raise ClickHouseError(
                NOT_IMPLEMENTED,
                "Tables of the Kafka engine are refused: this engine could not open the data folder again",
            )
        return kind == "READ_ONLY"

    def _remember(self, text: str) -> None:
        """Keep what changed the session, to repeat it when its connection must be replaced."""
        word = sql.first_word(text)
        if word == "USE":
            self._database = ""
            self._history = [kept for kept in self._history if sql.first_word(kept) != "USE"]
            self._history.append(text)
        elif word == "SET":
            self._history.append(text)
            for name, value in sql.settings_in(list(sql.tokens(text))):
                self._own[name] = value.strip("'")

    def stream(
        self,
        text: str,
        settings: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        format_: str = "Native",
        stats: Stats | None = None,
    ) -> Generator[bytes, None, None]:
        """Run one statement and give its output in chunks: one block each for Native. Raises ClickHouseError.

        Closing the iterator early cancels the query. Statements and formats that the engine cannot stream come
        in one piece.
        """
        streams = sql.first_word(text) in sql.ROW_READING_WORDS and format_.lower() in JOINABLE
        if not streams:
            yield self.run(text, settings, params, format_, stats)
            return
        with self.engine.slot(self):
            self._ready(settings or {})
            try:
                result = self._connection.send_query(text, format_, params=dict(params or {}))
            except FAILURES as error:
                failure = self._failure(error)
                if "Streaming query is not supported" not in failure.message:
                    raise failure from error
                result = None
            if result is not None:
                yield from self._chunks(result, stats)
                return
        yield self.run(text, settings, params, format_, stats)

    def _chunks(self, result: Any, stats: Stats | None) -> Generator[bytes, None, None]:
        finished = False
        try:
            while (chunk := result.fetch()) is not None:
                if stats is not None:
                    stats.add(chunk)
                yield bytes(chunk.bytes())
            finished = True
        except FAILURES as error:
            finished = True
            raise self._failure(error) from error
        finally:
            if not finished:
                with contextlib.suppress(*FAILURES):
                    result.cancel()

    def columns_of(self, described: str, columns: str) -> list[tuple[str, str]]:
        """Names and types that an INSERT of these columns takes, in order. Raises EngineError."""
        changes = self.engine.changes
        if self._takes_since != changes or len(self._takes) > _REMEMBERED_INSERTS:
            self._takes, self._takes_since = {}, changes
        if (described, columns) not in self._takes:
            self._takes[described, columns] = self._columns_of(described, columns)
        return self._takes[described, columns]

    def _columns_of(self, described: str, columns: str) -> list[tuple[str, str]]:
        lines = self._describe(f"DESCRIBE TABLE {described}")
        known = {name: type_ for name, type_, *_ in lines}
        plain = [token.name for token in sql.tokens(columns) if token.text != ","]
        if columns and all(name in known for name in plain):
            return [(name, known[name]) for name in plain]
        if columns:
            return [(name, type_) for name, type_, *_ in self._describe(f"DESC (SELECT {columns} FROM {described})")]
        return [(name, type_) for name, type_, kind in lines if kind not in {"MATERIALIZED", "ALIAS", "EPHEMERAL"}]

    def header_of(
        self, text: str, settings: Mapping[str, str] | None = None, params: Mapping[str, str] | None = None
    ) -> list[tuple[str, str]]:
        """Names and types of a query's result, for results without rows."""
        self._ready(settings or {})
        return [(name, type_) for name, type_, _ in self._describe(f"DESCRIBE ({text.rstrip().rstrip(';')}\n)", params)]

    def _describe(self, text: str, params: Mapping[str, str] | None = None) -> list[tuple[str, str, str]]:
        if self.broken:
            self._ready({})
        try:
            raw = bytes(self._connection.query(text, "RowBinary", params=dict(params or {})).bytes())
        except FAILURES as error:
            raise self._failure(error) from error
        reader, found = ByteReader.of(raw), []
        while not reader.at_end():
            row = [reader.blob(1 << 24).decode() for _ in range(7)]
            found.append((row[0], row[1], row[2]))
        return found

    def insert(self, statement: sql.Insert, settings: Mapping[str, str] | None = None) -> Insertion:
        """Begin an insert of data that follows. Raises ClickHouseError."""
        self._ready(settings or {})
        return Insertion(self, statement)

    def engine_query(self, text: str) -> Any:
        """Run a statement on the connection as it is; returns the engine's result. Raises EngineError."""
        try:
            return self._connection.query(text, "Native")
        except FAILURES as error:
            raise self._failure(error) from error

    def cancel(self) -> bool:
        """Ask the engine to stop what runs here; false when nothing does. May be called from any thread."""
        return self.engine.stop_query(self.mark)

    def close(self) -> None:
        """Drop the connection with its temporary tables."""
        self._connection.close()


def _set(pairs: Mapping[str, str]) -> str:
    """One SET statement; an empty value means the engine's default."""
    return "SET " + ", ".join(f"{name} = {sql.quote(value) if value else 'DEFAULT'}" for name, value in pairs.items())
