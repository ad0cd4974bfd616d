"""Blocks of ClickHouse's Native format, made from whole columns: no Python object per row.

A block is two counts, then per column its name, its type and its values, laid out as the server keeps them in
memory; the server copies them instead of parsing. docs/adr/0004-clickhouse-tables.md compares the ways to insert.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from schemas.tables import TIME, Table

Bytes = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.int64]
Order = npt.NDArray[np.intp]
Part = bytes | memoryview
"""Bytes, or the memory of an array, sent as it is."""

# Native.LowCardinality: version of the keys' serialisation, then flags with the width of the codes.
_SHARED_DICTIONARIES: Final = (1).to_bytes(8, "little")
_ADDITIONAL_KEYS: Final = 1 << 9
_CODE_TYPES: Final = ((1 << 8, "<u1"), (1 << 16, "<u2"), (1 << 32, "<u4"))
_VARINT_STEPS: Final = (1 << 7, 1 << 14, 1 << 21, 1 << 28)


_NUMBERS: Final = {
    TIME: "<i8",
    "Int64": "<i8",
    "UInt32": "<u4",
    "UInt16": "<u2",
    "Float64": "<f8",
    "Float32": "<f4",
    "Bool": "<u1",
}


@dataclass(frozen=True, slots=True)
class Coded:
    """Names as places in a list: ``codes`` (n,) are integers from 0 to ``len(names) - 1``."""

    names: Sequence[str]
    codes: npt.NDArray[Any]


Values = pl.Series | npt.NDArray[Any] | Coded
"""One column: a series for strings, maps, lists and what may be null; an array for numbers, times in microseconds and,
as a matrix of bytes with a row each, for fixed strings."""


@dataclass(frozen=True, slots=True)
class Block:
    """Rows on their way into ``table``: its columns in order, each as its name and type, and its values."""

    table: str
    columns: tuple[str, ...]
    rows: int
    parts: tuple[tuple[bytes, tuple[Part, ...]], ...]

    def pieces(self, *, serialisation_byte: bool) -> Iterator[Part]:
        """The block on the wire; from protocol revision 54454 on a byte of 0 precedes each column's values."""
        between = b"\0" if serialisation_byte else b""
        yield varint(len(self.columns)) + varint(self.rows)
        for head, values in self.parts:
            yield head + between
            yield from values

    def data(self, *, serialisation_byte: bool) -> bytes:
        """All `pieces` as one."""
        return b"".join(self.pieces(serialisation_byte=serialisation_byte))


def block_of(table: Table, rows: int, values: Mapping[str, Values], order: Order | None = None) -> Block:
    """A block of ``rows`` rows with every column of the table. KeyError names a column without values.

    ``order`` (rows,): which of the values comes first, second and so on; without it they stay as they are. Columns are
    brought into it where that is cheapest, such as after names have become codes.
    """
    parts = tuple(
        (text(column.name) + text(column.type), lay_out(column.type, values[column.name], order))
        for column in table.columns
    )
    return Block(table.name, table.names, rows, parts)


def lay_out(type_name: str, values: Values, order: Order | None = None) -> tuple[Part, ...]:
    """Values as ``type_name`` lays them out. TypeError for a type that no table here has."""
    if isinstance(values, Coded):
        return (coded(values.names, _ordered(values.codes, order)),)
    if isinstance(values, np.ndarray):
        dtype = "<u1" if type_name.startswith("FixedString(") else _NUMBERS[type_name]
        return (numbers(_ordered(values, order), dtype),)
    if type_name in _NUMBERS:
        return (numbers(_ordered(values.to_numpy(), order), _NUMBERS[type_name]),)
    if type_name == "String":
        return (strings(values, order),)
    if type_name == "LowCardinality(String)":
        return (low_cardinality(values, order),)
    name, _, inner = type_name.removesuffix(")").partition("(")
    if name == "FixedString":
        return (fixed_strings(values, int(inner), order),)
    if name == "Nullable":
        return nullable(values, _NUMBERS[inner], order)
    if type_name == "Map(String, String)":
        return string_maps(values, order)
    if name == "Array":
        return pairs(values, order)
    raise TypeError(f"column {values.name}: no way is known to write {type_name}")


def varint(value: int) -> bytes:
    """ClickHouse's variable-length unsigned integer."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def text(value: str) -> bytes:
    """One String value."""
    encoded = value.encode()
    return varint(len(encoded)) + encoded


def numbers(values: npt.NDArray[Any], dtype: str) -> Part:
    """Values of a fixed width; ``dtype`` is numpy's name with byte order, such as ``<f8``. May share their memory."""
    return _memory(np.ascontiguousarray(values, dtype=dtype))


def strings(values: pl.Series, order: Order | None = None) -> Part:
    """Values of type String from a String or Binary series; null becomes empty."""
    if values.null_count() == len(values):
        return bytes(len(values))
    return _prefixed(*string_buffers(values if order is None else values.gather(order)))


def fixed_strings(values: pl.Series, width: int, order: Order | None = None) -> Part:
    """Values of FixedString(width) from a Binary series; ValueError when one has another length."""
    starts, data = string_buffers(values)
    if (np.diff(starts) != width).any():
        raise ValueError(f"{values.name} must hold {width} bytes in every row")
    # One item each: numpy moves it whole.
    return _memory(_ordered(data.view(f"V{width}"), order))


def nullable(values: pl.Series, dtype: str, order: Order | None = None) -> tuple[Part, Part]:
    """Values of Nullable(number): which are null, then the numbers."""
    if values.null_count() == len(values):
        return b"\1" * len(values), bytes(np.dtype(dtype).itemsize * len(values))
    nulls = values.is_null().cast(pl.UInt8).to_numpy()
    return _memory(_ordered(nulls, order)), numbers(_ordered(values.fill_null(0).to_numpy(), order), dtype)


def coded(names: Sequence[str], codes: npt.NDArray[Any]) -> bytes:
    """Values of LowCardinality(String): ``codes`` are places in ``names``; IndexError when one is outside."""
    if not len(codes):
        return b""
    if codes.min() < 0 or codes.max() >= len(names):
        raise IndexError(f"codes must lie between 0 and {len(names) - 1}")
    width, dtype = next((index, dtype) for index, (limit, dtype) in enumerate(_CODE_TYPES) if len(names) <= limit)
    return b"".join(
        (
            _SHARED_DICTIONARIES,
            (width | _ADDITIONAL_KEYS).to_bytes(8, "little"),
            len(names).to_bytes(8, "little"),
            *(text(name) for name in names),
            len(codes).to_bytes(8, "little"),
            numbers(codes, dtype),
        )
    )


def low_cardinality(values: pl.Series, order: Order | None = None) -> bytes:
    """Values of LowCardinality(String) from a String or Enum series; null becomes empty."""
    if values.null_count() == len(values):
        return coded([""], np.zeros(len(values), dtype=np.uint8))
    if not isinstance(values.dtype, pl.Enum):
        # Sorted, so that the same values make the same block again. What is no category, the empty name, becomes null.
        names = values.unique().sort()
        values = values.cast(pl.Enum(names.filter(names != "")), strict=False)
    categories = values.dtype.categories  # type: ignore[attr-defined]
    places = values.to_physical()
    # As narrow as they come; null becomes 0, so one more than the categories must fit.
    wide = places.cast(pl.Int64) if len(categories) >= _CODE_TYPES[0][0] else places
    return coded(["", *categories], _ordered((wide + 1).fill_null(0).to_numpy(), order))


def pairs(values: pl.Series, order: Order | None = None) -> tuple[Part, ...]:
    """Values of Array(Tuple(String, Float64)) from a series of lists of structs of two fields: ends of the rows, texts,
    numbers."""
    if order is not None:
        values = values.gather(order)
    texts, amounts = values.explode(empty_as_null=False).struct.unnest()
    return (
        _memory(values.list.len().cast(pl.Int64).cum_sum().to_numpy()),
        strings(texts),
        numbers(amounts.to_numpy(), "<f8"),
    )


def string_maps(values: pl.Series, order: Order | None = None) -> tuple[Part, ...]:
    """Values of Map(String, String) from a map series: ends of the rows, keys, values; null becomes empty."""
    lists = values.to_physical()
    lengths = _ordered(lists.list.len().fill_null(0).to_numpy(), order)
    # Few rows have entries: no others are touched.
    rows = np.flatnonzero(lengths)
    if not rows.size:
        return (bytes(8 * len(values)),)
    entries = lists.gather(rows if order is None else order[rows]).explode().struct
    return (
        _memory(np.cumsum(lengths, dtype=np.int64)),
        strings(entries.field("key")),
        strings(entries.field("value")),
    )


def _ordered(values: npt.NDArray[Any], order: Order | None) -> npt.NDArray[Any]:
    return values if order is None else values[order]


def _memory(values: npt.NDArray[Any]) -> memoryview:
    return np.ascontiguousarray(values).reshape(-1).view(np.uint8).data


def _one_chunk(values: pl.Series) -> Any:
    array = values.rechunk().to_arrow()
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def string_buffers(values: pl.Series) -> tuple[Integers, Bytes]:
    """Starts of the values (one more than there are values) and their bytes, one after another; null is empty."""
    array = _one_chunk(values.cast(pl.Binary))
    _, ends, data = array.buffers()
    starts = np.frombuffer(ends, dtype=np.int64)[array.offset : array.offset + len(array) + 1]
    content = np.frombuffer(data, dtype=np.uint8)[starts[0] : starts[-1]] if data is not None else np.empty(0, np.uint8)
    return starts - starts[0], content


def _prefixed(starts: Integers, data: Bytes) -> Part:
    """Put each value's length as a variable-length integer in front of it."""
    lengths = np.diff(starts)
    least, most = int(lengths.min(initial=1 << 32)), int(lengths.max(initial=0))
    if least == most:
        # All of one length, as identifiers often are.
        prefix = np.frombuffer(varint(most), dtype=np.uint8)
        same = np.empty((len(lengths), len(prefix) + most), dtype=np.uint8)
        same[:, : len(prefix)] = prefix
        same[:, len(prefix) :] = data.reshape(len(lengths), most)
        return _memory(same)
    # Bytes of each prefix, and where it starts: after all values and prefixes before it.
    prefix_bytes = np.ones(len(lengths), dtype=np.int64)
    for step in _VARINT_STEPS:
        if most < step:
            break
        prefix_bytes += lengths >= step
    places = starts[:-1] + np.cumsum(prefix_bytes) - prefix_bytes
    out = np.empty(len(data) + int(prefix_bytes.sum()), dtype=np.uint8)
    is_data = np.ones(len(out), dtype=np.bool_)
    for index in range(int(prefix_bytes.max(initial=0))):
        here = prefix_bytes > index
        at = places[here] + index
        more = (prefix_bytes[here] > index + 1) * np.uint8(0x80)
        out[at] = (lengths[here] >> (7 * index) & 0x7F) | more
        is_data[at] = False
    out[is_data] = data
    return _memory(out)
