"""ClickHouse's engine in this process: one data folder, one engine connection per client session.

Statements of one session run one after another, those of several sessions side by side (the engine releases
Python's lock while it works). A session whose statement failed gets a new engine connection.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.embedded.clickhouse import sql
from infra.embedded.clickhouse.binding import FAILURES, connect
from infra.embedded.clickhouse.errors import (
    TOO_MANY_SIMULTANEOUS_QUERIES,
    ClickHouseError,
    EngineError,
)
from infra.embedded.clickhouse.limits import SESSION_MARK, ReaderLimits
from infra.embedded.clickhouse.room import Room
from infra.embedded.clickhouse.session import Session

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Running:
    mark: str
    deadline_s: float


class Engine:
    """The engine over one data folder. `close` leaves everything written."""

    def __init__(self, folder: Path, limits: ReaderLimits, min_free_bytes: int = 0) -> None:
        """Open the folder; raises EngineError when another process has it or it is damaged.

        ``min_free_bytes``: see `Room`.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.limits = limits
        self.address = str(folder.resolve())
        try:
            self._root = connect(self.address)
        except Exception as error:
            raise EngineError.parse(error) from error
        self._root_lock = threading.Lock()
        self.changes = 0
        self._running: dict[str, _Running] = {}
        self._readers = threading.BoundedSemaphore(limits.max_concurrent)
        self._closing = threading.Event()
        self._own_default_database()
        self.version, self.timezone, self.host_name = (
            self.root("SELECT version(), timezone(), hostName()").strip().split("\t")
        )
        lines = self.root("SELECT name, type FROM system.settings").splitlines()
        self.setting_types = dict(line.split("\t") for line in lines)
        self._watchdog = threading.Thread(target=self._watch, name="clickhouse-watchdog", daemon=True)
        self._watchdog.start()
        self.room = Room(self, folder, min_free_bytes)
        self.room.start()

    def _own_default_database(self) -> None:
        """Make `default` a plain database.

        The engine opens it as an overlay with the machine's files: SELECT * FROM "/etc/hostname" would read them.
        """
        statement, tables = (Path(self.address, "metadata", name) for name in ("default.sql", "default"))
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
            except FAILURES as error:
                raise EngineError.parse(error) from error

    def classify(self, text: str) -> tuple[str, int]:
        """The engine's own judgement without running: (READ_ONLY | MUTATING | CONTROL | ..., statements)."""
        with self._root_lock:
            found = self._root._conn.classify_query(text)
        return found["query_class"].name, int(found["statement_count"])

    def changed(self) -> None:
        """Note that a statement may have changed tables: what is known of their columns is no longer."""
        with self._root_lock:
            self.changes += 1

    def type_name(self, text: str) -> str:
        """A type as the engine itself writes it, safe to put into a statement. Raises EngineError for other text."""
        asked = {"type": sql.parameter_text(text)}
        return self.root("SELECT toTypeName(defaultValueOfTypeName({type:String}))", asked).rstrip("\n")

    def session(self, reader: bool, database: str = "") -> Session:
        """A new session; raises EngineError 81 for a database that does not exist."""
        return Session(self, reader, database)

    def connect(self) -> Any:
        """A new connection of the engine's own."""
        return connect(self.address)

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
        return self.root(f"KILL QUERY WHERE Settings['{SESSION_MARK}'] = {sql.quote(mark)} ASYNC") != ""

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
        """Stop the watchdogs and close the engine; sessions must be closed before."""
        self.room.close()
        self._closing.set()
        self._watchdog.join(5)
        with self._root_lock:
            self._root.close()
