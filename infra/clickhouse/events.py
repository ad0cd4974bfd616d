"""The table of events: written in columns, looked up by identity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from infra.clickhouse import blocks
from infra.clickhouse.client import ClickHouse, quoted
from infra.clickhouse.key_order import key_order
from schemas.decode import COLUMNS
from schemas.tables import DATABASE, DIMENSIONS, TOUCHPOINTS

LOOKUP_KEYS: Final = 5_000
"""Events per query: bounds the statement's size."""

OPTIONAL: Final = (
    "journey_id",
    "outcome",
    "metric",
    "emotion",
    "currency",
    "case_id",
    "text",
    "sender_event_id",
    "journey",
)
"""Columns whose null is stored as the empty string; none of them may be empty when it is set."""


def write_events(
    client: ClickHouse,
    frame: pl.DataFrame,
    readings_valence: npt.NDArray[np.float32],
    readings_weight: npt.NDArray[np.float32],
    partitions: int | npt.NDArray[np.integer[Any]],
    offsets: npt.NDArray[np.int64],
) -> None:
    """Store n decoded events (`schemas.decode.COLUMNS`).

    ``readings_valence`` and ``readings_weight`` are (n, 3) in the order of `DIMENSIONS`; ``partitions`` of the log
    are (n,) or one for all, ``offsets`` (n,).
    Writing the same events again changes nothing. Raises ClickHouseError.
    """
    client.insert_block(to_block(frame, readings_valence, readings_weight, partitions, offsets))


def to_block(
    frame: pl.DataFrame,
    readings_valence: npt.NDArray[np.float32],
    readings_weight: npt.NDArray[np.float32],
    partitions: int | npt.NDArray[np.integer[Any]],
    offsets: npt.NDArray[np.int64],
) -> blocks.Block:
    """The rows as the table takes them, sorted by its key: the server sorts what is not, at twice the cost."""
    frame = frame.rechunk()
    values: dict[str, blocks.Values] = {column.name: column for column in frame.iter_columns()}
    for index, name in enumerate(DIMENSIONS):
        values[f"{name}_valence"], values[f"{name}_weight"] = readings_valence[:, index], readings_weight[:, index]
    values["log_partition"] = np.broadcast_to(partitions, frame.height)
    values["log_offset"] = offsets
    return blocks.block_of(TOUCHPOINTS, frame.height, values, key_order(frame))


def find_earlier(client: ClickHouse, keys: Sequence[tuple[str, bytes]]) -> pl.DataFrame:
    """The stored row of lowest log_offset for each (customer_id, event_id) that has one, in no particular order.

    Columns: `schemas.decode.COLUMNS` as decoded, then ``log_partition`` and ``log_offset``. Raises ClickHouseError.
    """
    columns = (*COLUMNS, "log_partition", "log_offset")
    selected = ", ".join(
        f"toUnixTimestamp64Micro({name}) AS {name}" if name in ("occurred_at", "received_at") else name
        for name in columns
    )
    found = [pl.DataFrame(schema=COLUMNS | {"log_partition": pl.UInt16, "log_offset": pl.Int64})]
    for start in range(0, len(keys), LOOKUP_KEYS):
        some = keys[start : start + LOOKUP_KEYS]
        customers = quoted([customer for customer, _ in some])
        ids = ",".join([f"'{_escaped(event_id)}'" for _, event_id in some])
        rows = client.frame(
            f"SELECT {selected} FROM {DATABASE}.{TOUCHPOINTS.name} "
            f"WHERE customer_id IN ({customers}) AND event_id IN ({ids}) "
            f"ORDER BY {TOUCHPOINTS.name}.log_offset LIMIT 1 BY customer_id, event_id"
        )
        found.append(_as_decoded(rows))
    asked = pl.DataFrame(keys, schema={"customer_id": pl.String, "event_id": pl.Binary}, orient="row").unique()
    return pl.concat(found).join(asked, on=["customer_id", "event_id"], how="semi")


def _escaped(event_id: bytes) -> str:
    return "".join([f"\\x{byte:02x}" for byte in event_id])


def _as_decoded(rows: pl.DataFrame) -> pl.DataFrame:
    optional = [
        pl.when(pl.col(name).cast(pl.String) != "").then(pl.col(name).cast(pl.String)).alias(name) for name in OPTIONAL
    ]
    return rows.with_columns(optional).select(
        *(pl.col(name).cast(dtype) for name, dtype in COLUMNS.items()), "log_partition", "log_offset"
    )
