"""Files of rows, read in chunks: Parquet, CSV and NDJSON, the text forms also packed by gzip or zstd.

CSV and NDJSON are read as text throughout: nothing is guessed, so a customer number keeps its leading zeros and an
amount its digits. A damaged row is a refused row; a damaged file is an error.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NoReturn

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from schemas.reasons import Reason
from schemas.refusals import Problem
from services.importer.errors import SourceFileError
from services.importer.identity import SEPARATOR, row_contents
from services.importer.judge import RefusedRow
from services.importer.mapping import Mapping

PARQUET: Final = (".parquet", ".pq")
CSV: Final = (".csv", ".tsv", ".txt")
NDJSON: Final = (".ndjson", ".jsonl", ".json")
MAX_FIELD_CHARS: Final = 1 << 20
"""A CSV field longer than this is a quote that was never closed."""


@dataclass(slots=True)
class Chunk:
    """Some rows of a file, in its order."""

    rows: Sequence[int]
    """Their numbers, from 1."""
    frame: pl.DataFrame
    contents: pl.Series
    """Each row as one text, for rows without an id."""
    bad: list[RefusedRow] = field(default_factory=list)
    """Rows in between that could not be read; they are in no other member."""


class SourceFile(ABC):
    """A file of rows; every call of `chunks` reads it from its start."""

    def __init__(self, path: Path, mapping: Mapping) -> None:
        self.path = path
        self.mapping = mapping

    @abstractmethod
    def columns(self) -> list[str] | None:
        """Names of the columns; None if only reading it all can tell."""

    @abstractmethod
    def schema(self) -> dict[str, pl.DataType]:
        """Types of the frames' columns."""

    @abstractmethod
    def chunks(self, rows: int) -> Iterator[Chunk]:
        """Chunks of up to ``rows`` rows. Raises `SourceFileError` if the file is damaged."""

    def _damaged(self, error: Exception) -> NoReturn:
        raise SourceFileError(f"{self.path}: {type(error).__name__}: {error}") from error


def open_source(path: Path, mapping: Mapping) -> SourceFile:
    """The file, told by its name's ending. Raises `SourceFileError` if it is missing or of another kind."""
    if not path.is_file():
        raise SourceFileError(f"{path}: no such file")
    suffixes = [suffix.lower() for suffix in path.suffixes]
    ending = suffixes[-1] if suffixes else ""
    if ending in (".gz", ".zst") and len(suffixes) > 1:
        ending = suffixes[-2]
    elif ending in PARQUET:
        return ParquetFile(path, mapping)
    if ending in CSV:
        return CsvFile(path, mapping)
    if ending in NDJSON:
        return NdjsonFile(path, mapping)
    raise SourceFileError(
        f"{path}: cannot tell what it is; the name has to end in one of "
        f"{' '.join((*PARQUET, *CSV, *NDJSON))} (text forms also with .gz or .zst behind)"
    )


class ParquetFile(SourceFile):
    """Typed columns, streamed by row group."""

    def __init__(self, path: Path, mapping: Mapping) -> None:
        super().__init__(path, mapping)
        try:
            with pq.ParquetFile(path) as file:
                empty = pl.from_arrow(file.schema_arrow.empty_table())
        except (pa.ArrowException, OSError) as error:
            self._damaged(error)
        assert isinstance(empty, pl.DataFrame)
        self._schema = dict(empty.schema)

    def columns(self) -> list[str]:
        return list(self._schema)

    def schema(self) -> dict[str, pl.DataType]:
        return self._schema

    def chunks(self, rows: int) -> Iterator[Chunk]:
        first = 1
        try:
            with pq.ParquetFile(self.path) as file:
                for batch in file.iter_batches(batch_size=rows):
                    frame = pl.from_arrow(batch)
                    assert isinstance(frame, pl.DataFrame)
                    yield Chunk(range(first, first + frame.height), frame, row_contents(frame))
                    first += frame.height
        except (pa.ArrowException, OSError) as error:
            self._damaged(error)


class TextFile(SourceFile):
    """Lines of text in the mapping's encoding."""

    def _open(self) -> io.TextIOBase:
        encoding = "utf-8-sig" if self.mapping.encoding.lower() in ("utf-8", "utf8") else self.mapping.encoding
        packed = self.path.suffix.lower()
        if packed == ".gz":
            return gzip.open(self.path, "rt", encoding=encoding, newline="")
        if packed == ".zst":
            unpacked = zstandard.ZstdDecompressor().stream_reader(self.path.open("rb"), closefd=True)
            return io.TextIOWrapper(io.BufferedReader(unpacked), encoding=encoding, newline="")
        return self.path.open(encoding=encoding, newline="")

    def _check_text(self, error: UnicodeDecodeError) -> NoReturn:
        raise SourceFileError(
            f"{self.path}: not {self.mapping.encoding} ({error.reason}); "
            'name its encoding in the mapping, such as encoding = "latin-1"'
        ) from error


class CsvFile(TextFile):
    """The first line names the columns."""

    def __init__(self, path: Path, mapping: Mapping) -> None:
        super().__init__(path, mapping)
        csv.field_size_limit(MAX_FIELD_CHARS)
        with self._open() as file:
            try:
                self._header = next(self._reader(file), [])
            except UnicodeDecodeError as error:
                self._check_text(error)
            except (csv.Error, OSError, EOFError, zstandard.ZstdError) as error:
                self._damaged(error)
        if not self._header:
            raise SourceFileError(f"{path}: is empty; the first line has to name the columns")
        twice = [name for at, name in enumerate(self._header) if name in self._header[:at]]
        if twice:
            raise SourceFileError(f"{path}: two columns are called {twice[0]!r}")

    def _reader(self, file: io.TextIOBase) -> Iterator[list[str]]:
        delimiter = self.mapping.delimiter
        if delimiter == "," and ".tsv" in self.path.suffixes:
            delimiter = "\t"
        return csv.reader(file, delimiter=delimiter, strict=True)

    def columns(self) -> list[str]:
        return self._header

    def schema(self) -> dict[str, pl.DataType]:
        return dict.fromkeys(self._header, pl.String())

    def chunks(self, rows: int) -> Iterator[Chunk]:
        with self._open() as file:
            try:
                reader = self._reader(file)
                next(reader)
                yield from self._chunks(reader, rows)
            except UnicodeDecodeError as error:
                self._check_text(error)
            except (OSError, EOFError, zstandard.ZstdError) as error:
                self._damaged(error)

    def _chunks(self, reader: Iterator[list[str]], rows: int) -> Iterator[Chunk]:
        width, row = len(self._header), 0
        numbers: list[int] = []
        lines: list[list[str]] = []
        bad: list[RefusedRow] = []
        while True:
            try:
                line = next(reader)
            except StopIteration:
                break
            except csv.Error as error:
                row += 1
                bad.append(_unreadable(row, f"Not CSV: {error}.", {}))
                continue
            if not line:
                continue
            row += 1
            if len(line) != width:
                bad.append(_unreadable(row, f"{len(line)} fields in a file of {width} columns.", {"fields": line}))
                continue
            numbers.append(row)
            lines.append(line)
            if len(lines) == rows:
                yield self._chunk(numbers, lines, bad)
                numbers, lines, bad = [], [], []
        if lines or bad:
            yield self._chunk(numbers, lines, bad)

    def _chunk(self, numbers: list[int], lines: list[list[str]], bad: list[RefusedRow]) -> Chunk:
        frame = pl.DataFrame(lines, schema=self.schema(), orient="row")
        contents = pl.Series([SEPARATOR.join(line) for line in lines], dtype=pl.String)
        return Chunk(numbers, frame, contents, bad)


class NdjsonFile(TextFile):
    """One JSON object a line. A column is a member; ``a.b`` is member b of the object a."""

    def columns(self) -> None:
        return None

    def schema(self) -> dict[str, pl.DataType]:
        return dict.fromkeys(self.mapping.columns_used(), pl.String())

    def chunks(self, rows: int) -> Iterator[Chunk]:
        with self._open() as file:
            try:
                yield from self._chunks(file, rows)
            except UnicodeDecodeError as error:
                self._check_text(error)
            except (OSError, EOFError, zstandard.ZstdError) as error:
                self._damaged(error)

    def _chunks(self, file: io.TextIOBase, rows: int) -> Iterator[Chunk]:
        names = list(self.schema())
        nested = [(at, name.split(".")) for at, name in enumerate(names) if "." in name]
        numbers: list[int] = []
        texts: list[str] = []
        values: list[list[Any]] = []
        bad: list[RefusedRow] = []
        for row, line in enumerate((text for line in file if (text := line.strip())), 1):
            try:
                members = _decode(line)
            except (ValueError, RecursionError) as error:
                bad.append(_unreadable(row, f"Not JSON: {error}.", {"line": line[:1000]}))
                continue
            if not isinstance(members, dict):
                bad.append(_unreadable(row, "A line has to be a JSON object.", {"line": line[:1000]}))
                continue
            numbers.append(row)
            texts.append(line)
            # By row while the object is at hand: its members would be far away when all rows are there.
            found = list(map(members.get, names))
            for at, path in nested:
                if found[at] is None:
                    found[at] = _inner(members, path)
            values.append(found)
            if len(texts) == rows:
                yield self._chunk(numbers, texts, values, bad)
                numbers, texts, values, bad = [], [], [], []
        if texts or bad:
            yield self._chunk(numbers, texts, values, bad)

    def _chunk(self, numbers: list[int], texts: list[str], values: list[list[Any]], bad: list[RefusedRow]) -> Chunk:
        names = list(self.schema())
        by_column = zip(*values, strict=True) if values else [()] * len(names)
        columns = {name: _texts(column) for name, column in zip(names, by_column, strict=True)}
        return Chunk(numbers, pl.DataFrame(columns, schema=self.schema()), pl.Series(texts, dtype=pl.String), bad)


def _inner(members: dict[str, Any], path: list[str]) -> Any:
    value: Any = members
    for part in path:
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _texts(column: Sequence[Any]) -> Sequence[str | None]:
    """Values as texts; nearly always they are."""
    if set(map(type, column)) <= _PLAIN:
        return column
    return [_text(value) for value in column]


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return _encode(value)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _unreadable(row: int, detail: str, event: dict[str, Any]) -> RefusedRow:
    reason = Reason.INVALID_JSON if detail.startswith(("Not JSON", "A line")) else Reason.INVALID_VALUE
    return RefusedRow(row, (Problem(reason, "", detail),), event)


_PLAIN: Final = {str, type(None)}
# Made once: json.loads and json.dumps make one for each call.
_decode: Final = json.JSONDecoder(parse_float=str, parse_int=str, parse_constant=_no_constant).decode
_encode: Final = json.JSONEncoder(ensure_ascii=False).encode
