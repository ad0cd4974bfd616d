"""Customer states, read and written as matrices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from infra.clickhouse import blocks
from infra.clickhouse.client import ClickHouse, quoted
from schemas.state_layout import (
    BANDS,
    CODES,
    FLOAT_INDEX,
    FLOATS,
    INT_INDEX,
    INTS,
    KEY,
    PACKED,
    TIMES,
    VERSION,
    NameList,
)
from schemas.tables import CUSTOMER_STATE, DATABASE

LOOKUP_KEYS: Final = 20_000
"""Customers per query: bounds the statement's size and the rows in memory."""


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


def _selected(name: str) -> str:
    # As integers: the client would make date objects of times.
    return f"toUnixTimestamp64Micro({name})" if name in TIMES else name


# Not FINAL: it reads whole ranges of every part to merge them, this only the rows asked for.
_LOAD: Final = (
    f"SELECT {', '.join(_selected(name) for name in CUSTOMER_STATE.names)} FROM {DATABASE}.{CUSTOMER_STATE.name} "
    f"PREWHERE {KEY} IN (%s) ORDER BY {VERSION} DESC LIMIT 1 BY {KEY}"
)


def load(client: ClickHouse, customers: Sequence[str]) -> StateRows:
    """The latest state of each customer that has one, in no particular order. Raises ClickHouseError."""
    parts: list[list[Any]] = []
    for start in range(0, len(customers), LOOKUP_KEYS):
        found = client.columns(_LOAD % quoted(customers[start : start + LOOKUP_KEYS]))
        if found:
            parts.append(found)
    rows = sum(len(part[0]) for part in parts)
    floats = np.empty((rows, len(FLOATS)), dtype=np.float64)
    ints = np.empty((rows, len(INTS)), dtype=np.int64)
    packed = {name: np.zeros((rows, pack.width), dtype=pack.dtype) for name, pack in PACKED.items()}
    names: dict[NameList, dict[str, int]] = {
        NameList.TOUCHPOINTS: {"": 0},
        NameList.MODELS: {"": 0},
        NameList.BANDS: {band: code for code, band in enumerate(BANDS)},
    }
    found_customers: list[str] = []
    end = 0
    for part in parts:
        begin, end = end, end + len(part[0])
        for name, values in zip(CUSTOMER_STATE.names, part, strict=True):
            if name == KEY:
                found_customers += [value.decode() for value in values]
            elif name in FLOAT_INDEX:
                floats[begin:end, FLOAT_INDEX[name]] = values
            elif name in PACKED:
                packed[name][begin:end] = _unpacked(values, name)
            elif name in CODES:
                ints[begin:end, INT_INDEX[name]] = _codes(values, names[CODES[name]], name)
            else:
                ints[begin:end, INT_INDEX[name]] = values
    return StateRows(
        found_customers,
        floats,
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
    client.insert_block(to_block(states))


def to_block(states: StateRows) -> blocks.Block:
    """The rows as the table takes them, sorted by customer: the server sorts what is not, at twice the cost."""
    customers = pl.Series(KEY, states.customers, dtype=pl.String)
    order: npt.NDArray[Any] | slice = slice(None)
    if not customers.is_sorted():
        order = customers.arg_sort().to_numpy()
        customers = customers.gather(order)
    floats, ints = states.floats[order].T, states.ints[order].T
    names: dict[NameList, Sequence[str]] = {
        NameList.TOUCHPOINTS: states.touchpoints,
        NameList.MODELS: states.models,
        NameList.BANDS: BANDS,
    }
    values: dict[str, blocks.Values] = {KEY: customers}
    values |= dict(zip(FLOATS, floats, strict=True))
    values |= dict(zip(INTS, ints, strict=True))
    values |= {name: blocks.Coded(names[kind], ints[INT_INDEX[name]]) for name, kind in CODES.items()}
    packed: dict[str, npt.NDArray[Any]] = {
        "activity_days": states.activity_days,
        "cases": states.cases,
        "recent_ids": states.recent_ids,
    }
    for name, matrix in packed.items():
        values[name] = np.ascontiguousarray(matrix[order], dtype=PACKED[name].dtype).view(np.uint8)
    return blocks.block_of(CUSTOMER_STATE, len(customers), values)


def _unpacked(values: Sequence[bytes], name: str) -> npt.NDArray[Any]:
    pack = PACKED[name]
    size = pack.item_bytes * pack.width
    # The client cuts zero bytes from the end of fixed strings.
    data = b"".join(value.ljust(size, b"\0") for value in values)
    return np.frombuffer(data, dtype=pack.dtype).reshape(-1, pack.width)


def _codes(values: Any, names: dict[str, int], column: str) -> npt.NDArray[np.int64]:
    """Places of a dictionary-encoded column's names in ``names``, which grows unless it is the closed one."""
    places = np.full(len(values.categories), -1, dtype=np.int64)
    # The server's dictionaries also hold names that no row has.
    for code in np.unique(values.codes):
        name = values.categories[code].decode()
        if name not in names:
            if CODES[column] is NameList.BANDS:
                raise ValueError(f"{column} holds {name!r}, which is none of {', '.join(BANDS)}")
            names[name] = len(names)
        places[code] = names[name]
    found: npt.NDArray[np.int64] = places[values.codes]
    return found
