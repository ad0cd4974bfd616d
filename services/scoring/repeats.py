"""Which candidates really repeat an earlier event, and whether their content says the same. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from schemas.decode import COLUMNS

KEY: Final = ("customer_id", "event_id")
CONTENT: Final = tuple(name for name in COLUMNS if name not in (*KEY, "received_at", "sender_event_id", "attributes"))
"""What makes two events with one id the same event. received_at differs with every try."""
NEEDED: Final = (*KEY, *CONTENT, "log_offset")


@dataclass(frozen=True, slots=True)
class Repeats:
    """Places among the candidates of those that repeat an earlier event, ascending, and whether each of them says
    something else than the first."""

    places: npt.NDArray[np.int64]
    conflicting: npt.NDArray[np.bool_]


def find_repeats(candidates: pl.DataFrame, earlier: pl.DataFrame) -> Repeats:
    """Judge ``candidates`` by everything known of their ids; both have the columns `NEEDED`.

    A customer lives in one partition, so offsets of one customer's events can be compared. ``earlier`` may hold the
    candidates themselves and rows of redelivered events: only a lower offset counts, so an event that was written
    before a crash does not take itself for a repeat. The first content stands.
    """
    blank_is_none = pl.col(pl.String).replace("", None)
    candidates = candidates.select(NEEDED).with_columns(blank_is_none)
    first = (
        pl.concat((earlier.select(NEEDED).with_columns(blank_is_none), candidates))
        .sort("log_offset")
        .unique(KEY, keep="first", maintain_order=True)
    )
    joined = candidates.with_row_index("place").join(first, on=KEY, how="inner", suffix="_first")
    differs = pl.any_horizontal(pl.col(name).ne_missing(pl.col(f"{name}_first")) for name in CONTENT)
    repeated = (
        joined.filter(pl.col("log_offset") > pl.col("log_offset_first"))
        .select(pl.col("place").cast(pl.Int64), differs.alias("conflicting"))
        .sort("place")
    )
    return Repeats(repeated.get_column("place").to_numpy(), repeated.get_column("conflicting").to_numpy())
