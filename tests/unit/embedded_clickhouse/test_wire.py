"""Primitives: whatever the chunks, the same values; and no trust in claimed lengths."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.embedded.clickhouse.errors import ProtocolError
from infra.embedded.clickhouse.wire import ByteReader, string, varint


def chunked(data: bytes, cuts: list[int]) -> ByteReader:
    """A reader that gets `data` in pieces."""
    places = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    pieces = [data[a:b] for a, b in itertools.pairwise(places)]
    return ByteReader(lambda: pieces.pop(0) if pieces else b"")


cuts = st.lists(st.integers(0, 10_000), max_size=8)


@given(st.lists(st.integers(0, (1 << 64) - 1), max_size=20), cuts)
def test_varints(values: list[int], where: list[int]) -> None:
    reader = chunked(b"".join(map(varint, values)), where)
    assert [reader.varint() for _ in values] == values
    assert reader.at_end()


@pytest.mark.parametrize("data", [b"\xff" * 9 + b"\x02", b"\x80" * 11, b"\xff" * 20])
def test_numbers_beyond_64_bits_are_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        ByteReader.of(data).varint()


@given(st.lists(st.text(max_size=200), max_size=10), cuts)
def test_texts(values: list[str], where: list[int]) -> None:
    reader = chunked(b"".join(map(string, values)), where)
    assert [reader.text(1000) for _ in values] == values


def test_long_and_broken_texts_are_refused_before_they_are_read() -> None:
    with pytest.raises(ProtocolError):
        ByteReader.of(varint(1 << 62)).text(100)
    with pytest.raises(ProtocolError):
        ByteReader.of(string(b"\xff\xfe")).text(100)
    with pytest.raises(EOFError):
        ByteReader.of(varint(50) + b"x").text(100)


texts = st.one_of(
    st.lists(st.binary(max_size=40), max_size=150),
    st.lists(st.binary(min_size=100, max_size=300), max_size=20),
    # Runs of equal lengths and short printable texts take the fast ways.
    st.builds(lambda value, count: [value] * count, st.binary(max_size=60), st.integers(0, 400)),
    st.builds(lambda value, count: [value] * count, st.binary(min_size=120, max_size=700), st.integers(0, 100)),
    st.builds(
        lambda count, odd, place: [*(f"customer-{i}".encode() for i in range(count)), odd][: count + place],
        st.integers(0, 500),
        st.binary(max_size=200),
        st.integers(0, 1),
    ),
)


@given(texts, texts, cuts)
def test_strings_are_skipped_exactly(first: list[bytes], second: list[bytes], where: list[int]) -> None:
    values = first + second
    data = b"".join(map(string, values))
    reader = chunked(data + b"end", where)
    taken: list[bytes] = []
    reader.tee(taken.append)
    reader.skip_strings(len(values))
    reader.untee()
    assert b"".join(taken) == data
    assert reader.exactly(3) == b"end"
    assert reader.at_end()


@given(st.binary(min_size=1, max_size=2000), cuts)
def test_skipping_strings_agrees_with_reading_them(data: bytes, where: list[int]) -> None:
    slow, count, end = ByteReader.of(data), 0, 0
    try:
        while not slow.at_end():
            slow.blob(1 << 30)
            count, end = count + 1, slow.position()
    except (EOFError, ProtocolError):
        pass
    fast = chunked(data, where)
    taken: list[bytes] = []
    fast.tee(taken.append)
    fast.skip_strings(count)
    fast.untee()
    assert b"".join(taken) == data[:end]


def test_skipping_past_the_end_is_the_end_not_an_allocation() -> None:
    with pytest.raises(EOFError):
        ByteReader.of(b"\x05" * 1000).skip(1 << 60)
    with pytest.raises(EOFError):
        ByteReader.of(b"\x05" * 1000).skip_strings(1 << 60)
