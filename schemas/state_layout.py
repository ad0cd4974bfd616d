"""How customer states lie in memory: which column of `CUSTOMER_STATE` is which column of which matrix.

Scoring folds whole matrices and the tables' adapter reads and writes them; both take their column numbers from
here. Of n customers there are:

- ``floats``: float64 (n, len(FLOATS)), the sums and measures;
- ``ints``: int64 (n, len(INTS)): counts as they are, times in UTC microseconds, names as codes into lists given
  beside the matrices (`CODES`);
- one matrix for each of `PACKED`, little-endian.

The table keeps a row of each as a string: ``float_bytes``, ``int_bytes`` (codes of open lists as 0: those names are
columns of their own) and ``set_bytes``, the `PACKED` one after another. Its other columns are worked out from them when
they are read, so a look-up or a merge moves three values instead of sixty.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from schemas.tables import ACTIVITY_DAYS, CUSTOMER_STATE, RECENT_CASES, RECENT_IDS, TIME, Table

KEY: Final = "customer_id"
VERSION: Final = "log_offset"
BANDS: Final = ("low", "elevated", "high")
"""Risk bands from safe to endangered; a new state is in the first."""


class NameList(StrEnum):
    """Lists of names that codes point into."""

    TOUCHPOINTS = "touchpoints"
    """Open, index 0 is the empty name: no moment yet."""
    BANDS = "bands"
    """Closed: `BANDS`."""
    MODELS = "models"
    """Open, index 0 is the empty name: never judged."""


@dataclass(frozen=True, slots=True)
class Packed:
    """A column that holds ``width`` unsigned integers of ``item_bytes`` each per customer."""

    item_bytes: int
    width: int

    @property
    def dtype(self) -> str:
        """Name of the numpy type, little-endian."""
        return f"<u{self.item_bytes}"


CODES: Final[dict[str, NameList]] = {
    "worst_touchpoint": NameList.TOUCHPOINTS,
    "last_touchpoint": NameList.TOUCHPOINTS,
    "band": NameList.BANDS,
    "model_version": NameList.MODELS,
}
PACKED: Final[dict[str, Packed]] = {
    "activity_days": Packed(2, ACTIVITY_DAYS),
    "cases": Packed(8, RECENT_CASES),
    "recent_ids": Packed(8, RECENT_IDS),
}

FLOATS: Final[tuple[str, ...]] = tuple(column.name for column in CUSTOMER_STATE.columns if column.type == "Float64")
INTS: Final[tuple[str, ...]] = tuple(
    column.name
    for column in CUSTOMER_STATE.columns
    if column.name != KEY and column.name not in PACKED and column.type != "Float64"
)
TIMES: Final[frozenset[str]] = frozenset(column.name for column in CUSTOMER_STATE.columns if column.type == TIME)
"""Columns of ``ints`` in microseconds since 1970, 0 meaning never."""

FLOAT_INDEX: Final[dict[str, int]] = {name: index for index, name in enumerate(FLOATS)}
INT_INDEX: Final[dict[str, int]] = {name: index for index, name in enumerate(INTS)}

STORED_NAMES: Final[tuple[str, ...]] = tuple(name for name, names in CODES.items() if names is not NameList.BANDS)
"""Names that are columns of their own, as their lists are open."""
STORED: Final = Table(
    CUSTOMER_STATE.name,
    (
        *(column for column in CUSTOMER_STATE.columns if column.name in (KEY, VERSION, *STORED_NAMES)),
        *(column for column in CUSTOMER_STATE.packed if column.type.startswith("FixedString")),
    ),
)
"""What is written: the key, the version, the open names and the rest packed."""

NUMBER_BYTES: Final = 8


def _set_starts() -> dict[str, int]:
    starts, at = {}, 0
    for name, pack in PACKED.items():
        starts[name] = at
        at += pack.item_bytes * pack.width
    return starts


SET_STARTS: Final[dict[str, int]] = _set_starts()
"""Where each of `PACKED` begins in ``set_bytes``."""
SETS_BYTES: Final = sum(pack.item_bytes * pack.width for pack in PACKED.values())

_BANDS_SQL: Final = f"[{', '.join(repr(band) for band in BANDS)}]"
ARRAYS_SQL: Final[dict[str, str]] = {
    "packed_floats": "reinterpret(float_bytes, 'Array(Float64)')",
    "packed_ints": "reinterpret(int_bytes, 'Array(Int64)')",
}
"""The numbers of a packed row as columns of the table: arrays in the order of `FLOATS` and `INTS`."""
_DAYS: Final = PACKED["activity_days"]
_DAYS_BYTES: Final = f"{_DAYS.item_bytes} * packed_ints[{INT_INDEX['active_days'] + 1}]"
ACTIVE_DAYS_SQL: Final = (
    f"reinterpret(substring(set_bytes, "
    f"{SET_STARTS['activity_days'] + _DAYS.item_bytes * _DAYS.width + 1} - {_DAYS_BYTES}, {_DAYS_BYTES}), "
    f"'Array(UInt{8 * _DAYS.item_bytes})')"
)
"""The days of ``activity_days``, ascending, out of ``set_bytes``: cut as bytes, as a slice of an array costs more."""


def unpacked_sql(name: str) -> str:
    """SQL of a column out of the packed row. Short: the server reads all of them for every query of the table."""
    if name in PACKED:
        width = PACKED[name].item_bytes * PACKED[name].width
        return f"toFixedString(substring(set_bytes, {SET_STARTS[name] + 1}, {width}), {width})"
    if name in FLOAT_INDEX:
        return f"packed_floats[{FLOAT_INDEX[name] + 1}]"
    number = f"packed_ints[{INT_INDEX[name] + 1}]"
    if name in TIMES:
        return f"fromUnixTimestamp64Micro({number}, 'UTC')"
    if name in CODES:
        return f"{_BANDS_SQL}[{number} + 1]"
    return number


def packed_sql(values: Mapping[str, str]) -> dict[str, str]:
    """SQL of the packed columns: ``values`` are expressions by column, of the columns' types; what is missing is 0."""
    floats = [f"reinterpretAsFixedString(toFloat64({values.get(name, '0')}))" for name in FLOATS]
    ints, sets = [], []
    for name in INTS:
        if name in STORED_NAMES or name not in values:
            number = "0"
        elif name in TIMES:
            number = f"toUnixTimestamp64Micro({values[name]})"
        elif name in CODES:
            number = f"indexOf({_BANDS_SQL}, toString({values[name]})) - 1"
        else:
            number = values[name]
        ints.append(f"reinterpretAsFixedString(toInt64({number}))")
    for name, pack in PACKED.items():
        given = values.get(name, "''")
        sets.append(f"toFixedString({given}, {pack.item_bytes * pack.width})")
    pieces = {"float_bytes": floats, "int_bytes": ints, "set_bytes": sets}
    return {name: f"concat({', '.join(each)})" for name, each in pieces.items()}
