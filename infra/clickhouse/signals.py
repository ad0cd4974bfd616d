"""The table of crossings, written as whole columns."""

from __future__ import annotations

import polars as pl

from infra.clickhouse import blocks
from infra.clickhouse.client import ClickHouse
from schemas.signal import CROSSINGS
from schemas.tables import LOYALTY_SIGNALS

if tuple(CROSSINGS) != LOYALTY_SIGNALS.names:
    raise ImportError("schemas.signal.CROSSINGS must be the columns of loyalty_signals, in order")


def write_signals(client: ClickHouse, crossings: pl.DataFrame) -> None:
    """Store crossings (`schemas.signal.CROSSINGS`); the same again changes nothing. Raises ClickHouseError."""
    client.insert_block(to_block(crossings))


def to_block(crossings: pl.DataFrame) -> blocks.Block:
    """The rows as the table takes them."""
    return blocks.block_of(
        LOYALTY_SIGNALS, crossings.height, {column.name: column for column in crossings.iter_columns()}
    )
