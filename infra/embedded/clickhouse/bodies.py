"""Bodies of HTTP requests and responses: content encodings and ClickHouse's own frames, piece by piece."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any, Final, Protocol

import lz4.frame
import zstandard

from infra.embedded.clickhouse import compression
from infra.embedded.clickhouse.errors import BAD_ARGUMENTS, CANNOT_DECOMPRESS, ClickHouseError, ProtocolError
from infra.embedded.clickhouse.wire import ByteReader

# One step of unpacking gives at most this much, however small its input: a bomb cannot fill the memory.
STEP_BYTES: Final = 1 << 20
# A zstd block of 4 bytes may unpack to 128 KiB, and its decoder has no cap: small input steps are the cap.
_ZSTD_INPUT_BYTES: Final = 4096


class Decoder(Protocol):
    """Unpacks a body as it comes in."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Plain pieces of what can be unpacked so far. Raises ClickHouseError for damaged data."""

    def end(self) -> None:
        """Raise ClickHouseError when the body stopped in the middle."""


def _damaged(encoding: str) -> ClickHouseError:
    return ClickHouseError(CANNOT_DECOMPRESS, f"The body is not valid {encoding}")


class Plain:
    """No encoding."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        if data:
            yield data

    def end(self) -> None:
        return


class Zlib:
    """gzip and deflate."""

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding
        self._bits = 31 if encoding == "gzip" else 15
        self._step = zlib.decompressobj(self._bits)
        self._fed = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._step.eof:
                self._step = zlib.decompressobj(self._bits)  # gzip allows several members
            self._fed = True
            try:
                plain = self._step.decompress(data, STEP_BYTES)
            except zlib.error as error:
                raise _damaged(self._encoding) from error
            data = self._step.unconsumed_tail or self._step.unused_data
            if plain:
                yield plain

    def end(self) -> None:
        if self._fed and not self._step.eof:
            raise _damaged(self._encoding)


class Lz4Frame:
    """lz4's own frame format, as HTTP clients send it."""

    def __init__(self) -> None:
        self._step: Any = lz4.frame.LZ4FrameDecompressor()
        self._fed = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        pending = data
        while pending or (self._fed and not self._step.needs_input and not self._step.eof):
            if self._step.eof:
                self._step = lz4.frame.LZ4FrameDecompressor()
            self._fed = True
            try:
                plain: bytes = self._step.decompress(pending, STEP_BYTES)
            except RuntimeError as error:
                raise _damaged("lz4") from error
            pending = (self._step.unused_data or b"") if self._step.eof else b""
            if plain:
                yield plain

    def end(self) -> None:
        if self._fed and not self._step.eof:
            raise _damaged("lz4")


class Zstd:
    """zstd frames."""

    def __init__(self) -> None:
        self._step = zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj()
        self._fed = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        pending = data
        while pending:
            if self._step.eof:
                self._step = zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj()
            part, pending = pending[:_ZSTD_INPUT_BYTES], pending[_ZSTD_INPUT_BYTES:]
            self._fed = True
            try:
                plain = self._step.decompress(part)
            except zstandard.ZstdError as error:
                raise _damaged("zstd") from error
            if self._step.eof and self._step.unused_data:
                pending = self._step.unused_data + pending
            if plain:
                yield plain

    def end(self) -> None:
        if self._fed and not self._step.eof:
            raise _damaged("zstd")


class Frames:
    """ClickHouse's frames (`decompress=1`), behind whatever content encoding there is."""

    def __init__(self) -> None:
        self._pending = b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        self._pending += data
        while len(self._pending) >= 25:
            packed_bytes = int.from_bytes(self._pending[17:21], "little")
            if packed_bytes > compression.MAX_FRAME_BYTES:
                raise _damaged("ClickHouse compression")
            if len(self._pending) < 16 + packed_bytes:
                return
            reader = ByteReader.of(self._pending)
            try:
                plain = compression.read_frame(reader)
            except (ProtocolError, EOFError) as error:
                raise _damaged("ClickHouse compression") from error
            self._pending = self._pending[reader.position() :]
            if plain:
                yield plain

    def end(self) -> None:
        if self._pending:
            raise _damaged("ClickHouse compression")


class Chain:
    """Content encoding first, ClickHouse's frames second."""

    def __init__(self, outer: Decoder, inner: Decoder) -> None:
        self._outer = outer
        self._inner = inner

    def feed(self, data: bytes) -> Iterator[bytes]:
        for part in self._outer.feed(data):
            yield from self._inner.feed(part)

    def end(self) -> None:
        self._outer.end()
        self._inner.end()


def decoder(content_encoding: str, frames: bool) -> Decoder:
    """The decoder for a request; raises ClickHouseError for an encoding that is not served."""
    name = content_encoding.strip().lower()
    outer: Decoder
    if name in {"", "identity"}:
        outer = Plain()
    elif name in {"gzip", "deflate"}:
        outer = Zlib(name)
    elif name == "lz4":
        outer = Lz4Frame()
    elif name == "zstd":
        outer = Zstd()
    else:
        raise ClickHouseError(
            BAD_ARGUMENTS, f"Unknown Content-Encoding {name[:32]!r}: use gzip, deflate, lz4, zstd or none"
        )
    return Chain(outer, Frames()) if frames else outer


class Encoder(Protocol):
    """Packs a response piece by piece."""

    def pack(self, data: bytes) -> bytes:
        """Bytes that can go out now."""

    def finish(self) -> bytes:
        """The rest."""


class PlainOut:
    """No encoding."""

    def pack(self, data: bytes) -> bytes:
        return data

    def finish(self) -> bytes:
        return b""


class FramesOut(PlainOut):
    """ClickHouse's frames (`compress=1`)."""

    def pack(self, data: bytes) -> bytes:
        return compression.compress(data)


class _Packed:
    def __init__(self, step: Any) -> None:
        self._step = step

    def pack(self, data: bytes) -> bytes:
        return bytes(self._step.compress(data))

    def finish(self) -> bytes:
        return bytes(self._step.flush())


class _Lz4Out:
    def __init__(self) -> None:
        self._step: Any = lz4.frame.LZ4FrameCompressor()
        self._begun = False

    def pack(self, data: bytes) -> bytes:
        head = b"" if self._begun else bytes(self._step.begin())
        self._begun = True
        return head + bytes(self._step.compress(data))

    def finish(self) -> bytes:
        return self.pack(b"") + bytes(self._step.flush())


def encoder(accept_encoding: str, allowed: bool, frames: bool) -> tuple[Encoder, str]:
    """The encoder for a response and the name of its content encoding (empty for none)."""
    if frames:
        return FramesOut(), ""
    offered = {part.split(";")[0].strip().lower() for part in accept_encoding.split(",")}
    if allowed:
        if "lz4" in offered:
            return _Lz4Out(), "lz4"
        if "zstd" in offered:
            return _Packed(zstandard.ZstdCompressor(level=1).compressobj()), "zstd"
        if "gzip" in offered:
            return _Packed(zlib.compressobj(3, zlib.DEFLATED, 31)), "gzip"
        if "deflate" in offered:
            return _Packed(zlib.compressobj(3)), "deflate"
    return PlainOut(), ""
