"""ClickHouse's compressed frames: CityHash128 (v1.0.2), method byte, two sizes, data."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

import lz4.block
import zstandard
from clickhouse_cityhash.cityhash import CityHash128

from infra.embedded.clickhouse.errors import ProtocolError
from infra.embedded.clickhouse.wire import ByteReader

NONE: Final = 0x02
LZ4: Final = 0x82
ZSTD: Final = 0x90
FRAME_BYTES: Final = 1 << 20
MAX_FRAME_BYTES: Final = 1 << 30
# LZ4 cannot unpack to more than 255 times its size: a larger claim is a lie, and would be allocated at once.
_LZ4_RATIO: Final = 255
_HEADER_BYTES: Final = 9
_CHECKSUM = struct.Struct("<QQ")
_HEADER = struct.Struct("<BII")


def _checksum(frame: bytes) -> bytes:
    value: int = CityHash128(frame)
    return _CHECKSUM.pack(value >> 64, value & 0xFFFFFFFFFFFFFFFF)


def compress(data: bytes) -> bytes:
    """LZ4 frames of at most 1 MiB of plain bytes each."""
    frames: list[bytes] = []
    for start in range(0, len(data), FRAME_BYTES):
        part = data[start : start + FRAME_BYTES]
        packed: bytes = lz4.block.compress(part, store_size=False)
        frame = _HEADER.pack(LZ4, len(packed) + _HEADER_BYTES, len(part)) + packed
        frames += (_checksum(frame), frame)
    return b"".join(frames)


def read_frame(reader: ByteReader) -> bytes:
    """Read and unpack one frame.

    Raises ProtocolError when sizes, checksum, method or data are wrong; EOFError at the end of the stream.
    """
    checksum = reader.exactly(16)
    header = reader.exactly(_HEADER_BYTES)
    method, packed_bytes, plain_bytes = _HEADER.unpack(header)
    if not _HEADER_BYTES <= packed_bytes <= MAX_FRAME_BYTES or plain_bytes > MAX_FRAME_BYTES:
        raise ProtocolError("a compressed frame claims an impossible size")
    packed_bytes -= _HEADER_BYTES
    if method == LZ4 and plain_bytes > (packed_bytes + 16) * _LZ4_RATIO:
        raise ProtocolError("a compressed frame claims an impossible size")
    packed = reader.exactly(packed_bytes)
    if _checksum(header + packed) != checksum:
        raise ProtocolError("a compressed frame has a wrong checksum")
    return _unpack(method, packed, plain_bytes)


def _unpack(method: int, packed: bytes, plain_bytes: int) -> bytes:
    try:
        if method == LZ4:
            plain: bytes = lz4.block.decompress(packed, uncompressed_size=plain_bytes)
        elif method == ZSTD:
            if zstandard.frame_content_size(packed) not in (plain_bytes, -1):
                raise ProtocolError("a compressed frame has another size than it claims")
            plain = zstandard.ZstdDecompressor().decompress(packed, max_output_size=plain_bytes)
        elif method == NONE:
            plain = packed
        else:
            raise ProtocolError(f"unknown compression method {method:#x}")
    except (lz4.block.LZ4BlockError, zstandard.ZstdError) as error:
        raise ProtocolError("a compressed frame cannot be unpacked") from error
    if len(plain) != plain_bytes:
        raise ProtocolError("a compressed frame has another size than it claims")
    return plain


def frames_of(reader: ByteReader) -> Callable[[], bytes]:
    """A pull function for a ByteReader over the plain bytes of frames."""

    def pull() -> bytes:
        while True:
            plain = read_frame(reader)
            if plain:
                return plain

    return pull
