"""Connections to ClickHouse: rows and whole blocks over the native protocol, Arrow columns over HTTP.

Connections belong to a thread each and are thrown away after any error. Every wait ends in time. What fails for a
passing reason is tried again for a while: every statement sent through `query` and `insert_block` may be repeated,
as inserts carry a token made from their content and the tables keep one row per key.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final, TypeVar

import clickhouse_connect
import clickhouse_connect.driver.exceptions as http_errors
import clickhouse_driver
import clickhouse_driver.errors as native_errors
import polars as pl
import pyarrow as pa
import urllib3.exceptions
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_delay, wait_exponential_jitter

from infra.clickhouse.blocks import Block
from infra.clickhouse.errors import ClickHouseError, TransientError, UnreachableError, of_code
from infra.clickhouse.native import BlockClient, PreparedBlock
from infra.clickhouse.settings import ClickHouseSettings
from schemas.tables import DATABASE

log = logging.getLogger(__name__)
# What goes wrong is raised here; the library would also print it with its stack.
logging.getLogger("clickhouse_driver.connection").setLevel(logging.ERROR)
Result = TypeVar("Result")

INSERT_SETTINGS: Final[dict[str, Any]] = {
    # Acknowledged means written.
    "async_insert": 0,
    # A repeated insert with the same token adds nothing.
    "insert_deduplicate": 1,
    # Blocks come sorted and nearly without repeated keys: merges may remove what is left.
    "optimize_on_insert": 0,
    # One block in, one part out; more threads would only cost.
    "max_insert_threads": 1,
    "input_format_parallel_parsing": 0,
    "max_threads": 1,
}
QUERY_SETTINGS: Final[dict[str, Any]] = {
    # Lookups list tens of thousands of keys.
    "max_query_size": 256 << 20,
    "max_ast_elements": 10_000_000,
    "max_expanded_ast_elements": 10_000_000,
}

_ARROW: Final = {"output_format_arrow_compression_method": "none"}


class ClickHouse:
    """A ClickHouse server; threads may share it. Connects when first used; `close` when all threads are done."""

    def __init__(self, settings: ClickHouseSettings) -> None:
        self.settings = settings
        self._own = threading.local()
        self._lock = threading.Lock()
        self._open: set[Any] = set()

    def __enter__(self) -> ClickHouse:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection, also those of other threads."""
        with self._lock:
            connections, self._open = self._open, set()
        for connection in connections:
            _disconnect(connection)
        self._own = threading.local()

    def query(
        self, sql: str, parameters: Mapping[str, Any] | None = None, settings: Mapping[str, Any] | None = None
    ) -> list[tuple[Any, ...]]:
        """Run a statement and return its rows; ``%(name)s`` in it are replaced by quoted ``parameters``.

        Raises TransientError when it still fails after the time for retries, PermanentError at once.
        """
        result = self._retried(lambda: self._native(sql, parameters, settings))
        return result if isinstance(result, list) else []

    def arrow(self, sql: str) -> pa.Table:
        """Run a SELECT and return its result as Arrow columns. Raises like `query`."""
        return self._retried(lambda: self._arrow(sql))

    def frame(self, sql: str) -> pl.DataFrame:
        """Run a SELECT and return its result as a frame. Raises like `query`."""
        return pl.DataFrame(self.arrow(sql))

    def insert_rows(self, table: str, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
        """Insert Python values, for tables of few rows. Raises like `query`."""
        if not rows:
            return
        sql = f"INSERT INTO {DATABASE}.{table} ({', '.join(columns)}) VALUES"
        self._retried(lambda: self._native(sql, rows, INSERT_SETTINGS))

    def insert_block(self, block: Block) -> None:
        """Insert a block whole; the same block again adds nothing. Raises like `query`."""
        if not block.rows:
            return
        sent = PreparedBlock(block)
        # Made from the content: the same token can never stand for other rows, which would be dropped unseen.
        settings = INSERT_SETTINGS | {"insert_deduplication_token": sent.token}
        sql = f"INSERT INTO {DATABASE}.{block.table} ({', '.join(block.columns)}) VALUES"
        self._retried(lambda: self._native(sql, [sent], settings))

    def _retried(self, attempt: Callable[[], Result]) -> Result:
        if not self.settings.retry_s:
            return attempt()
        retrying = Retrying(
            retry=retry_if_exception_type(TransientError),
            wait=wait_exponential_jitter(multiplier=0.1, max=5, jitter=0.1),
            stop=stop_after_delay(self.settings.retry_s),
            before_sleep=_say_retry,
            reraise=True,
        )
        return retrying(attempt)

    def _native(self, sql: str, data: Any, settings: Mapping[str, Any] | None) -> Any:
        with self._connection("native", self._connect_native) as client:
            return client.execute(sql, data, settings={**QUERY_SETTINGS, **(settings or {})})

    def _arrow(self, sql: str) -> pa.Table:
        with self._connection("http", self._connect_http) as client:
            answer = client.raw_query(sql, settings=QUERY_SETTINGS | _ARROW, fmt="ArrowStream")
        with pa.ipc.open_stream(answer) as reader:
            return reader.read_all()

    def _connect_native(self) -> Any:
        here = self.settings
        return BlockClient(
            here.host,
            port=here.port,
            user=here.user,
            password=here.password.get_secret_value(),
            secure=here.secure,
            client_name="touchstone",
            connect_timeout=here.connect_timeout_s,
            send_receive_timeout=here.timeout_s,
            sync_request_timeout=here.connect_timeout_s,
        )

    def _connect_http(self) -> Any:
        here = self.settings
        return clickhouse_connect.get_client(
            host=here.host,
            port=here.http_port,
            username=here.user,
            password=here.password.get_secret_value(),
            interface="https" if here.secure else "http",
            client_name="touchstone",
            compress=False,
            connect_timeout=here.connect_timeout_s,
            send_receive_timeout=here.timeout_s,
            query_retries=0,
            autogenerate_session_id=False,
        )

    @contextmanager
    def _connection(self, kind: str, connect: Callable[[], Any]) -> Iterator[Any]:
        """This thread's connection; closed and forgotten when anything goes wrong on it."""
        connection = getattr(self._own, kind, None)
        try:
            if connection is None:
                connection = connect()
                setattr(self._own, kind, connection)
                with self._lock:
                    self._open.add(connection)
            yield connection
        except BaseException as error:
            setattr(self._own, kind, None)
            with self._lock:
                self._open.discard(connection)
            if connection is not None:
                _disconnect(connection)
            translated = self._translated(error)
            if translated is None:
                raise
            raise translated from error

    def _translated(self, error: BaseException) -> ClickHouseError | None:
        port = self.settings.http_port if isinstance(error, http_errors.Error) else self.settings.port
        where = f"ClickHouse at {self.settings.host}:{port}"
        silent = f"{where} does not answer"
        if isinstance(error, native_errors.Error | http_errors.Error):
            code = error.code
            if isinstance(code, int) and code > 0:
                return of_code(code, _first_line(error), where)
            # The HTTP client's own errors without a code: nobody answered, or the answer broke off.
            if isinstance(error, http_errors.OperationalError | native_errors.PartiallyConsumedQueryError):
                return UnreachableError(f"{silent}: {_first_line(error)}", for_logs=f"{silent}: {type(error).__name__}")
        if isinstance(error, OSError | EOFError | urllib3.exceptions.HTTPError):
            # An address may hold a statement; the system's own words do not.
            plain = isinstance(error, OSError) and not isinstance(error, urllib3.exceptions.HTTPError)
            return UnreachableError(
                f"{silent}: {_first_line(error)}",
                for_logs=f"{silent}: {_first_line(error) if plain else type(error).__name__}",
            )
        return None


def connect(settings: ClickHouseSettings) -> ClickHouse:
    """The server that ``settings`` name. Nothing is sent before the first statement."""
    return ClickHouse(settings)


def _say_retry(call: RetryCallState) -> None:
    # The error is an argument, so that the log may leave out the server's words.
    error = call.outcome.exception() if call.outcome is not None else None
    log.warning("a statement is tried again (%d): %s", call.attempt_number, error)


def quoted(values: Sequence[str]) -> str:
    """Values as SQL string literals with commas between."""
    joined = "','".join(values)
    # Joining at once is much faster; almost no list has a character that needs more.
    if "\\" in joined or "\0" in joined or joined.count("'") != 2 * (len(values) - 1):
        joined = "','".join(value.replace("\\", "\\\\").replace("'", "\\'").replace("\0", "\\0") for value in values)
    return f"'{joined}'"


def _first_line(error: BaseException) -> str:
    lines = str(getattr(error, "message", None) or error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _disconnect(connection: Any) -> None:
    if isinstance(connection, clickhouse_driver.Client):
        connection.disconnect()
    else:
        connection.close()
