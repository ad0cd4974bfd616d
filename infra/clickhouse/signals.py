"""The table of signals, written as whole columns."""

from __future__ import annotations

import polars as pl

from infra.clickhouse import blocks
from infra.clickhouse.client import ClickHouse
from schemas.signal import SIGNALS
from schemas.tables import LOYALTY_SIGNALS

if tuple(SIGNALS) != LOYALTY_SIGNALS.names:
    raise ImportError("schemas.signal.SIGNALS must be the columns of loyalty_signals, in order")


def write_signals(client: ClickHouse, signals: pl.DataFrame) -> None:
    """Store signals (`schemas.signal.SIGNALS`); the same again changes nothing. Raises ClickHouseError."""
    client.insert_block(to_block(signals))


def to_block(signals: pl.DataFrame) -> blocks.Block:
    """The rows as the table takes them."""
    return blocks.block_of(LOYALTY_SIGNALS, signals.height, {column.name: column for column in signals.iter_columns()})
