"""The engine's Python binding, in one place: connecting, what it raises, what a result tells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import chdb
from chdb._exceptions import ChdbError

connect: Callable[[str], Any] = chdb.connect
# What the binding raises; `chdb.ChdbError` is another class than the one its connections use.
FAILURES: Final[tuple[type[Exception], ...]] = (ChdbError, RuntimeError)


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
