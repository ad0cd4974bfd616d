"""Content-Encoding: what a packed body unpacks to, with a cap on it. Pure."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from typing import Final

import zstandard

ACCEPTED: Final = "gzip, zstd"
"""For the header Accept-Encoding of a refusal (RFC 9110, 15.5.16)."""

_GZIP: Final = 16 + zlib.MAX_WBITS
_MAX_ZSTD_WINDOW_BYTES: Final = 8 << 20
"""What RFC 8878 asks every decoder to support; larger windows are memory on a stranger's word."""
_ZSTD_SLICE_BYTES: Final = 256
"""zstd's decoder has no cap on its output. Four bytes can stand for a block of 128 KiB, so a slice unpacks to 8 MiB
at most before the size is looked at."""


class EncodingError(ValueError):
    """Base of the following."""


class UnknownEncodingError(EncodingError):
    """Not one of gzip, zstd and identity, or several of them stacked."""


class CorruptBodyError(EncodingError):
    """The bytes do not unpack, end too early, or something follows."""


class TooLargeError(EncodingError):
    """More than the cap."""


def unpack(body: bytes, encoding: str, max_bytes: int) -> bytes:
    """The body as it was before packing; raises one of the errors above."""
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return body
    decoder = _DECODERS.get(name)
    if decoder is None:
        raise UnknownEncodingError(f"Content-Encoding may be gzip, zstd or none; {ACCEPTED} unpack, once.")
    return decoder(body, max_bytes)


def _gunzip(body: bytes, max_bytes: int) -> bytes:
    parts: list[bytes] = []
    room = max_bytes
    rest = body
    while rest:  # a file of several members unpacks to all of them
        decoder = zlib.decompressobj(_GZIP)
        try:
            part = decoder.decompress(rest, room + 1)
        except zlib.error as error:
            raise CorruptBodyError(f"The body is not gzip as Content-Encoding says: {error}.") from None
        room -= len(part)
        if room < 0:
            raise TooLargeError(f"The body unpacks to more than {max_bytes} bytes.")
        if not decoder.eof:
            raise CorruptBodyError("The gzip body ends too early.")
        parts.append(part)
        rest = decoder.unused_data
    if not parts:
        raise CorruptBodyError("The body is empty, which is not gzip.")
    return b"".join(parts)


def _unzstd(body: bytes, max_bytes: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    context = zstandard.ZstdDecompressor(max_window_size=_MAX_ZSTD_WINDOW_BYTES)
    decoder = context.decompressobj()
    started = False
    try:
        for at in range(0, len(body), _ZSTD_SLICE_BYTES):
            rest = body[at : at + _ZSTD_SLICE_BYTES]
            while rest:
                started = True
                part = decoder.decompress(rest)
                size += len(part)
                if size > max_bytes:
                    raise TooLargeError(f"The body unpacks to more than {max_bytes} bytes.")
                parts.append(part)
                rest = b""
                if decoder.eof:  # frames may follow one another
                    rest = decoder.unused_data
                    decoder = context.decompressobj()
                    started = False
    except zstandard.ZstdError as error:
        raise CorruptBodyError(f"The body is not zstd as Content-Encoding says: {error}.") from None
    if started or not body:
        raise CorruptBodyError("The zstd body ends too early.")
    return b"".join(parts)


_DECODERS: Final[Mapping[str, Callable[[bytes, int], bytes]]] = {
    "gzip": _gunzip,
    "x-gzip": _gunzip,
    "zstd": _unzstd,
}
