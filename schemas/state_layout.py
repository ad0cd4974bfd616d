"""How customer states lie in memory: which column of `CUSTOMER_STATE` is which column of which matrix.

Scoring folds whole matrices and the tables' adapter reads and writes them; both take their column numbers from
here. Of n customers there are:

- ``floats``: float64 (n, len(FLOATS)), the sums and measures;
- ``ints``: int64 (n, len(INTS)): counts as they are, times in UTC microseconds, names as codes into lists given
  beside the matrices (`CODES`);
- one matrix for each of `PACKED`, little-endian.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from schemas.tables import ACTIVITY_DAYS, CUSTOMER_STATE, RECENT_CASES, RECENT_IDS, TIME

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
