"""Two frames of states held against one another, customer by customer and column by column.

Integers, times, names and sets must be equal. Sums of floats may differ by the order of their additions, which follows
the batches that the log was read in: by `TOLERANCE` of the sum of their absolute terms.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl

from schemas.state_layout import KEY
from schemas.tables import DIMENSIONS, HALF_LIVES
from services.scoring.verify.rows import SCHEMA

TOLERANCE: Final = 1e-9
"""A double keeps 2^-53 of each addition, about 1e-16: ten million events of one customer stay far below this."""
_MONEY_ABSOLUTE: Final = 1e-6
"""One micro-unit, the least amount there is: purchases and refunds may cancel, so a share of the rest says nothing."""
_TINY: Final = 1e-100
"""What has faded to this is nothing: doubles lose digits below 1e-308."""

STATE: Final = "state"
"""Stands for a column where one side has no state at all."""

JUDGED: Final = ("risk", "band", "band_since", "model_version")
"""Columns that depend on the risk models that were active when the log was first read."""

TOLERANCES: Final = (
    f"sums of doubles: {TOLERANCE:g} of the sum of their absolute terms, as batches decide the order of additions; "
    f"money besides {_MONEY_ABSOLUTE:g} of its unit; everything else exact"
)

_WEIGHT_OF: Final = {f"{d}_{h}_{x}": f"{d}_{h}_w" for d in DIMENSIONS for h in HALF_LIVES for x in "sq"}
"""Valences lie between -1 and 1, so the weights are at least the absolute terms of these sums."""
_OF_ONE: Final = frozenset({"risk", "last_valence", "worst_severity"})
"""Made from one moment, of terms about as large as 1."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One column of one customer's state. Values as in the frames; None where that side has no state (`STATE`)."""

    customer: str
    column: str
    stream: Any
    recomputed: Any


def differences(
    stream: pl.DataFrame, recomputed: pl.DataFrame, columns: Collection[str], leave_out: Collection[str] = ()
) -> list[Difference]:
    """What differs in ``columns`` without ``leave_out``, by customer, then in the table's order.

    Both frames have `rows.SCHEMA`'s types, ``customer_id`` and the columns, each customer once; those of whom one side
    knows nothing differ in `STATE`, where the other side's value is the number of its events.
    """
    found = [Difference(name, STATE, events, None) for name, events in _only(stream, recomputed)]
    found += [Difference(name, STATE, None, events) for name, events in _only(recomputed, stream)]
    wanted = [name for name in SCHEMA if name in columns and name != KEY and name not in leave_out]
    mine = stream.join(recomputed.select(KEY), on=KEY, how="semi").sort(KEY)
    theirs = recomputed.join(stream.select(KEY), on=KEY, how="semi").sort(KEY)
    customers = mine.get_column(KEY).to_list()
    for name in wanted:
        for row in np.flatnonzero(_differs(name, mine, theirs)).tolist():
            found.append(Difference(customers[row], name, mine[row, name], theirs[row, name]))
    place = {name: number for number, name in enumerate((STATE, *SCHEMA))}
    return sorted(found, key=lambda difference: (difference.customer, place[difference.column]))


def _only(here: pl.DataFrame, there: pl.DataFrame) -> list[tuple[str, int]]:
    return here.join(there.select(KEY), on=KEY, how="anti").select(KEY, "events").rows()


def _differs(name: str, mine: pl.DataFrame, theirs: pl.DataFrame) -> Any:
    a, b = mine.get_column(name), theirs.get_column(name)
    if name == "recent_ids":
        # A set of ids has no order; the others have one, which is part of what they say.
        return np.array([_items(x) != _items(y) for x, y in zip(a.to_list(), b.to_list(), strict=True)], dtype=bool)
    if SCHEMA[name] != pl.Float64:
        return (a != b).to_numpy()
    x, y = a.to_numpy(), b.to_numpy()
    scale = np.maximum(np.abs(x), np.abs(y))
    if name in _WEIGHT_OF:
        weight = _WEIGHT_OF[name]
        scale = np.maximum(
            scale, np.maximum(np.abs(mine.get_column(weight).to_numpy()), np.abs(theirs.get_column(weight).to_numpy()))
        )
    elif name in _OF_ONE:
        scale = np.maximum(scale, 1.0)
    allowed = TOLERANCE * scale + (_MONEY_ABSOLUTE if name.startswith("spend_") else _TINY)
    # Not "greater than": a NaN differs from everything.
    with np.errstate(invalid="ignore"):
        return ~(np.abs(x - y) <= allowed)


def _items(packed: bytes) -> list[int]:
    return sorted(np.frombuffer(packed, dtype="<u8").tolist())
