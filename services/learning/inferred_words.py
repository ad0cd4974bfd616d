"""Why an inference is what it is: contributions of facts, gathered by what they describe, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from services.learning.journeys import KEPT, OVERDUE
from services.learning.occasions import WRONG

Floats = npt.NDArray[np.float64]

MOST: Final = 5
"""So many are named, the largest; the others are summed up."""
SMALLEST: Final = 0.005
"""Smaller ones, in log-odds, are summed up with the others."""
OTHERS: Final = "everything else"
AMOUNT: Final = "amount"
PROMISE: Final = "promise"
_STEPS: Final = (".pending", ".days")
_ROWS: Final = 50_000
"""Worked out at once; so that sentences of a large table need little memory."""


def reasons(facts: pl.DataFrame, contributions: Mapping[str, Floats], promise_step: str = "") -> pl.Series:
    """For each row of ``facts`` (of `journey_facts`) a list of (reason, log_odds), the largest first.

    ``contributions``: by fact, each (n,). The log-odds of a row add up to the sum of its contributions.
    ``promise_step``: the step that keeps the promise; both are said, and counted, as one, as they move together.
    """
    groups: dict[str, Floats] = {}
    for fact, added in contributions.items():
        group = _group_of(fact, promise_step)
        groups[group] = groups[group] + added if group in groups else added
    parts = [
        _reasons(
            facts[start : start + _ROWS],
            {name: added[start : start + _ROWS] for name, added in groups.items()},
            promise_step,
        )
        for start in range(0, facts.height, _ROWS)
    ]
    empty = pl.Series("reasons", [], dtype=pl.List(pl.Struct({"reason": pl.String, "log_odds": pl.Float64})))
    return pl.concat([empty, *parts])


def _group_of(fact: str, promise_step: str) -> str:
    for ending in _STEPS:
        if fact.endswith(ending):
            return fact.removesuffix(ending).removesuffix(WRONG)
    return AMOUNT if fact == AMOUNT else promise_step or PROMISE


def _reasons(facts: pl.DataFrame, groups: Mapping[str, Floats], promise_step: str) -> pl.Series:
    said = facts.select(
        pl.int_range(pl.len()).alias("row"),
        *(_sentence(name, facts.columns, promise_step).alias(name) for name in groups),
    )
    long = pl.concat(
        [
            said.select("row", pl.col(name).alias("reason")).with_columns(pl.Series("log_odds", added))
            for name, added in groups.items()
        ]
    )
    size = pl.col("log_odds").abs()
    ranked = long.with_columns(size.rank("ordinal", descending=True).over("row").alias("rank"))
    named = (pl.col("rank") <= MOST) & (size >= SMALLEST)
    rest = (
        ranked.filter(~named)
        .group_by("row")
        .agg(reason=pl.lit(OTHERS), log_odds=pl.col("log_odds").sum(), rank=pl.lit(MOST + 1, dtype=pl.UInt32))
        .filter(size > 0.0)
    )
    told = pl.concat([ranked.filter(named).with_columns(pl.col("rank").cast(pl.UInt32)), rest.select(ranked.columns)])
    listed = (
        told.sort("row", "rank")
        .group_by("row", maintain_order=True)
        .agg(pl.struct("reason", "log_odds").alias("reasons"))
    )
    nothing = pl.lit([], dtype=pl.List(pl.Struct({"reason": pl.String, "log_odds": pl.Float64})))
    return (
        said.select("row")
        .join(listed, on="row", how="left", maintain_order="left")
        .select(pl.coalesce("reasons", nothing).alias("reasons"))
        .to_series()
    )


def _sentence(group: str, facts: Sequence[str], promise_step: str) -> pl.Expr:
    if group == AMOUNT:
        amount = pl.col(AMOUNT)
        return pl.when(amount.is_null()).then(pl.lit("no amount")).otherwise(pl.format("amount {}", amount.round(2)))
    if group == PROMISE:
        return _promise()
    pending, days, step = pl.col(f"{group}.pending") == 1.0, pl.col(f"{group}.days"), pl.lit(group)
    said = (
        pl.when(pending)
        .then(pl.format("no {} after {}", step, _time(days)))
        .otherwise(pl.format("{} after {}", step, _time(days)))
    )
    if (wrong := f"{group}{WRONG}.pending") in facts:
        said += pl.when(pl.col(wrong) == 0.0).then(pl.lit(", went wrong")).otherwise(pl.lit(""))
    return said + pl.lit(", ") + _promise() if group == promise_step else said


def _promise() -> pl.Expr:
    over = pl.col(OVERDUE)
    late, kept = over > 0.0, pl.col(KEPT) == 1.0
    return (
        pl.when(over.is_null())
        .then(pl.lit("nothing was promised"))
        .when(kept & late)
        .then(pl.format("{} after the promise", _time(over)))
        .when(kept)
        .then(pl.format("{} before the promise", _time(-over)))
        .when(late)
        .then(pl.format("promise overdue by {}", _time(over)))
        .otherwise(pl.format("{} left of the promise", _time(-over)))
    )


def _time(days: pl.Expr) -> pl.Expr:
    """Whole hours below two days, then whole days. Unknown is said."""
    days = days.clip(lower_bound=0.0)
    hours = (days * 24.0).round(0).cast(pl.Int64)
    whole = days.round(0).cast(pl.Int64)
    return (
        pl.when(days.is_null())
        .then(pl.lit("an unknown time"))
        .when(days < 2.0)
        .then(pl.format("{} {}", hours, pl.when(hours == 1).then(pl.lit("hour")).otherwise(pl.lit("hours"))))
        .otherwise(pl.format("{} days", whole))
    )
