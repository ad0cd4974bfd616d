"""Parts whose files were written to a full disk: found by the engine's CHECK, replaced by what they were made from."""

from __future__ import annotations

import json
import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from infra.embedded.clickhouse import sql
from infra.embedded.clickhouse.binding import FAILURES
from infra.embedded.clickhouse.errors import NO_SUCH_DATA_PART, UNKNOWN_TABLE, EngineError

log = logging.getLogger(__name__)

_OPEN_S: Final = 60.0
"""Longest wait for queries that still use a table which is to be opened again."""
_AGAIN_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class Part:
    """A row of system.parts."""

    table: tuple[str, str]
    """Database and name."""
    partition: str
    name: str
    first_block: int
    last_block: int
    active: bool
    modified_s: int


def loses_rows(hollow: Part, parts: Iterable[Part]) -> bool:
    """Whether rows go with a hollow part that somebody was told are written; ``parts``: all that the engine knows.

    Those of one insert do not: it was refused. Those of a merge come back with its sources, where they still are.
    """
    return hollow.first_block != hollow.last_block and not any(
        (part.table, part.partition, part.active) == (hollow.table, hollow.partition, False)
        and hollow.first_block <= part.first_block
        and part.last_block <= hollow.last_block
        for part in parts
    )


class HollowParts:
    """Looks through recent parts on a connection of its own. For one thread."""

    def __init__(self, connect: Callable[[], Any]) -> None:
        self.in_place = threading.Event()
        """Clear while a table is away to be opened again."""
        self.in_place.set()
        self._connect = connect
        self._connection: Any = None
        self._sound: set[tuple[tuple[str, str], str]] = set()
        self._to_open: dict[tuple[str, str], Path] = {}

    def forget(self) -> None:
        """Check again, next time, what was found to be sound."""
        self._sound.clear()

    def close(self) -> None:
        """Give up the connection."""
        if self._connection is not None:
            self._connection.close()

    def mend(self, since_s: float) -> None:
        """Find the hollow ones among parts written since, in Unix seconds, and get rid of them.

        Raises EngineError; may be called again then, and goes on.
        """
        self._open_again()
        parts = self._parts()
        recent = [part for part in parts if part.active and part.modified_s >= int(since_s)]
        for part in recent:
            if self._is_sound(part):
                continue
            log.error("part %s of %s.%s was written to a full disk and cannot be read", part.name, *part.table)
            if loses_rows(part, parts):
                log.error(
                    "what part %s of %s.%s was made of is gone; compare with the log: touchstone verify",
                    *(part.name, *part.table),
                )
            self._to_open[part.table] = self._folder(part.table)
        self._open_again()

    def _is_sound(self, part: Part) -> bool:
        if (part.table, part.name) in self._sound:
            return True
        check = (
            f"CHECK TABLE {_name(part.table)} PART {sql.quote(part.name)} SETTINGS check_query_single_value_result = 0"
        )
        try:
            lines = self._run(check).splitlines()
        except EngineError as error:
            if error.code not in (NO_SUCH_DATA_PART, UNKNOWN_TABLE):
                raise
            lines = []  # merged or dropped meanwhile
        sound = all(line.split(b"\t")[1:2] != [b"0"] for line in lines)
        if sound:
            self._sound.add((part.table, part.name))
        return sound

    def _open_again(self) -> None:
        """Close and open tables: the engine then sets broken parts aside and takes what they were merged from.

        (DROP PART and DETACH PART would take the sources of merges away at once.)
        """
        if not self._to_open:
            return
        self.in_place.clear()
        try:
            for table, folder in [*self._to_open.items()]:
                if self._run(f"EXISTS TABLE {_name(table)}").strip() == b"1":
                    self._run(f"DETACH TABLE {_name(table)}")
                # It remembers hollow inserts as done, and would take no notice when they are repeated.
                shutil.rmtree(folder / "deduplication_logs", ignore_errors=True)
                self._attach(table)
                del self._to_open[table]
        finally:
            self.in_place.set()

    def _attach(self, table: tuple[str, str]) -> None:
        deadline_s = time.monotonic() + _OPEN_S
        while True:
            try:
                self._run(f"ATTACH TABLE {_name(table)}")
                return
            except EngineError:
                # Queries that run on it must end first.
                if time.monotonic() > deadline_s:
                    raise
            time.sleep(_AGAIN_S)

    def _folder(self, table: tuple[str, str]) -> Path:
        database, name = map(sql.quote, table)
        raw = self._run(f"SELECT data_paths[1] FROM system.tables WHERE database = {database} AND name = {name}")
        return Path(raw.decode().rstrip("\n"))

    def _parts(self) -> list[Part]:
        raw = self._run(
            "SELECT database, table, partition_id, name, min_block_number, max_block_number, active,"
            " toUnixTimestamp(modification_time) FROM system.parts FORMAT JSONCompactEachRow"
        )
        rows = (json.loads(line) for line in raw.splitlines())
        return [
            Part((database, table), partition, name, int(first), int(last), bool(active), int(modified))
            for database, table, partition, name, first, last, active, modified in rows
        ]

    def _run(self, text: str) -> bytes:
        if self._connection is None:
            self._connection = self._connect()
        try:
            return bytes(self._connection.query(text, "TSVRaw").bytes())
        except FAILURES as error:
            self._connection.close()
            self._connection = None
            raise EngineError.parse(error) from error


def _name(table: tuple[str, str]) -> str:
    return ".".join(map(sql.quote_name, table))
