"""Table `inferred_experience`: written whole by each run, read for one customer. Nothing felt is stored here."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import polars as pl

from infra.clickhouse import blocks
from infra.clickhouse.client import ClickHouse
from schemas.tables import DATABASE, INFERRED_EXPERIENCE, TOUCHPOINTS

_TABLE: Final = f"{DATABASE}.{INFERRED_EXPERIENCE.name}"
_ROWS: Final = 100_000
"""Sent at once."""


@dataclass(frozen=True, slots=True)
class Inference:
    """How one journey may have felt, and why."""

    journey_id: str
    journey: str
    last_touchpoint: str
    happened_at: datetime
    asked: bool
    chance_bad: float
    average_chance: float
    reasons: list[tuple[str, float]]
    model_version: str


_READ: Final = tuple(Inference.__dataclass_fields__)


def replace_inferred(client: ClickHouse, rows: pl.DataFrame, inferred_at_us: int) -> None:
    """Store the inferences of a run, columns of the table without inferred_at, and take away those of runs before.

    Times are UTC microseconds. Interrupted, the table has rows of both runs, at most one a journey when read with
    FINAL; the next run mends that. Raises ClickHouseError.
    """
    rows = rows.with_columns(pl.lit(inferred_at_us, dtype=pl.Int64).alias("inferred_at"))
    for part in rows.iter_slices(_ROWS):
        values: dict[str, blocks.Values] = {
            column.name: part.get_column(column.name)
            if "String" in column.type
            else part.get_column(column.name).to_numpy()
            for column in INFERRED_EXPERIENCE.columns
        }
        client.insert_block(blocks.block_of(INFERRED_EXPERIENCE, part.height, values))
    client.query(f"DELETE FROM {_TABLE} WHERE inferred_at < fromUnixTimestamp64Micro({int(inferred_at_us)}, 'UTC')")


def inferred_of(client: ClickHouse, customer_id: str) -> list[Inference]:
    """What was inferred of one customer's journeys that have no rating since, the latest first.

    As view `inferred_journeys`, without a look at other customers' events. Raises ClickHouseError.
    """
    rows = client.query(
        f"SELECT {', '.join(_READ)} FROM {_TABLE} FINAL WHERE customer_id = %(id)s AND journey_id NOT IN "
        f"(SELECT journey_id FROM {DATABASE}.{TOUCHPOINTS.name} WHERE customer_id = %(id)s AND rating IS NOT NULL "
        "AND kind IN ('survey_response', 'interaction', 'complaint_resolved') "
        "AND metric IN ('nps', 'csat', 'ces', 'stars')) ORDER BY happened_at DESC, journey_id",
        {"id": customer_id},
    )
    return [Inference(*row) for row in rows]
