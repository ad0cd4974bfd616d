"""Collecting the bytes of incoming blocks."""

from __future__ import annotations

from typing import Final

from infra.embedded.clickhouse import sql
from infra.embedded.clickhouse.errors import ClickHouseError, ProtocolError
from infra.embedded.clickhouse.insertion import Insertion
from infra.embedded.clickhouse.session import Session

APPEND_BYTES: Final = 1 << 20


class Bounded:
    """Collects pieces up to a number of bytes."""

    def __init__(self, pieces: list[bytes], limit: int) -> None:
        self._pieces = pieces
        self._left = limit

    def take(self, piece: bytes) -> None:
        self._left -= len(piece)
        if self._left < 0:
            raise ProtocolError("an external table is too large")
        self._pieces.append(piece)


class Feed:
    """Collects the bytes of blocks and hands them to the engine in large pieces.

    An error of the engine is kept until the client's last block, so that the protocol stays in step.
    """

    def __init__(self, session: Session, head: sql.Insert, settings: dict[str, str]) -> None:
        self._session, self._head, self._settings = session, head, settings
        self._insertion: Insertion | None = None
        self._error: ClickHouseError | None = None
        self._pieces: list[bytes] = []
        self._bytes = 0
        self._started = 0
        self._block_bytes = 0

    def begin_block(self) -> None:
        self._started, self._block_bytes = len(self._pieces), 0

    def take(self, piece: bytes) -> None:
        if self._error is not None:
            return
        self._pieces.append(piece)
        self._bytes += len(piece)
        self._block_bytes += len(piece)
        # The client's last, empty block must not reach the engine; it has two bytes.
        if self._bytes >= APPEND_BYTES and self._block_bytes > 2:
            self._flush()
            self._started = 0

    def end_block(self, keep: bool) -> None:
        if not keep:
            del self._pieces[self._started :]

    def fail(self, error: ClickHouseError) -> None:
        self._error = error

    def _flush(self) -> None:
        data, self._pieces, self._bytes = b"".join(self._pieces), [], 0
        if not data or self._error is not None:
            return
        try:
            if self._insertion is None:
                self._insertion = self._session.insert(self._head, self._settings)
            self._insertion.append(data)
        except ClickHouseError as error:
            self._error = error

    def finish(self) -> Insertion | None:
        self._flush()
        if self._error is not None:
            self.cancel()
            raise self._error
        if self._insertion is not None:
            self._insertion.finish()
        return self._insertion

    def cancel(self) -> None:
        if self._insertion is not None:
            self._insertion.cancel()
