"""How many bytes a column of a given type takes in a native block.

`layout(type)` gives an object that walks over a column without making Python values of it. The two steps are
ClickHouse's own: a prefix for the whole column (nested types included), then the values.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Protocol

from infra.embedded.clickhouse.errors import NOT_IMPLEMENTED, ClickHouseError, ProtocolError
from infra.embedded.clickhouse.wire import ByteReader

MAX_TYPE_DEPTH: Final = 32
_FIXED: Final[dict[str, int]] = {
    "Int8": 1, "UInt8": 1, "Bool": 1, "Enum8": 1, "Nothing": 1,
    "Int16": 2, "UInt16": 2, "Date": 2, "Enum16": 2, "BFloat16": 2,
    "Int32": 4, "UInt32": 4, "Float32": 4, "Date32": 4, "DateTime": 4, "IPv4": 4, "Decimal32": 4, "Time": 4,
    "Int64": 8, "UInt64": 8, "Float64": 8, "DateTime64": 8, "Decimal64": 8, "Time64": 8,
    "Int128": 16, "UInt128": 16, "UUID": 16, "IPv6": 16, "Decimal128": 16, "Point": 16,
    "Int256": 32, "UInt256": 32, "Decimal256": 32,
}  # fmt: skip
_ALIASES: Final = {
    "Ring": "Array(Point)",
    "LineString": "Array(Point)",
    "MultiLineString": "Array(Array(Point))",
    "Polygon": "Array(Array(Point))",
    "MultiPolygon": "Array(Array(Array(Point)))",
}
_INDEX_WIDTH: Final = {0: 1, 1: 2, 2: 4, 3: 8}
_HAS_OWN_KEYS: Final = 1 << 9
_NEEDS_GLOBAL_DICTIONARY: Final = 1 << 8
_HEAD: Final = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_]*)\s*")
_ELEMENT_NAME: Final = re.compile(
    r"\s*(?:`(?:[^`\\]|\\.)*`|\"(?:[^\"\\]|\\.)*\"|[A-Za-z_][A-Za-z0-9_]*)\s+(?=[A-Za-z_])"
)


class Layout(Protocol):
    """Walks over one column."""

    def prefix(self, reader: ByteReader) -> None:
        """Pass over what stands before the values of the column."""

    def values(self, reader: ByteReader, rows: int) -> None:
        """Pass over `rows` values."""


@dataclass(frozen=True, slots=True)
class Fixed:
    width: int

    def prefix(self, reader: ByteReader) -> None:
        return

    def values(self, reader: ByteReader, rows: int) -> None:
        reader.skip(rows * self.width)


@dataclass(frozen=True, slots=True)
class Strings:
    def prefix(self, reader: ByteReader) -> None:
        return

    def values(self, reader: ByteReader, rows: int) -> None:
        reader.skip_strings(rows)


@dataclass(frozen=True, slots=True)
class Nullable:
    inner: Layout

    def prefix(self, reader: ByteReader) -> None:
        self.inner.prefix(reader)

    def values(self, reader: ByteReader, rows: int) -> None:
        reader.skip(rows)
        self.inner.values(reader, rows)


@dataclass(frozen=True, slots=True)
class Array:
    inner: Layout

    def prefix(self, reader: ByteReader) -> None:
        self.inner.prefix(reader)

    def values(self, reader: ByteReader, rows: int) -> None:
        if not rows:
            return
        reader.skip((rows - 1) * 8)
        total = reader.u64()
        if total:
            self.inner.values(reader, total)


@dataclass(frozen=True, slots=True)
class Tuple:
    inner: tuple[Layout, ...]

    def prefix(self, reader: ByteReader) -> None:
        for layout_ in self.inner:
            layout_.prefix(reader)

    def values(self, reader: ByteReader, rows: int) -> None:
        for layout_ in self.inner:
            layout_.values(reader, rows)


@dataclass(frozen=True, slots=True)
class LowCardinality:
    keys: Layout

    def prefix(self, reader: ByteReader) -> None:
        if reader.u64() != 1:
            raise ProtocolError("unknown version of a LowCardinality column")

    def values(self, reader: ByteReader, rows: int) -> None:
        while rows:
            flags = reader.u64()
            width = _INDEX_WIDTH.get(flags & 0xFF)
            if width is None or flags & _NEEDS_GLOBAL_DICTIONARY:
                raise ProtocolError("unknown index of a LowCardinality column")
            if flags & _HAS_OWN_KEYS:
                self.keys.values(reader, reader.u64())
            count = reader.u64()
            if not 0 < count <= rows:
                raise ProtocolError("a LowCardinality column has another number of rows than its block")
            reader.skip(count * width)
            rows -= count


def split_arguments(text: str) -> list[str]:
    """Arguments between the outer brackets, split at commas outside of brackets and quotes."""
    parts: list[str] = []
    depth, start, quote, position = 0, 0, "", 0
    while position < len(text):
        char = text[position]
        if quote:
            if char == "\\":
                position += 1
            elif char == quote:
                quote = ""
        elif char in "'`\"":
            quote = char
        elif char == "(":
            depth += 1
        elif char == ")":
            depth -= 1
        elif char == "," and depth == 0:
            parts.append(text[start:position])
            start = position + 1
        position += 1
    if text[start:].strip() or parts:
        parts.append(text[start:])
    return parts


def _unsupported(text: str) -> ClickHouseError:
    return ClickHouseError(
        NOT_IMPLEMENTED,
        f"Column type {text} cannot be taken over the native protocol by this server; insert it over HTTP",
    )


@lru_cache(maxsize=4096)
def layout(text: str) -> Layout:
    """The layout of a type as a block names it.

    Raises ProtocolError for text that is no type, ClickHouseError (NOT_IMPLEMENTED) for types whose columns
    cannot be walked (AggregateFunction, JSON, Dynamic, Variant).
    """
    return _layout(text, 0)


def _layout(text: str, depth: int) -> Layout:
    if depth > MAX_TYPE_DEPTH:
        raise ProtocolError("a type is nested too deeply")
    head = _HEAD.match(text)
    if head is None:
        raise ProtocolError("a column has no type")
    name = head[1]
    rest = text[head.end() :].strip()
    if rest and not (rest.startswith("(") and rest.endswith(")")):
        raise ProtocolError("a column has an unreadable type")
    arguments = split_arguments(rest[1:-1])
    if name in _ALIASES and not arguments:
        return _layout(_ALIASES[name], depth + 1)
    if name == "String":
        return Strings()
    if name == "Decimal":
        return Fixed(_decimal_width(text, arguments))
    if name == "FixedString":
        return Fixed(_positive(text, arguments))
    if name in _FIXED:
        return Fixed(_FIXED[name])
    if name.startswith("Interval"):
        return Fixed(8)
    if name in {"Nullable", "Array", "LowCardinality"}:
        if len(arguments) != 1:
            raise ProtocolError(f"{name} takes one type")
        return _wrapped(name, arguments[0], depth)
    if name == "Map" and len(arguments) == 2:
        return Array(Tuple(tuple(_layout(argument, depth + 1) for argument in arguments)))
    if name in {"Tuple", "Nested"}:
        inner = tuple(_layout(_without_name(argument), depth + 1) for argument in arguments)
        # An empty tuple takes one byte a row.
        row: Layout = Tuple(inner) if inner else Fixed(1)
        return Array(row) if name == "Nested" else row
    if name == "SimpleAggregateFunction" and len(arguments) == 2:
        return _layout(arguments[1], depth + 1)
    raise _unsupported(text)


def _wrapped(name: str, argument: str, depth: int) -> Layout:
    if name == "LowCardinality":
        # The dictionary holds plain values: null is one of its keys.
        inner = argument.strip()
        if inner.startswith("Nullable(") and inner.endswith(")"):
            inner = inner[len("Nullable(") : -1]
        return LowCardinality(_layout(inner, depth + 1))
    inner_layout = _layout(argument, depth + 1)
    return Nullable(inner_layout) if name == "Nullable" else Array(inner_layout)


def _without_name(element: str) -> str:
    """`name Type` of a named tuple to `Type`."""
    match = _ELEMENT_NAME.match(element)
    return element[match.end() :] if match else element


def _positive(text: str, arguments: list[str]) -> int:
    if len(arguments) != 1 or not arguments[0].strip().isdecimal():
        raise ProtocolError(f"unreadable type {text[:80]}")
    return int(arguments[0])


def _decimal_width(text: str, arguments: list[str]) -> int:
    if not arguments or not arguments[0].strip().isdecimal():
        raise ProtocolError(f"unreadable type {text[:80]}")
    digits = int(arguments[0])
    for limit, width in ((9, 4), (18, 8), (38, 16), (76, 32)):
        if digits <= limit:
            return width
    raise ProtocolError(f"unreadable type {text[:80]}")
