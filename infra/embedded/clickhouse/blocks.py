"""Native blocks: find their end, cut them apart, make header blocks, suit them to a client's revision."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from infra.embedded.clickhouse.columns import layout
from infra.embedded.clickhouse.errors import ProtocolError
from infra.embedded.clickhouse.wire import ByteReader, string, varint

# Newer clients expect a serialisation byte per column from this revision on.
REVISION_SERIALISATION_BYTE: Final = 54454
# {1: not overflowed, 2: bucket -1}, end
BLOCK_INFO: Final = b"\x01\x00\x02\xff\xff\xff\xff\x00"
MAX_COLUMNS: Final = 100_000
MAX_NAME_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class BlockShape:
    """What a walk over a block found."""

    columns: int
    rows: int
    names_and_types: tuple[tuple[str, str], ...]


def skip_block_info(reader: ByteReader) -> None:
    """Pass over the fields before a block (revision 51903 and later)."""
    while field := reader.varint():
        if field == 1:
            reader.u8()
        elif field == 2:
            reader.i32()
        else:
            raise ProtocolError("unknown field in the description of a block")


def skip_block(reader: ByteReader, type_ends: list[int] | None = None) -> BlockShape:
    """Pass over one block. `type_ends` collects the offset after each column's type (readers `of` bytes only).

    Raises EOFError, ProtocolError, or ClickHouseError for a type that cannot be walked.
    """
    columns, rows = reader.varint(), reader.varint()
    if columns > MAX_COLUMNS:
        raise ProtocolError(f"a block of {columns} columns")
    found: list[tuple[str, str]] = []
    for _ in range(columns):
        name, type_ = reader.text(MAX_NAME_BYTES), reader.text(MAX_NAME_BYTES)
        found.append((name, type_))
        if type_ends is not None:
            type_ends.append(reader.position())
        if rows:
            column = layout(type_)
            column.prefix(reader)
            column.values(reader, rows)
    return BlockShape(columns, rows, tuple(found))


def header_block(columns: Sequence[tuple[str, str]]) -> bytes:
    """A block of no rows: names and types alone."""
    return varint(len(columns)) + b"\x00" + b"".join(string(name) + string(type_) for name, type_ in columns)


def split_blocks(data: bytes) -> Iterator[bytes]:
    """Cut a run of blocks into single ones."""
    reader = ByteReader.of(data)
    start = 0
    while not reader.at_end():
        skip_block(reader)
        yield data[start : reader.position()]
        start = reader.position()


def for_revision(data: bytes, revision: int) -> bytes:
    """Rewrite a run of plain blocks for an HTTP client that announced `revision`."""
    if revision < REVISION_SERIALISATION_BYTE:
        return data
    reader = ByteReader.of(data)
    pieces: list[bytes] = []
    start = 0
    while not reader.at_end():
        type_ends: list[int] = []
        skip_block(reader, type_ends)
        pieces.append(BLOCK_INFO)
        for end in type_ends:
            pieces += (data[start:end], b"\x00")
            start = end
        pieces.append(data[start : reader.position()])
        start = reader.position()
    return b"".join(pieces)
