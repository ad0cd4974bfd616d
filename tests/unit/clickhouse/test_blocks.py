"""Blocks hold what was put in: clickhouse-driver, which reads the server's own blocks, is the judge."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
from clickhouse_driver import defines
from clickhouse_driver.bufferedreader import CompressedBufferedReader
from clickhouse_driver.context import Context
from clickhouse_driver.streams.native import BlockInputStream
from hypothesis import given
from hypothesis import strategies as st

from infra.clickhouse import blocks
from infra.clickhouse.blocks import Coded, Values
from infra.clickhouse.native import PreparedBlock
from schemas.tables import TIME, Column, Table

OLD, NEW = 54453, defines.DBMS_MIN_REVISION_WITH_CUSTOM_SERIALIZATION


def read(data: bytes, revision: int) -> list[tuple[Any, ...]]:
    """The columns of one block as Python values."""
    context = Context()
    context.server_info = SimpleNamespace(used_revision=revision, get_timezone=lambda: "UTC")
    context.client_settings = {
        "strings_as_bytes": True,
        "strings_encoding": "utf-8",
        "use_numpy": False,
        "opentelemetry_traceparent": None,
        "opentelemetry_tracestate": "",
        "namedtuple_as_json": False,
        "server_side_params": False,
    }
    context.settings = {}
    pieces = [b"\x00" + data]
    stream = BlockInputStream(CompressedBufferedReader(lambda: pieces.pop(0) if pieces else b"", 1 << 20), context)
    return list(stream.read().get_columns())


def column(type_name: str, values: Values, rows: int, revision: int = OLD) -> list[Any]:
    """One column of the given type, written by us and read by the driver."""
    table = Table("t", (Column("c", type_name, "a column"),))
    block = blocks.block_of(table, rows, {"c": values})
    [found] = read(block.data(serialisation_byte=revision >= NEW), revision)
    return list(found)


THREE_ROWS = pytest.mark.parametrize(
    ("type_name", "values", "expected"),
    [
        ("Int64", np.array([-(2**63), 0, 2**63 - 1]), [-(2**63), 0, 2**63 - 1]),
        ("UInt32", np.array([0, 1, 2**32 - 1]), [0, 1, 2**32 - 1]),
        ("UInt16", np.array([0, 1, 65535]), [0, 1, 65535]),
        ("Float64", np.array([-0.5, 0.0, 1e300]), [-0.5, 0.0, 1e300]),
        ("Float32", np.array([-0.5, 0.0, 1.5]), [-0.5, 0.0, 1.5]),
        ("Bool", np.array([True, False, True]), [True, False, True]),
        ("String", pl.Series(["", "zoë", None]), [b"", "zoë".encode(), b""]),
        ("String", pl.Series([b"\xff\x00", b"", None]), [b"\xff\x00", b"", b""]),
        ("String", pl.Series([None, None, None], dtype=pl.String), [b"", b"", b""]),
        ("FixedString(2)", pl.Series([b"ab", b"\x00\x01", b"\xff\x00"]), [b"ab", b"\x00\x01", b"\xff\x00"]),
        (
            "FixedString(4)",
            np.array([[1], [2], [256]], dtype="<u4").view(np.uint8),
            [b"\1\0\0\0", b"\2\0\0\0", b"\0\1\0\0"],
        ),
        ("LowCardinality(String)", pl.Series(["b", "a", "b"]), [b"b", b"a", b"b"]),
        ("LowCardinality(String)", pl.Series(["b", None, ""]), [b"b", b"", b""]),
        ("LowCardinality(String)", pl.Series(["x", None, "y"], dtype=pl.Enum(["y", "x"])), [b"x", b"", b"y"]),
        ("LowCardinality(String)", pl.Series([None] * 3, dtype=pl.String), [b"", b"", b""]),
        ("LowCardinality(String)", Coded(["", "p", "q"], np.array([2, 0, 1])), [b"q", b"", b"p"]),
        ("Nullable(Float64)", pl.Series([1.5, None, -2.0]), [1.5, None, -2.0]),
        ("Nullable(Int64)", pl.Series([None, 2**62, 0]), [None, 2**62, 0]),
        (
            "Map(String, String)",
            pl.Series([{"a": "1", "b": ""}, {}, {"ü": "x" * 200}], dtype=pl.Map(pl.String, pl.String)),
            [{b"a": b"1", b"b": b""}, {}, {"ü".encode(): b"x" * 200}],
        ),
        ("Map(String, String)", pl.Series([{}, {}, {}], dtype=pl.Map(pl.String, pl.String)), [{}, {}, {}]),
        (
            "Map(String, String)",
            pl.Series([{}, None, {"k": "v"}], dtype=pl.Map(pl.String, pl.String)),
            [{}, {}, {b"k": b"v"}],
        ),
        ("Nullable(Float64)", pl.Series([None, None, None], dtype=pl.Float64), [None, None, None]),
        ("LowCardinality(String)", pl.Series(["x", "", "y"], dtype=pl.Enum(["", "y", "x"])), [b"x", b"", b"y"]),
    ],
)


@pytest.mark.parametrize("revision", [OLD, NEW])
@THREE_ROWS
def test_the_driver_reads_what_we_write(type_name: str, values: Values, expected: list[Any], revision: int) -> None:
    assert column(type_name, values, 3, revision) == expected


@pytest.mark.parametrize("order", [[2, 0, 1], [0, 1, 2], [2, 1, 0]])
@THREE_ROWS
def test_columns_are_laid_out_in_the_order_asked_for(
    type_name: str, values: Values, expected: list[Any], order: list[int]
) -> None:
    table = Table("t", (Column("c", type_name, "a column"),))
    block = blocks.block_of(table, 3, {"c": values}, np.array(order))
    [found] = read(block.data(serialisation_byte=False), OLD)
    assert list(found) == [expected[row] for row in order]


def test_pairs_are_laid_out_in_the_order_asked_for() -> None:
    pair = pl.Struct({"reason": pl.String, "log_odds": pl.Float64})
    rows = [[("a", 1.0)], [], [("b", 2.0), ("c", 3.0)]]
    values = pl.Series([[{"reason": a, "log_odds": b} for a, b in row] for row in rows], dtype=pl.List(pair))
    kind = "Array(Tuple(reason String, log_odds Float64))"
    ends, texts, amounts = blocks.lay_out(kind, values)
    assert np.frombuffer(ends, dtype="<u8").tolist() == [1, 1, 3]
    assert bytes(texts) == b"\x01a\x01b\x01c"
    assert np.frombuffer(amounts, dtype="<f8").tolist() == [1.0, 2.0, 3.0]
    assert blocks.lay_out(kind, values, np.array([2, 1, 0])) == blocks.lay_out(kind, values.reverse())


@pytest.mark.parametrize("count", [254, 255, 256, 300])
def test_null_is_told_from_every_category(count: int) -> None:
    names = [f"name {number}" for number in range(count)]
    values = pl.Series([names[0], None, names[-1]], dtype=pl.Enum(names))
    assert column("LowCardinality(String)", values, 3) == [names[0].encode(), b"", names[-1].encode()]


def test_times_are_microseconds() -> None:
    [found] = column(TIME, np.array([1_790_000_000_123_456]), 1)
    assert found.timestamp() == pytest.approx(1_790_000_000.123456, abs=1e-7)


@given(
    st.lists(
        st.binary(max_size=300) | st.integers(0, 40_000).map(lambda length: b"x" * length), min_size=1, max_size=20
    )
)
def test_strings_of_any_length(values: list[bytes]) -> None:
    assert column("String", pl.Series(values, dtype=pl.Binary), len(values)) == values


@given(st.lists(st.text(max_size=30), min_size=1, max_size=40))
def test_any_names(values: list[str]) -> None:
    found = column("LowCardinality(String)", pl.Series(values, dtype=pl.String), len(values))
    assert found == [value.encode() for value in values]


@pytest.mark.parametrize("count", [1, 256, 257, 70_000])
def test_codes_are_as_wide_as_the_names_need(count: int) -> None:
    names = [f"name {number}" for number in range(count)]
    codes = np.array([0, count - 1, count // 2])
    assert column("LowCardinality(String)", Coded(names, codes), 3) == [names[code].encode() for code in codes]


def test_a_slice_of_a_larger_frame() -> None:
    whole = pl.Series(["first", "second", None, "fourth", "fifth"])
    maps = pl.Series([{"a": "1"}, {"b": "2"}, {}, {"c": "3"}, {"d": "4"}], dtype=pl.Map(pl.String, pl.String))
    assert column("String", whole[1:4], 3) == [b"second", b"", b"fourth"]
    assert column("Map(String, String)", maps[1:4], 3) == [{b"b": b"2"}, {}, {b"c": b"3"}]


@pytest.mark.parametrize("codes", [[-1], [3]])
def test_a_code_without_a_name_is_refused(codes: list[int]) -> None:
    with pytest.raises(IndexError, match="between 0 and 2"):
        blocks.coded(["", "a", "b"], np.array(codes))


def test_a_fixed_string_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="event_id must hold 16 bytes"):
        blocks.fixed_strings(pl.Series("event_id", [b"x" * 16, b"x" * 15]), 16)


def test_a_column_without_values_is_named() -> None:
    table = Table("t", (Column("missing", "String", "a column"),))
    with pytest.raises(KeyError, match="missing"):
        blocks.block_of(table, 0, {})


def test_an_unknown_type_is_named() -> None:
    with pytest.raises(TypeError, match="no way is known to write IPv6"):
        blocks.lay_out("IPv6", pl.Series("address", ["::1"]))


def test_the_token_tells_content_apart() -> None:
    table = Table("t", (Column("c", "Int64", "a column"),))
    one, same, other = (PreparedBlock(blocks.block_of(table, 1, {"c": np.array([value])})) for value in (1, 1, 2))
    assert one.token == same.token
    assert one.token != other.token
