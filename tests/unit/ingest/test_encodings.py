"""Packed bodies: what unpacks, what does not, and bombs."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.encodings import CorruptBodyError, TooLargeError, UnknownEncodingError, unpack

CAP = 1 << 20
pack_zstd = zstandard.ZstdCompressor().compress
BODY = b'{"event_id":"e-1"}' * 1_000
PACKED = {"gzip": gzip.compress(BODY), "zstd": pack_zstd(BODY)}


@given(st.binary(max_size=5_000), st.sampled_from(["", "identity", "gzip", "GZIP ", "x-gzip", "zstd"]))
def test_round_trip(body: bytes, encoding: str) -> None:
    name = encoding.strip().lower()
    packed = gzip.compress(body) if "gzip" in name else pack_zstd(body) if name == "zstd" else body
    assert unpack(packed, encoding, 5_000) == body


@pytest.mark.parametrize("encoding", PACKED)
def test_several_parts_are_one_body(encoding: str) -> None:
    assert unpack(PACKED[encoding] * 3, encoding, CAP) == BODY * 3


def test_streamed_zstd_without_a_size_in_front() -> None:
    packer = zstandard.ZstdCompressor(write_content_size=False).compressobj()
    assert unpack(packer.compress(BODY) + packer.flush(), "zstd", CAP) == BODY


@pytest.mark.parametrize("encoding", PACKED)
def test_the_cap_is_exact(encoding: str) -> None:
    assert unpack(PACKED[encoding], encoding, len(BODY)) == BODY
    with pytest.raises(TooLargeError):
        unpack(PACKED[encoding], encoding, len(BODY) - 1)


@pytest.mark.parametrize("encoding", PACKED)
@pytest.mark.parametrize("cut", [1, 3, 8, 20])
def test_an_early_end_is_an_error(encoding: str, cut: int) -> None:
    with pytest.raises(CorruptBodyError):
        unpack(PACKED[encoding][:-cut], encoding, CAP)
    with pytest.raises(CorruptBodyError):
        unpack(b"", encoding, CAP)


@pytest.mark.parametrize("encoding", PACKED)
def test_something_behind_the_end_is_an_error(encoding: str) -> None:
    with pytest.raises(CorruptBodyError):
        unpack(PACKED[encoding] + b"x", encoding, CAP)
    with pytest.raises(CorruptBodyError):
        unpack(PACKED[encoding] + b'{"more":1}' * 100, encoding, CAP)


@pytest.mark.parametrize("encoding", PACKED)
def test_damage_is_an_error(encoding: str) -> None:
    damaged = bytearray(PACKED[encoding])
    damaged[len(damaged) // 2] ^= 0xFF
    with pytest.raises(CorruptBodyError):
        unpack(b"not packed at all", encoding, CAP)
    try:
        assert unpack(bytes(damaged), encoding, CAP) != BODY
    except CorruptBodyError:
        assert encoding in PACKED


@pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, gzip", "zstd, gzip", "compress", "utf-8"])
def test_other_encodings_are_named(encoding: str) -> None:
    with pytest.raises(UnknownEncodingError, match="gzip, zstd"):
        unpack(b"", encoding, CAP)


def zstd_bomb() -> bytes:
    """A frame of 4,000 run-length blocks of 128 KiB, four bytes each, without a size in front."""
    block = ((128 << 10) << 3 | 1 << 1).to_bytes(3, "little") + b"x"
    return zstandard.FRAME_HEADER + b"\x00\x58" + block * 4_000


@pytest.mark.parametrize(
    ("encoding", "bomb"),
    [
        ("gzip", zlib.compress(bytes(64 << 20), 9, wbits=31)),
        ("zstd", pack_zstd(bytes(512 << 20))),
        ("zstd", zstd_bomb()),
    ],
    ids=["gzip", "zstd with its size", "zstd in blocks"],
)
def test_bombs_cost_little_memory(encoding: str, bomb: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(TooLargeError):
            unpack(bomb, encoding, CAP)
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()
