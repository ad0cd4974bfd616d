"""Ids for rows that have none: the same row of the same data set gets the same id, however often it is imported.

Rows that are alike to the last character are told apart by how many came before, so a file's k-th copy of a row is
the same event in every import. Only hashes of rows are kept in memory, eight bytes a row, and exact counts of those
rows alone that have a twin.
"""

from __future__ import annotations

import hashlib
import uuid
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

_NAMESPACE: Final = uuid.UUID("0f6a4c57-8e0f-5b0a-b1c8-6d5f3a8f4a6e")
"""Fixed for ever: changing it would import everything a second time."""
SEPARATOR: Final = "\x1f"
NULL: Final = "\x00"


def row_contents(frame: pl.DataFrame) -> pl.Series:
    """Each row as one text, every column of it."""
    return frame.select(
        pl.concat_str([_as_text(name, kind) for name, kind in frame.schema.items()], separator=SEPARATOR)
    ).to_series()


def _as_text(name: str, kind: pl.DataType) -> pl.Expr:
    column = pl.col(name)
    if kind.is_nested():
        column = pl.struct(column).struct.json_encode()
    elif kind == pl.Binary:
        column = column.bin.encode("hex")
    elif kind != pl.String:
        column = column.cast(pl.String)
    return column.fill_null(NULL)


def find_twins(contents: Iterable[pl.Series]) -> frozenset[int]:
    """Hashes that more than one row of all chunks has: rows that may be alike."""
    hashes = [chunk.hash().to_numpy() for chunk in contents]
    if not hashes:
        return frozenset()
    every: npt.NDArray[np.uint64] = np.sort(np.concatenate(hashes))
    return frozenset(every[1:][every[1:] == every[:-1]].tolist())


class RowIds:
    """Hands out ids chunk by chunk, in the file's order."""

    def __init__(self, dataset: str, twins: frozenset[int]) -> None:
        self._prefix = _NAMESPACE.bytes + dataset.encode() + SEPARATOR.encode()
        self._twins = np.array(sorted(twins), np.uint64)
        self._seen: Counter[bytes] = Counter()

    def take(self, contents: pl.Series) -> list[str]:
        """UUIDs of the next rows; every chunk has to come by, also those that are not imported."""
        start = hashlib.sha1(self._prefix, usedforsecurity=False)
        copies = self._copies(contents)
        ids = []
        for content, copy in zip(contents.to_list(), copies, strict=True):
            digest = start.copy()
            digest.update(f"{content}{SEPARATOR}{copy}".encode())
            value = bytearray(digest.digest()[:16])
            value[6] = value[6] & 0x0F | 0x50  # as uuid5
            value[8] = value[8] & 0x3F | 0x80
            h = value.hex()
            ids.append(f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}")
        return ids

    def _copies(self, contents: pl.Series) -> Sequence[int]:
        """How many rows like it came before each row."""
        copies = [0] * len(contents)
        if self._twins.size:
            candidates = np.flatnonzero(np.isin(contents.hash().to_numpy(), self._twins))
            for position in candidates.tolist():
                digest = hashlib.sha1(contents[position].encode(), usedforsecurity=False).digest()
                copies[position] = self._seen[digest]
                self._seen[digest] += 1
        return copies
