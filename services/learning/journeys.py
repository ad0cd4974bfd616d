"""Operational facts of a journey, as known at a moment: what had happened, when, and how it was measured.

Nothing here is felt: these are steps of a process (paid, shipped, delivered), from which it is inferred how it felt
where nobody asked.
"""

from __future__ import annotations

from typing import Final

import polars as pl

from services.learning.activity import DAY_US
from services.learning.errors import BadHistory

PROMISED: Final = "promised_days"
"""Metric of the step that begins a journey: days within which it was promised to be done."""
AGAINST_PROMISE: Final = "days_vs_promise"
"""Metric of the step that keeps the promise: days after it, negative if earlier."""
LEAST_SHARE: Final = 0.02
"""Steps that fewer journeys have are left out."""
OVERDUE: Final = "days_overdue"
KEPT: Final = "promise_kept"


def journey_facts(events: pl.DataFrame, moments: pl.DataFrame) -> pl.DataFrame:
    """One row per row of ``moments``, in its order: journey_id and facts as Float64, null where there is none.

    ``events``: journey_id, touchpoint, occurred_at (UTC microseconds), metric, score, amount. ``moments``: journey_id
    (distinct), asked_us: the moment that waiting is counted to, and known_us: events up to then are known (the same
    moment, or the end of a day where sources give dates only). Of each touchpoint: ``T.pending`` (1 if it had not
    happened), ``T.days`` (from the first event to its first, or waiting so far). Further ``amount`` of the first day,
    ``days_overdue`` against a promise (waiting so far less the promise, if not yet kept), and those split by whether it
    is late, and whether it is kept.
    """
    needed = {"journey_id", "touchpoint", "occurred_at", "metric", "score", "amount"}
    if missing := needed - set(events.columns):
        raise BadHistory(f"facts of journeys need the columns {', '.join(sorted(missing))}")
    known = events.join(moments, on="journey_id").filter(pl.col("occurred_at") <= pl.col("known_us"))
    first = known.group_by("journey_id").agg(
        pl.col("occurred_at").min().alias("start_us"),
        pl.col("amount").sort_by("occurred_at").drop_nulls().first().cast(pl.Float64).alias("amount"),
        pl.col("score").filter(pl.col("metric") == PROMISED).first().alias("promised"),
        pl.col("score").filter(pl.col("metric") == AGAINST_PROMISE).first().alias("against"),
    )
    facts = moments.join(first, on="journey_id", how="left", maintain_order="left").with_columns(
        ((pl.col("asked_us") - pl.col("start_us")) / DAY_US).alias("waited")
    )
    late = pl.coalesce("against", pl.col("waited") - pl.col("promised"))
    kept = pl.col("against").is_not_null()
    columns = [
        pl.col("amount"),
        pl.col("promised"),
        late.alias(OVERDUE),
        (late > 0).cast(pl.Float64).alias("late"),
        kept.cast(pl.Float64).alias(KEPT),
        pl.when(kept).then(0.0).otherwise(late).alias("days_overdue_unkept"),
        ((late > 0) & ~kept).cast(pl.Float64).alias("late_unkept"),
    ]
    times = known.group_by("journey_id", "touchpoint").agg(pl.col("occurred_at").min().alias("at"))
    steps = times.group_by("touchpoint").len().filter(pl.col("len") >= LEAST_SHARE * moments.height)
    for step in sorted(steps.get_column("touchpoint").to_list()):
        at = times.filter(pl.col("touchpoint") == step).select("journey_id", pl.col("at").alias(f"{step}.at"))
        facts = facts.join(at, on="journey_id", how="left", maintain_order="left")
        done = pl.col(f"{step}.at")
        columns.append(done.is_null().cast(pl.Float64).alias(f"{step}.pending"))
        columns.append(pl.coalesce((done - pl.col("start_us")) / DAY_US, pl.col("waited")).alias(f"{step}.days"))
    return facts.select("journey_id", *columns)
