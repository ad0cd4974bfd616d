"""Blocks: their end is found without reading their values. The judge of the bytes is clickhouse-driver's writer."""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools
import uuid
from decimal import Decimal
from io import BytesIO
from types import SimpleNamespace
from typing import Any

import lz4.block
import pytest
import zstandard
from clickhouse_driver.block import ColumnOrientedBlock
from clickhouse_driver.bufferedwriter import BufferedSocketWriter
from clickhouse_driver.context import Context
from clickhouse_driver.streams.native import BlockOutputStream
from hypothesis import given
from hypothesis import strategies as st

from infra.embedded.clickhouse import compression
from infra.embedded.clickhouse.blocks import (
    BLOCK_INFO,
    for_revision,
    header_block,
    skip_block,
    skip_block_info,
    split_blocks,
)
from infra.embedded.clickhouse.columns import layout, split_arguments
from infra.embedded.clickhouse.errors import ClickHouseError, ProtocolError
from infra.embedded.clickhouse.wire import ByteReader, string, varint

DATE = dt.datetime(2026, 1, 2, 3, 4, 5)
VALUES: dict[str, list[Any]] = {
    "UInt8": [0, 255],
    "Int16": [-1, 5],
    "UInt32": [1, 2],
    "Int64": [-(1 << 63), 1],
    "UInt128": [1, 1 << 100],
    "Int256": [-1, 1],
    "Float32": [0.5, 1.5],
    "Float64": [0.5, 1.5],
    "Bool": [True, False],
    "String": ["", "x" * 300],
    "FixedString(5)": ["abcde", "fghij"],
    "Nullable(String)": [None, "x"],
    "LowCardinality(String)": ["a", "b"],
    "LowCardinality(Nullable(String))": [None, "b"],
    "Array(Nullable(UInt16))": [[], [1, None]],
    "Array(Array(String))": [[[]], [["a"], []]],
    "Array(LowCardinality(String))": [[], ["a", "a"]],
    "Map(String, Array(UInt8))": [{}, {"a": [1], "b": []}],
    "Tuple(a UInt8, `b c` String)": [(1, "x"), (2, "")],
    "Enum8('a, b)' = 1, 'it\\'s' = 2)": ["a, b)", "it's"],
    "Enum16('a' = 300)": ["a", "a"],
    "UUID": [uuid.UUID(int=1), uuid.UUID(int=2)],
    "Date": [DATE.date(), DATE.date()],
    "DateTime('UTC')": [DATE, DATE],
    "DateTime64(6, 'UTC')": [DATE, DATE],
    "Decimal(9, 2)": [Decimal(1), Decimal("2.5")],
    "Decimal(18, 2)": [Decimal(1), Decimal("2.5")],
    "Decimal(38, 2)": [Decimal(1), Decimal("2.5")],
    "Decimal(76, 2)": [Decimal(1), Decimal("2.5")],
    "IPv4": ["127.0.0.1", "1.2.3.4"],
    "IPv6": ["::1", "fe80::"],
    "SimpleAggregateFunction(anyLast, Nullable(String))": ["a", None],
    "IntervalDay": [1, 2],
}


def written(columns: list[tuple[str, str]], data: list[list[Any]]) -> bytes:
    """A block as clickhouse-driver sends it to a server of our revision, block info included."""
    context = Context()
    context.client_settings = {
        "strings_as_bytes": False, "strings_encoding": "utf-8", "use_numpy": False, "opentelemetry_traceparent": None,
        "input_format_null_as_default": False, "namedtuple_as_json": True, "server_side_params": False,
    }  # fmt: skip
    context.settings = {}
    context.server_info = SimpleNamespace(used_revision=54453, get_timezone=lambda: "UTC")
    sink = BytesIO()

    out = BufferedSocketWriter(SimpleNamespace(sendall=lambda piece: sink.write(bytes(piece))), 1 << 16)
    BlockOutputStream(out, context).write(ColumnOrientedBlock(columns, data))
    out.flush()
    return sink.getvalue()


cuts = st.lists(st.integers(1, 5000), max_size=6)


@pytest.mark.parametrize("type_", VALUES)
@pytest.mark.parametrize("rows", [0, 1, 2, 90])
def test_the_end_of_every_column(type_: str, rows: int) -> None:
    values = (VALUES[type_] * rows)[:rows]
    block = written(
        [("k", "UInt8"), ("v", type_), ("last", "String")], [[1] * rows, values, ["z"] * rows] if rows else []
    )
    reader = ByteReader.of(block + b"next")
    skip_block_info(reader)
    shape = skip_block(reader) if rows else None
    if shape is not None:
        assert (shape.columns, shape.rows) == (3, rows)
        assert shape.names_and_types[1] == ("v", type_)
        assert reader.exactly(4) == b"next"


@given(st.lists(st.sampled_from([*VALUES]), min_size=1, max_size=8), st.integers(1, 60), cuts)
def test_any_mix_of_columns_in_any_pieces(types: list[str], rows: int, where: list[int]) -> None:
    columns = [(f"c{i}", type_) for i, type_ in enumerate(types)]
    block = written(columns, [(VALUES[type_] * rows)[:rows] for type_ in types])
    places = sorted({cut % len(block) for cut in where} | {0, len(block)})
    pieces = [block[a:b] for a, b in itertools.pairwise(places)]
    reader = ByteReader(lambda: pieces.pop(0) if pieces else b"")
    skip_block_info(reader)
    taken: list[bytes] = []
    reader.tee(taken.append)
    skip_block(reader)
    reader.untee()
    assert b"".join(taken) == block[len(BLOCK_INFO) :]
    assert reader.at_end()


@given(st.binary(max_size=300))
def test_random_bytes_end_in_one_of_three_ways(data: bytes) -> None:
    with contextlib.suppress(EOFError, ProtocolError, ClickHouseError):
        skip_block(ByteReader.of(data))


def test_splitting_and_newer_revisions() -> None:
    one = header_block([("a", "UInt8"), ("b", "String")])
    two = varint(1) + varint(2) + string("a") + string("UInt8") + b"\x07\x08"
    assert [*split_blocks(two + two)] == [two, two]
    assert one == b"\x02\x00\x01a\x05UInt8\x01b\x06String"
    assert for_revision(two, 54453) == two
    newer = BLOCK_INFO + varint(1) + varint(2) + string("a") + string("UInt8") + b"\x00\x07\x08"
    assert for_revision(two + two, 54454) == newer * 2


@pytest.mark.parametrize(
    "text", ["", "1", "Array", "Array(", "Array()", "Array(Int8", "Int8)", "Nullable(Int8, Int8)", "FixedString(x)",
             "FixedString", "Decimal(99, 1)", "Decimal(x)", "Array(" * 40 + "Int8" + ")" * 40],
)  # fmt: skip
def test_broken_types(text: str) -> None:
    with pytest.raises((ProtocolError, ClickHouseError)):
        layout(text)


@pytest.mark.parametrize("text", ["JSON", "Dynamic", "Variant(Int8, String)", "AggregateFunction(sum, Int8)"])
def test_types_without_a_walk_name_the_way_out(text: str) -> None:
    with pytest.raises(ClickHouseError, match="over HTTP"):
        layout(text)


def test_arguments_are_split_outside_of_brackets_and_quotes() -> None:
    assert split_arguments("a Map(Int8, Int8), `b,c` Enum8('(,' = 1)") == [
        "a Map(Int8, Int8)",
        " `b,c` Enum8('(,' = 1)",
    ]
    assert split_arguments(" ") == []


@given(st.binary(max_size=3000))
def test_frames_round_trip(data: bytes) -> None:
    reader, parts = ByteReader.of(compression.compress(data)), []
    while not reader.at_end():
        parts.append(compression.read_frame(reader))
    assert b"".join(parts) == data


@given(st.binary(min_size=1, max_size=300), st.integers(0, 10_000), st.integers(1, 255))
def test_a_changed_frame_is_noticed(data: bytes, place: int, change: int) -> None:
    frame = bytearray(compression.compress(data))
    frame[place % len(frame)] ^= change
    with pytest.raises((ProtocolError, EOFError)):
        compression.read_frame(ByteReader.of(bytes(frame)))


@pytest.mark.parametrize("method", [compression.LZ4, compression.ZSTD, compression.NONE])
def test_frames_of_other_methods(method: int) -> None:
    plain = b"touchstone" * 50
    packed = {
        compression.LZ4: lz4.block.compress(plain, store_size=False),
        compression.ZSTD: zstandard.ZstdCompressor().compress(plain),
        compression.NONE: plain,
    }[method]
    frame = compression._HEADER.pack(method, len(packed) + 9, len(plain)) + packed
    assert compression.read_frame(ByteReader.of(compression._checksum(frame) + frame)) == plain
