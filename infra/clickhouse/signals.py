"""The table of crossings, written as whole columns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from infra.clickhouse import blocks
from infra.clickhouse.client import ClickHouse
from schemas.signal import Crossing
from schemas.tables import LOYALTY_SIGNALS


def write_signals(client: ClickHouse, crossings: Sequence[Crossing]) -> None:
    """Store crossings; the same again changes nothing. Raises ClickHouseError."""
    client.insert_block(to_block(crossings))


def to_block(crossings: Sequence[Crossing]) -> blocks.Block:
    """The rows as the table takes them."""
    values: dict[str, blocks.Values] = {}
    for column in LOYALTY_SIGNALS.columns:
        cells = [getattr(crossing, column.name.replace("judged_at", "judged_at_us")) for crossing in crossings]
        if column.name == "reasons":
            values[column.name] = blocks.Pairs(cells)
        elif column.type.startswith("FixedString"):
            values[column.name] = pl.Series(column.name, cells, dtype=pl.Binary)
        elif column.type in ("String", "LowCardinality(String)"):
            values[column.name] = pl.Series(column.name, cells, dtype=pl.String)
        else:
            values[column.name] = np.array(cells)
    return blocks.block_of(LOYALTY_SIGNALS, len(crossings), values)
