"""ClickHouse's engine in this process: one data folder, one engine connection per client session.

Statements of one session run one after another, those of several sessions side by side (the engine releases
Python's lock while it works). A session whose statement failed gets a new engine connection.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import threading
import time
import uuid
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import chdb
from chdb._exceptions import ChdbError

from infra.embedded.clickhouse import sql
from infra.embedded.clickhouse.errors import (
    BAD_ARGUMENTS,
    NOT_IMPLEMENTED,
    SYNTAX_ERROR,
    TOO_MANY_SIMULTANEOUS_QUERIES,
    UNKNOWN_SETTING,
    ClickHouseError,
    EngineError,
)
from infra.embedded.clickhouse.wire import ByteReader

log = logging.getLogger(__name__)

_connect: Callable[[str], Any] = chdb.connect
# What the binding raises; `chdb.ChdbError` is another class than the one its connections use.
_FAILURES: Final[tuple[type[Exception], ...]] = (ChdbError, RuntimeError)

# Chunks of these formats may be joined; of every other format each chunk is a document of its own.
JOINABLE: Final = frozenset(
    name.lower()
    for name in (
        "Native", "TabSeparated", "TSV", "TabSeparatedRaw", "TSVRaw", "Raw", "CSV", "RowBinary", "JSONEachRow",
        "JSONLines", "NDJSON", "JSONCompactEachRow", "JSONStringsEachRow", "JSONCompactStringsEachRow", "TSKV",
        "LineAsString", "RawBLOB", "MsgPack", "SQLInsert",
    )
)  # fmt: skip
# Values the engine takes for one reading of `system.processes` settings; also how a session is found and stopped.
_SESSION_MARK: Final = "log_comment"
# Settings of the HTTP handler, and what servers pass on but SET refuses: the engine need not hear of them.
UNHEARD_SETTINGS: Final = frozenset(
    {
        "enable_http_compression",
        "http_zlib_compression_level",
        "send_progress_in_http_headers",
        "http_headers_progress_interval_ms",
        "wait_end_of_query",
        "add_http_cors_header",
        "network_compression_method",
        "network_zstd_compression_level",
        "http_response_buffer_size",
        "http_wait_end_of_query",
        "http_write_exception_in_output_format",
        "run_query_in_background",
    }
)
_PIPE_BYTES: Final = 1 << 20
_NEVER_A_BLOCK: Final = b"\xff" * 32
_MAX_QUERY_BYTES: Final = 256 << 20
OWNER_SETTINGS: Final[dict[str, str]] = {
    # An acknowledged insert is written, and its token counts: both are off by default.
    "async_insert": "0",
    # Point lookups list tens of thousands of keys.
    "max_query_size": str(_MAX_QUERY_BYTES),
    "max_ast_elements": "10000000",
    "max_expanded_ast_elements": "10000000",
}


@dataclass(frozen=True, slots=True)
class ReaderLimits:
    """Caps on the statements of the read-only login."""

    max_seconds: int = 30
    max_memory_bytes: int = 2 << 30
    max_result_rows: int = 5_000_000
    max_result_bytes: int = 1 << 30
    max_threads: int = 1
    max_concurrent: int = 8

    def settings(self) -> dict[str, str]:
        """The same as engine settings."""
        return {
            "async_insert": "0",
            "max_query_size": str(4 << 20),
            "max_execution_time": str(self.max_seconds),
            "timeout_overflow_mode": "throw",
            "max_memory_usage": str(self.max_memory_bytes),
            "max_result_rows": str(self.max_result_rows),
            "max_result_bytes": str(self.max_result_bytes),
            "result_overflow_mode": "throw",
            "max_threads": str(self.max_threads),
            # Scoring goes first when both want the processor.
            "os_threads_nice_value_query": "10",
        }


@dataclass(slots=True)
class Stats:
    """What a finished statement read and wrote."""

    read_rows: int = 0
    read_bytes: int = 0
    written_rows: int = 0
    written_bytes: int = 0
    result_rows: int = 0
    result_bytes: int = 0
    elapsed_ns: int = 0

    def add(self, result: Any) -> None:
        """Add one chunk of a result."""
        self.result_rows += result.rows_read()
        self.result_bytes += result.bytes_read()
        self.read_rows = max(self.read_rows, result.storage_rows_read())
        self.read_bytes = max(self.read_bytes, result.storage_bytes_read())
        self.written_rows += result.rows_written()
        self.written_bytes += result.bytes_written()
        self.elapsed_ns = int(result.elapsed() * 1e9)


@dataclass(slots=True)
class _Running:
    mark: str
    deadline_s: float


class Engine:
    """The engine over one data folder. `close` leaves everything written."""

    def __init__(self, folder: Path, limits: ReaderLimits) -> None:
        """Open the folder; raises EngineError when another process has it or it is damaged."""
        folder.mkdir(parents=True, exist_ok=True)
        self.limits = limits
        self._address = str(folder.resolve())
        try:
            self._root = _connect(self._address)
        except Exception as error:
            raise EngineError.parse(error) from error
        self._root_lock = threading.Lock()
        self._running: dict[str, _Running] = {}
        self._readers = threading.BoundedSemaphore(limits.max_concurrent)
        self._closing = threading.Event()
        self._own_default_database()
        self.version, self.timezone, self.host_name = (
            self.root("SELECT version(), timezone(), hostName()").strip().split("\t")
        )
        names = self.root("SELECT name FROM system.settings")
        self.setting_names = frozenset(names.split())
        self._watchdog = threading.Thread(target=self._watch, name="clickhouse-watchdog", daemon=True)
        self._watchdog.start()

    def _own_default_database(self) -> None:
        """Make `default` a plain database.

        The engine opens it as an overlay with the machine's files: SELECT * FROM "/etc/hostname" would read them.
        """
        statement, tables = (Path(self._address, "metadata", name) for name in ("default.sql", "default"))
        self.root("DETACH DATABASE default")
        if not tables.is_symlink():
            # No table was ever made in it, and what the engine wrote down about it cannot be attached.
            statement.unlink(missing_ok=True)
            self.root("CREATE DATABASE default ENGINE = Atomic")
            return
        if not statement.exists():
            # A folder of the bare engine: its tables lie under the overlay's own identifier.
            statement.write_text(f"ATTACH DATABASE _ UUID '{tables.readlink().name}'\nENGINE = Atomic\n")
        self.root("ATTACH DATABASE default")

    def root(self, text: str, params: Mapping[str, str] | None = None) -> str:
        """Run a short statement of the server's own; returns TSV text without escapes. Raises EngineError."""
        with self._root_lock:
            try:
                return bytes(self._root.query(text, "TSVRaw", params=dict(params or {})).bytes()).decode()
            except _FAILURES as error:
                raise EngineError.parse(error) from error

    def classify(self, text: str) -> tuple[str, int]:
        """The engine's own judgement without running: (READ_ONLY | MUTATING | CONTROL | ..., statements)."""
        with self._root_lock:
            found = self._root._conn.classify_query(text)
        return found["query_class"].name, int(found["statement_count"])

    def type_name(self, text: str) -> str:
        """A type as the engine itself writes it, safe to put into a statement. Raises EngineError for other text."""
        asked = {"type": sql.parameter_text(text)}
        return self.root("SELECT toTypeName(defaultValueOfTypeName({type:String}))", asked).rstrip("\n")

    def session(self, reader: bool, database: str = "") -> Session:
        """A new session; raises EngineError 81 for a database that does not exist."""
        return Session(self, reader, database)

    def connect(self) -> Any:
        """A new connection of the engine's own."""
        return _connect(self._address)

    @contextlib.contextmanager
    def slot(self, session: Session) -> Iterator[None]:
        """Around each statement: the watchdog's deadline, and the readers' share."""
        if not session.reader:
            yield
            return
        if not self._readers.acquire(timeout=self.limits.max_seconds):
            raise ClickHouseError(
                TOO_MANY_SIMULTANEOUS_QUERIES,
                f"Too many simultaneous queries of readers. Maximum: {self.limits.max_concurrent}",
            )
        # The engine checks max_execution_time itself; this is for what it does not see in time.
        self._running[session.mark] = _Running(session.mark, time.monotonic() + self.limits.max_seconds + 2)
        try:
            yield
        finally:
            self._running.pop(session.mark, None)
            self._readers.release()

    def stop_query(self, mark: str) -> bool:
        """Ask the engine to end what runs under a session's mark; returns at once, false when nothing does."""
        return self.root(f"KILL QUERY WHERE Settings['{_SESSION_MARK}'] = {sql.quote(mark)} ASYNC") != ""

    def _watch(self) -> None:
        while not self._closing.wait(0.5):
            now_s = time.monotonic()
            for running in [*self._running.values()]:
                if running.deadline_s < now_s:
                    running.deadline_s = now_s + 2
                    try:
                        self.stop_query(running.mark)
                    except EngineError:
                        log.exception("could not stop a query past its time limit")

    def close(self) -> None:
        """Stop the watchdog and close the engine; sessions must be closed before."""
        self._closing.set()
        self._watchdog.join(5)
        with self._root_lock:
            self._root.close()


class Insertion:
    """A running insert: push bytes of the format, then finish. Any error or `cancel` writes nothing more.

    The bytes go through a pipe that the engine reads as the statement's INFILE. The binding's own streaming insert
    would be simpler, but it reports success when the table refuses the rows (constraint, partitions, views).
    """

    def __init__(self, session: Session, statement: sql.Insert) -> None:
        self.stats = Stats()
        self._session = session
        self._raised: BaseException | None = None
        self._native = statement.format.lower() == "native"
        self._read_end, self._write_end = os.pipe()
        with contextlib.suppress(OSError):
            # A small pipe works as well, with more switches between threads.
            fcntl.fcntl(self._write_end, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        infile = sql.quote(f"/proc/self/fd/{self._read_end}")
        text = f"{statement.target} FROM INFILE {infile}{statement.settings} FORMAT {statement.format}"
        self._thread = threading.Thread(target=self._insert, args=(text,), name="clickhouse-insert", daemon=True)
        self._thread.start()

    def _insert(self, text: str) -> None:
        try:
            self.stats.add(self._session.engine_query(text))
        except BaseException as error:
            self._raised = error
        finally:
            os.close(self._read_end)

    def append(self, data: bytes) -> None:
        """Hand over the next bytes; waits while the engine is busy. Raises EngineError."""
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._write_end, rest) :]
        except BrokenPipeError as error:
            self.finish()
            raise EngineError(BAD_ARGUMENTS, "There is data after the end of what the format takes") from error

    def finish(self) -> None:
        """Commit; returns when everything is written. Raises EngineError."""
        self._close()
        self._thread.join()
        if self._raised is not None:
            self._session.broken = True
            raise self._raised

    def cancel(self) -> None:
        """Give up; what was not yet written is dropped."""
        self._session.broken = True
        # The end of the data would commit it, so the statement must be stopped first. It may not have begun yet.
        while self._thread.is_alive() and not self._session.cancel():
            self._thread.join(0.01)
        if self._native and self._thread.is_alive():
            with contextlib.suppress(OSError):
                os.set_blocking(self._write_end, False)
                os.write(self._write_end, _NEVER_A_BLOCK)
        self._close()
        self._thread.join()

    def _close(self) -> None:
        write_end, self._write_end = self._write_end, -1
        if write_end >= 0:
            os.close(write_end)


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
        self._applied = {}
        self.broken = False
        pairs = {**self._base, _SESSION_MARK: self.mark}
        if self.reader:
            pairs["readonly"] = "2"
        self.engine_query(_set(pairs))
        for statement in self._history:
            self.engine_query(statement)

    def _ready(self, settings: Mapping[str, str]) -> None:
        """A usable connection with exactly these settings on top of the session's own."""
        if self.broken:
            self._connection.close()
            self._open()
        wanted = {
            name: value for name, value in settings.items() if name not in UNHEARD_SETTINGS and name != _SESSION_MARK
        }
        if wanted == self._applied:
            return
        changes = {name: value for name, value in wanted.items() if self._applied.get(name) != value}
        for name in self._applied.keys() - wanted.keys():
            changes[name] = self._own.get(name, self._base.get(name, ""))
        for name in wanted:
            if name not in self.engine.setting_names and not name.startswith("param_"):
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
        self._check(text)
        with self.engine.slot(self):
            self._ready(settings or {})
            try:
                result = self._connection.query(text, format_, params=dict(params or {}))
            except _FAILURES as error:
                self.broken = True
                raise EngineError.parse(error) from error
        if stats is not None:
            stats.add(result)
        self._remember(text)
        return bytes(result.bytes())

    def _check(self, text: str) -> None:
        _, statements = self.engine.classify(text)
        if statements > 1:
            raise ClickHouseError(SYNTAX_ERROR, "Syntax error (Multi-statements are not allowed)")
        if sql.creates_kafka_table(text):
            raise ClickHouseError(
                NOT_IMPLEMENTED,
                "Tables of the Kafka engine are refused: this engine could not open the data folder again",
            )

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
            except _FAILURES as error:
                self.broken = True
                failure = EngineError.parse(error)
                if "Streaming query is not supported" not in failure.message:
                    raise failure from error
                result = None
            if result is not None:
                yield from self._chunks(result, stats)
                return
        yield self.run(text, settings, params, format_, stats)

    def _chunks(self, result: Any, stats: Stats | None) -> Iterator[bytes]:
        finished = False
        try:
            while (chunk := result.fetch()) is not None:
                if stats is not None:
                    stats.add(chunk)
                yield bytes(chunk.bytes())
            finished = True
        except _FAILURES as error:
            self.broken = True
            finished = True
            raise EngineError.parse(error) from error
        finally:
            if not finished:
                with contextlib.suppress(*_FAILURES):
                    result.cancel()

    def columns_of(self, described: str, columns: str) -> list[tuple[str, str]]:
        """Names and types that an INSERT of these columns takes, in order. Raises EngineError."""
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
        except _FAILURES as error:
            self.broken = True
            raise EngineError.parse(error) from error
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
        except _FAILURES as error:
            self.broken = True
            raise EngineError.parse(error) from error

    def cancel(self) -> bool:
        """Ask the engine to stop what runs here; false when nothing does. May be called from any thread."""
        return self.engine.stop_query(self.mark)

    def close(self) -> None:
        """Drop the connection with its temporary tables."""
        self._connection.close()


def _set(pairs: Mapping[str, str]) -> str:
    """One SET statement; an empty value means the engine's default."""
    return "SET " + ", ".join(f"{name} = {sql.quote(value) if value else 'DEFAULT'}" for name, value in pairs.items())
