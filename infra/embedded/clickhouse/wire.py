"""Primitive values of ClickHouse's native protocol: a pulling reader and small writers.

The reader can pass on what it consumes (`tee`), so that the bytes of an incoming block reach the engine
without ever becoming Python values.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import Final

import numpy as np

from infra.embedded.clickhouse.errors import ProtocolError

MAX_VARINT_BYTES: Final = 10
# Runs of equally long strings (ids, codes, empty texts) are skipped by arithmetic; shorter runs are not worth it.
_MIN_RUN: Final = 64
# Of strings of 128 bytes and more a few are worth it.
_MIN_LONG_RUN: Final = 4
_SHORT: Final = 32
# Bytes looked at in one leap: few at first, more while it goes well; strings walked before the next try.
_FIRST_WINDOW: Final = 1 << 12
_LAST_WINDOW: Final = 1 << 17
_WALK: Final = 512

Sink = Callable[[bytes], None]


def varint(value: int) -> bytes:
    """Unsigned LEB128."""
    if value < 0x80:
        return bytes((value,))
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def string(value: str | bytes) -> bytes:
    """Length-prefixed bytes; text goes out as UTF-8."""
    raw = value.encode() if isinstance(value, str) else value
    return varint(len(raw)) + raw


class ByteReader:
    """Reads primitives from chunks that `pull` returns; an empty chunk is the end of the stream.

    Raises EOFError at the end and ProtocolError on impossible values. Never allocates by a length that
    the peer only claims: long values grow as their bytes arrive, up to the caller's limit.
    """

    def __init__(self, pull: Callable[[], bytes]) -> None:
        self._pull = pull
        self._chunk = b""
        self._pos = 0
        self._sink: Sink | None = None
        self._mark = 0

    @classmethod
    def of(cls, data: bytes) -> ByteReader:
        """A reader over bytes at hand."""
        pending = [data]
        return cls(lambda: pending.pop() if pending else b"")

    def buffered(self) -> int:
        """Bytes that were pulled and not yet consumed."""
        return len(self._chunk) - self._pos

    def position(self) -> int:
        """Offset in the present chunk; meaningful for readers made with `of`."""
        return self._pos

    def at_end(self) -> bool:
        """True when no byte is left; pulls if needed."""
        if self._pos < len(self._chunk):
            return False
        try:
            self._advance()
        except EOFError:
            return True
        return False

    def tee(self, sink: Sink) -> None:
        """From here on hand every consumed byte to `sink`, in order, until `untee`."""
        self._sink = sink
        self._mark = self._pos

    def untee(self) -> None:
        """Hand over what was consumed so far and stop."""
        sink, self._sink = self._sink, None
        if sink is not None and self._pos > self._mark:
            sink(self._chunk[self._mark : self._pos])

    def _advance(self) -> None:
        """Replace the used-up chunk by the next one."""
        if self._sink is not None and len(self._chunk) > self._mark:
            self._sink(self._chunk[self._mark :] if self._mark else self._chunk)
        # Consumed bytes are gone even if pulling fails below.
        self._chunk, self._pos, self._mark = b"", 0, 0
        chunk = self._pull()
        if not chunk:
            raise EOFError("connection closed")
        self._chunk = chunk

    def u8(self) -> int:
        """One byte."""
        if self._pos >= len(self._chunk):
            self._advance()
        value = self._chunk[self._pos]
        self._pos += 1
        return value

    def varint(self) -> int:
        """Unsigned LEB128 of at most 64 bits."""
        value = self.u8()
        if value < 0x80:
            return value
        value &= 0x7F
        for shift in range(7, 7 * MAX_VARINT_BYTES, 7):
            byte = self.u8()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if value >= 1 << 64:
                    break
                return value
        raise ProtocolError("a number has more than 64 bits")

    def exactly(self, count: int) -> bytes:
        """The next `count` bytes; the caller bounds `count`."""
        end = self._pos + count
        if end <= len(self._chunk):
            value = self._chunk[self._pos : end]
            self._pos = end
            return value
        parts: list[bytes] = []
        left = count
        while left:
            if self._pos >= len(self._chunk):
                self._advance()
            part = self._chunk[self._pos : self._pos + left]
            self._pos += len(part)
            left -= len(part)
            parts.append(part)
        return b"".join(parts)

    def u64(self) -> int:
        """Little-endian unsigned 64 bits."""
        return int.from_bytes(self.exactly(8), "little")

    def i32(self) -> int:
        """Little-endian signed 32 bits."""
        return int(struct.unpack("<i", self.exactly(4))[0])

    def blob(self, limit: int) -> bytes:
        """A length-prefixed value of at most `limit` bytes."""
        count = self.varint()
        if count > limit:
            raise ProtocolError(f"a string of {count} bytes exceeds the limit of {limit}")
        return self.exactly(count)

    def text(self, limit: int) -> str:
        """A length-prefixed UTF-8 value of at most `limit` bytes."""
        try:
            return self.blob(limit).decode()
        except UnicodeDecodeError as error:
            raise ProtocolError("a string is not UTF-8") from error

    def skip(self, count: int) -> None:
        """Pass over `count` bytes."""
        while True:
            there = len(self._chunk) - self._pos
            if count <= there:
                self._pos += count
                return
            count -= there
            self._pos = len(self._chunk)
            self._advance()

    def skip_strings(self, count: int) -> None:
        """Pass over `count` length-prefixed values: the only per-value work of an insert."""
        left, window = count, _FIRST_WINDOW
        while left:
            if self._pos >= len(self._chunk):
                self._advance()
            if left >= _MIN_RUN:
                if skipped := self._equal_run(left):
                    left -= skipped
                    continue
                skipped, whole = self._leap(left, window)
                window = min(2 * window, _LAST_WINDOW) if whole else _FIRST_WINDOW
                left -= skipped
                if skipped >= _MIN_RUN:
                    continue
            steps = min(left, _WALK)
            left -= steps - self._walk_strings(steps)

    def _equal_run(self, left: int) -> int:
        """Skip the longest run of strings as long as the first one; returns how many were skipped."""
        chunk, pos = self._chunk, self._pos
        length, prefix_bytes = chunk[pos], 1
        if length > 0x7F:
            if pos + 1 >= len(chunk) or chunk[pos + 1] > 0x7F:
                return 0
            length, prefix_bytes = length & 0x7F | chunk[pos + 1] << 7, 2
        stride = length + prefix_bytes
        fits = min(left, (len(chunk) - pos) // stride)
        least = _MIN_RUN if prefix_bytes == 1 else _MIN_LONG_RUN
        if fits < least:
            return 0
        rows = np.frombuffer(chunk, np.uint8, fits * stride, pos).reshape(fits, stride)
        prefixes = rows[:, :prefix_bytes]
        if (prefixes[:least] != prefixes[0]).any():
            return 0
        differs = (prefixes != prefixes[0]).any(axis=1)
        run = int(differs.argmax()) if differs.any() else fits
        self._pos = pos + run * stride
        return run

    def _leap(self, left: int, window: int) -> tuple[int, bool]:
        """Skip strings shorter than 32 bytes whose text has no control characters.

        There, the bytes below 32 are just the length prefixes. That is a guess, so it is proven before it counts:
        each prefix must lead exactly to the next. Returns the strings skipped, and whether all of the window was.
        """
        start = self._pos
        span = np.frombuffer(self._chunk, np.uint8, min(window, len(self._chunk) - start), start)
        places = np.flatnonzero(span < _SHORT)[: left + 1]
        if len(places) < _MIN_RUN or places[0]:
            return 0, False
        broken = places[:-1] + span[places[:-1]] + 1 != places[1:]
        proven = int(broken.argmax()) if broken.any() else len(broken)
        self._pos = start + int(places[proven])
        return proven, proven == len(broken)

    def _walk_strings(self, left: int) -> int:
        """Walk strings one by one inside the present chunk; returns how many remain."""
        chunk, pos, walked = self._chunk, self._pos, 0
        try:
            for walked in range(left):  # noqa: B007  (needed after the loop)
                length = chunk[pos]
                if length > 0x7F:
                    break
                pos += length + 1
            else:
                walked = left
        except IndexError:
            # The last string may reach into the next chunks.
            beyond = pos - len(chunk)
            self._pos = len(chunk)
            self.skip(beyond)
            return left - walked
        if walked == left:
            beyond = pos - len(chunk)
            if beyond > 0:
                self._pos = len(chunk)
                self.skip(beyond)
            else:
                self._pos = pos
            return 0
        self._pos = pos
        self.skip(self.varint())
        return left - walked - 1


def settings_block(pairs: Iterable[tuple[str, str]]) -> bytes:
    """Settings as strings, ended by an empty name (revision 54429 and later)."""
    out = b"".join(string(name) + b"\x00" + string(value) for name, value in pairs)
    return out + b"\x00"
