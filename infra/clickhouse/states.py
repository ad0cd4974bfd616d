"""Customer states, read and written as matrices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from infra.clickhouse import blocks
from infra.clickhouse.client import ClickHouse, quoted
from schemas.state_layout import (
    BANDS,
    CODES,
    INT_INDEX,
    KEY,
    PACKED,
    SET_STARTS,
    SETS_BYTES,
    STORED,
    STORED_NAMES,
    VERSION,
    NameList,
)
from schemas.tables import CUSTOMER_STATE, DATABASE

LOOKUP_KEYS: Final = 20_000
"""Customers per query: bounds the statement's size and the rows in memory."""
MOST_ROWS: Final = 40_000
"""States per insert: each is copied several times on its way out, and a set may hold 100,000."""
FEW_KEYS: Final = 500
"""Up to so many are cheaper as literals: no subquery has to be planned."""


@dataclass(frozen=True, slots=True)
class StateRows:
    """States of n customers, laid out as `schemas.state_layout` says.

    ``touchpoints`` and ``models`` are the names that codes in ``ints`` point into; the empty name is at 0.
    """

    customers: list[str]
    floats: npt.NDArray[np.float64]
    ints: npt.NDArray[np.int64]
    activity_days: npt.NDArray[np.uint16]
    cases: npt.NDArray[np.uint64]
    recent_ids: npt.NDArray[np.uint64]
    touchpoints: list[str]
    models: list[str]


# Not FINAL: it reads whole ranges of every part to merge them, this only the rows asked for.
_LOAD: Final = (
    f"SELECT {', '.join(STORED.names)} FROM {DATABASE}.{CUSTOMER_STATE.name} "
    f"PREWHERE {KEY} IN (%s) ORDER BY {VERSION} DESC LIMIT 1 BY {KEY}"
)
_SEPARATOR: Final = "\n"


def load(client: ClickHouse, customers: Sequence[str]) -> StateRows:
    """The latest state of each customer that has one, in no particular order. Raises ClickHouseError."""
    found = pa.concat_tables(
        client.arrow(_LOAD % _keys(customers[start : start + LOOKUP_KEYS]))
        for start in range(0, max(len(customers), 1), LOOKUP_KEYS)
    )
    names: dict[NameList, dict[str, int]] = {NameList.TOUCHPOINTS: {"": 0}, NameList.MODELS: {"": 0}}
    ints = _matrix(found.column("int_bytes")).view("<i8").copy()
    ints[:, INT_INDEX[VERSION]] = found.column(VERSION).to_numpy()
    for name in STORED_NAMES:
        ints[:, INT_INDEX[name]] = _codes(found.column(name), names[CODES[name]])
    sets = _matrix(found.column("set_bytes"))
    packed = {
        name: np.ascontiguousarray(sets[:, SET_STARTS[name] : SET_STARTS[name] + pack.item_bytes * pack.width]).view(
            pack.dtype
        )
        for name, pack in PACKED.items()
    }
    return StateRows(
        found.column(KEY).to_pylist(),
        _matrix(found.column("float_bytes")).view("<f8"),
        ints,
        packed["activity_days"],
        packed["cases"],
        packed["recent_ids"],
        list(names[NameList.TOUCHPOINTS]),
        list(names[NameList.MODELS]),
    )


def save(client: ClickHouse, states: StateRows) -> None:
    """Write states; a row with a higher log_offset replaces one with a lower. Raises ClickHouseError.

    ``states`` may be any object with the members of `StateRows`. IndexError when a code has no name.
    """
    for start in range(0, len(states.customers), MOST_ROWS):
        client.insert_block(to_block(states, slice(start, start + MOST_ROWS)))


def to_block(states: StateRows, rows: slice = slice(None)) -> blocks.Block:
    """Some rows as the table takes them, sorted by customer: the server sorts what is not, at twice the cost."""
    customers = pl.Series(KEY, states.customers[rows], dtype=pl.String)
    order: npt.NDArray[Any] | slice = rows
    if not customers.is_sorted():
        sorting = customers.arg_sort()
        customers = customers.gather(sorting)
        order = np.arange(len(states.customers))[rows][sorting.to_numpy()]
    ints = states.ints[order]
    names: dict[NameList, Sequence[str]] = {
        NameList.TOUCHPOINTS: states.touchpoints,
        NameList.MODELS: states.models,
    }
    values: dict[str, blocks.Values] = {KEY: customers, VERSION: ints[:, INT_INDEX[VERSION]]}
    values |= {name: blocks.Coded(names[CODES[name]], ints[:, INT_INDEX[name]]) for name in STORED_NAMES}
    values["float_bytes"] = _bytes(states.floats[order], "<f8")
    # Bands are a closed list; other codes mean something to their writer alone.
    if (outside := (ints[:, INT_INDEX["band"]] < 0) | (ints[:, INT_INDEX["band"]] >= len(BANDS))).any():
        raise IndexError(f"codes of bands must lie between 0 and {len(BANDS) - 1}, {outside.sum()} do not")
    without_codes = ints.copy()
    without_codes[:, [INT_INDEX[name] for name in STORED_NAMES]] = 0
    values["int_bytes"] = _bytes(without_codes, "<i8")
    sets = np.empty((len(customers), SETS_BYTES), dtype=np.uint8)
    kept: dict[str, npt.NDArray[Any]] = {
        "activity_days": states.activity_days,
        "cases": states.cases,
        "recent_ids": states.recent_ids,
    }
    for name, matrix in kept.items():
        pack = PACKED[name]
        sets[:, SET_STARTS[name] : SET_STARTS[name] + pack.item_bytes * pack.width] = _bytes(matrix[order], pack.dtype)
    values["set_bytes"] = sets
    return blocks.block_of(STORED, len(customers), values)


def _keys(customers: Sequence[str]) -> str:
    """What to put between the brackets of an IN: many as one text that the server cuts, literals would be slow then."""
    joined = _SEPARATOR.join(customers)
    if len(customers) <= FEW_KEYS or joined.count(_SEPARATOR) != len(customers) - 1:
        return quoted(customers)
    return f"SELECT arrayJoin(splitByChar('\\n', {quoted([joined])}))"


def _bytes(matrix: npt.NDArray[Any], dtype: str) -> npt.NDArray[np.uint8]:
    return np.ascontiguousarray(matrix, dtype=dtype).view(np.uint8)


def _matrix(values: pa.ChunkedArray) -> npt.NDArray[np.uint8]:
    """A column of fixed strings as rows of bytes; shares Arrow's memory."""
    array = values.combine_chunks()
    width = array.type.byte_width
    _, data = array.buffers()
    content = np.empty(0, dtype=np.uint8) if data is None else np.frombuffer(data, dtype=np.uint8)
    return content[array.offset * width :][: len(array) * width].reshape(-1, width)


def _codes(values: pa.ChunkedArray, names: dict[str, int]) -> npt.NDArray[np.int64]:
    """Places of a column's names in ``names``, which grows."""
    encoded = values.combine_chunks().dictionary_encode()
    places = [names.setdefault(name, len(names)) for name in encoded.dictionary.to_pylist()]
    found: npt.NDArray[np.int64] = np.array(places, dtype=np.int64)[encoded.indices.to_numpy()]
    return found
