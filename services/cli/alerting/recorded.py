"""Signals as the stream recorded them, in stretches of time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, Final

import polars as pl

from schemas.tables import DATABASE, LOYALTY_SIGNALS, TOUCHPOINTS
from services.alerting.decide import REASON, SIGNALS
from services.cli.alerting.everybody import SEGMENT, Tables

_TABLE: Final = f"{DATABASE}.{LOYALTY_SIGNALS.name}"


def recorded_signals(tables: Tables, borders_us: Sequence[int]) -> Iterator[pl.DataFrame]:
    """`services.alerting.decide.SIGNALS` of each stretch between neighbouring moments, the first included.

    The segment is the latest that had been received by then. Raises as ClickHouse does.
    """
    for begin_us, end_us in pairwise(borders_us):
        found = tables.frame(_signals_sql(begin_us, end_us))
        if found.is_empty():
            yield pl.DataFrame(schema=SIGNALS)
            continue
        told = tables.frame(_segments_sql(begin_us, end_us)).cast({"customer_id": pl.String, "at_us": pl.Int64})
        known = found.with_columns(pl.col("judged_at").cast(pl.Int64)).sort("judged_at")
        known = known.join_asof(
            told.sort("at_us"), left_on="judged_at", right_on="at_us", by="customer_id", check_sortedness=False
        )
        given: dict[str, Any] = {
            "reasons": pl.lit([], dtype=pl.List(REASON)),
            "segment": pl.col("segment").fill_null(""),
        }
        yield known.select(
            (given[name] if name in given else pl.col(name)).cast(type_).alias(name) for name, type_ in SIGNALS.items()
        )


def _signals_sql(begin_us: int, end_us: int) -> str:
    made = {
        "signal_id": "lower(hex(s.signal_id))",
        "judged_at": "toUnixTimestamp64Micro(s.judged_at)",
        "band": "toString(s.to_band)",
        "from_band": "toString(s.from_band)",
        "worst_touchpoint": "toString(s.worst_touchpoint)",
    }
    names = [name for name in SIGNALS if name not in ("reasons", "segment")]
    columns = ", ".join(f"{made.get(name, f's.{name}')} AS {name}" for name in names)
    return f"SELECT {columns} FROM {_TABLE} AS s FINAL WHERE {_within('s.judged_at', begin_us, end_us)}"


def _segments_sql(begin_us: int, end_us: int) -> str:
    return (
        f"SELECT t.customer_id AS customer_id, toUnixTimestamp64Micro(t.received_at) AS at_us, "
        f"t.attributes['{SEGMENT}'] AS segment FROM {DATABASE}.{TOUCHPOINTS.name} AS t FINAL "
        f"WHERE t.attributes['{SEGMENT}'] != '' AND t.received_at < {_moment(end_us)} AND t.customer_id IN "
        f"(SELECT s.customer_id FROM {_TABLE} AS s WHERE {_within('s.judged_at', begin_us, end_us)})"
    )


def _within(column: str, begin_us: int, end_us: int) -> str:
    return f"{column} >= {_moment(begin_us)} AND {column} < {_moment(end_us)}"


def _moment(at_us: int) -> str:
    return f"fromUnixTimestamp64Micro(toInt64({int(at_us)}), 'UTC')"
