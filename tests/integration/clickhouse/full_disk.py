"""Run by `test_full_disk.py` in a process of its own, because it takes away this process's right to write files."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from infra.embedded.clickhouse import sql
from infra.embedded.clickhouse.engine import Engine
from infra.embedded.clickhouse.errors import ClickHouseError
from infra.embedded.clickhouse.limits import ReaderLimits
from infra.embedded.clickhouse.room import Room

ROWS = 500
HEAD = "INSERT INTO t.kept"
INSERT = sql.Insert(HEAD, "", "t.kept", "", "TSV", 0)


class Disk:
    """What the server is told of its disk, and whether writes to files succeed."""

    free_bytes = 1 << 40

    def full(self) -> None:
        self.free_bytes = 0
        # Far below what any part needs; the engine's write calls fail as they do on a full disk.
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, resource.RLIM_INFINITY))

    def roomy(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        self.free_bytes = 1 << 40


def rows(block: int) -> bytes:
    return b"".join(b"%d\tvalue\n" % (block * ROWS + row) for row in range(ROWS))


def code_of(call: Callable[[], Any]) -> int:
    try:
        call()
    except ClickHouseError as error:
        return error.code
    return 0


def until_taken(call: Callable[[], Any]) -> int:
    """Repeat what is refused for want of room, as clients do."""
    deadline_s = time.monotonic() + 30
    while (code := code_of(call)) == 243 and time.monotonic() < deadline_s:
        time.sleep(0.05)
    return code


def main() -> None:
    folder, disk = Path(sys.argv[1]), Disk()
    Room._free_bytes = lambda _: disk.free_bytes  # type: ignore[method-assign]
    engine = Engine(folder, ReaderLimits(), 64 << 20)
    session = engine.session(reader=False)
    engine.root("CREATE DATABASE t")
    engine.root(
        "CREATE TABLE t.kept (n UInt64, s String) ENGINE = ReplacingMergeTree ORDER BY n"
        " SETTINGS non_replicated_deduplication_window = 100"
    )

    def insert(block: int) -> None:
        insertion = session.insert(INSERT)
        insertion.append(rows(block))
        insertion.finish()

    def read() -> None:
        session.run("SELECT sum(n) FROM t.kept")

    for block in range(4):
        insert(block)
    begun = session.insert(INSERT)
    disk.full()
    said: dict[str, Any] = {}
    engine.root("OPTIMIZE TABLE t.kept FINAL")
    begun.append(rows(4))
    said["insert that met a full disk"] = code_of(begun.finish)
    said["insert on a full disk"] = code_of(lambda: insert(5))
    said["read of hollow parts"] = code_of(read)
    said["drop on a full disk"] = code_of(lambda: session.run("DROP TABLE IF EXISTS t.other"))
    disk.roomy()
    said["the same insert again"] = until_taken(lambda: insert(4))
    said["read again"] = until_taken(read)
    said["rows"] = int(engine.root("SELECT count() FROM t.kept FINAL"))
    said["merge again"] = until_taken(lambda: session.run("OPTIMIZE TABLE t.kept FINAL"))
    session.close()
    engine.close()
    # What is on the disk is what a new process finds.
    engine = Engine(folder, ReaderLimits(), 64 << 20)
    said["rows in a new process"] = int(engine.root("SELECT uniqExact(n) FROM t.kept"))
    engine.close()
    print(json.dumps(said))


if __name__ == "__main__":
    main()
