"""Inserts: bytes of a format, handed to the engine as they come."""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from typing import TYPE_CHECKING, Final

from infra.embedded.clickhouse import sql
from infra.embedded.clickhouse.binding import Stats
from infra.embedded.clickhouse.errors import BAD_ARGUMENTS, EngineError

if TYPE_CHECKING:
    from infra.embedded.clickhouse.session import Session

_PIPE_BYTES: Final = 1 << 20
_NEVER_A_BLOCK: Final = b"\xff" * 32


class Insertion:
    """A running insert: push bytes of the format, then finish. Any error or `cancel` writes nothing more.

    The bytes go through a pipe that the engine reads as the statement's INFILE. The binding's own streaming insert
    would be simpler, but it reports success when the table refuses the rows (constraint, partitions, views).
    """

    def __init__(self, session: Session, statement: sql.Insert) -> None:
        self.stats = Stats()
        self._session = session
        self._begun = session.engine.room.begin()
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
        self._session.engine.room.end(self._begun)

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
