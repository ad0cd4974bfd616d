"""Journeys as occasions to be asked: where a rating was given, and where it can only be inferred.

A journey is looked at from the moment its rating was asked for. Where nobody asked, that is the moment at which it
usually would have been: as long after a step as others are asked who get no further in that time. Facts are operational
steps; what the customer said and that we asked are no steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import polars as pl

from services.learning.activity import DAY_US
from services.learning.errors import BadHistory, TooLittle
from services.learning.journeys import AGAINST_PROMISE, PROMISED, journey_facts
from services.learning.waits import usual_waits

BAD_AT_MOST: Final = {"nps": 6.0, "csat": 2.0, "ces": 3.0, "stars": 2.0}
"""Ratings up to here are bad. Sentiment is read out of text by a machine and is no answer."""
RATED: Final = ("survey_response", "interaction", "complaint_resolved")
"""Kinds whose rating is an answer."""
ASKED: Final = "survey_sent"
SAID: Final = ("survey_response", "emotion", "complaint_opened", "complaint_resolved", "review", "referral")
"""Kinds that tell what the customer said: felt, hence no facts to infer a feeling from."""
MOST_DAYS: Final = 36_525
"""Longer promises, or longer delays, are taken for mistakes."""
WRONG: Final = " went wrong"
"""Ends the name of a step that failed, was abandoned, or was an incident."""
LEAST_OF_A_SORT: Final = 30
"""Sorts of journey (column journey) with fewer ratings are not inferred: they may be unlike those that were rated."""

_NEEDED: Final = {
    "customer_id",
    "occurred_at",
    "kind",
    "touchpoint",
    "journey_id",
    "journey",
    "metric",
    "rating",
    "outcome",
    "amount",
    "promised",
    "against",
}


@dataclass(frozen=True, slots=True)
class Occasions:
    """``table``: one row a journey: customer_id, journey_id, journey, asked (Boolean), asked_us, known_us, answered_us
    and bad (null where no rating was given), last_touchpoint. ``facts``: of `journey_facts`, row by row the same.
    """

    table: pl.DataFrame
    facts: pl.DataFrame
    promise_step: str
    """The step that most often tells how a promise was kept; empty if none does."""
    journeys: int
    """All there are, with those left out."""
    still_open: int
    """Left out: not yet at the moment at which one would be asked."""
    without_steps: int
    """Left out: no step was known by then."""
    unlike: dict[str, int]
    """Left out: journeys of sorts with fewer than `LEAST_OF_A_SORT` ratings, by sort."""


def occasions(events: pl.DataFrame, as_of_us: int) -> Occasions:
    """Journeys that began before ``as_of_us``, by the events before it.

    ``events``: customer_id, occurred_at (UTC microseconds), kind, touchpoint, journey_id, journey, metric, rating,
    outcome, amount, promised and against (days, see `journeys`; null where an event has none). Raises `BadHistory` for
    a missing column, `TooLittle` where there are no journeys or no ratings.
    """
    if missing := _NEEDED - set(events.columns):
        raise BadHistory(f"occasions need the columns {', '.join(sorted(missing))}")
    texts = ("kind", "touchpoint", "journey", "metric", "outcome")
    here = events.filter(pl.col("occurred_at") < as_of_us, pl.col("journey_id") != "").with_columns(
        pl.col(name).cast(pl.String) for name in texts
    )
    if here.is_empty():
        raise TooLittle(
            "no event belongs to a journey: send journey_id with the steps and the answers of one order, claim or "
            "contract, so that they can be told to belong together"
        )
    told = pl.col("journey").filter(pl.col("journey") != "").last()
    journeys = (
        here.sort("occurred_at", "touchpoint", maintain_order=True)
        .group_by("customer_id", "journey_id")
        .agg(told.fill_null("").alias("journey"))
        .sort("customer_id", "journey_id")
        .with_row_index("key")
    )
    here = here.drop("journey").join(
        journeys.select("key", "customer_id", "journey_id"), on=["customer_id", "journey_id"]
    )
    table = _moments(journeys, here, as_of_us)
    if not table.get_column("answered_us").is_not_null().any():
        raise TooLittle(
            f"no rating was given in any of {journeys.height:,} journeys: ask some customers (survey_sent and "
            "survey_response with the journey_id of what they are asked about), then infer the others"
        )
    steps = here.filter(~pl.col("kind").is_in([*SAID, ASKED])).select(
        "key", "touchpoint", "occurred_at", "kind", "outcome", "amount", "promised", "against"
    )
    table = _as_usual(table, steps, as_of_us)
    still_open = table.filter(pl.col("asked_us").is_null() | (pl.col("asked_us") >= as_of_us)).height
    table = table.filter(pl.col("asked_us") < as_of_us)
    last = _last_known(table, steps).select("key", pl.col("touchpoint").alias("last_touchpoint"))
    seen = table.join(last, on="key", how="inner").sort("key")
    unlike = _unlike(seen)
    kept = seen.filter(pl.col("answered_us").is_not_null() | ~pl.col("journey").is_in(list(unlike)))
    facts = journey_facts(_labelled(steps), kept.select("asked_us", "known_us", journey_id="key"))
    # How long ago something did not go wrong says nothing.
    facts = facts.drop(name for name in facts.columns if name.endswith(f"{WRONG}.days"))
    return Occasions(
        kept.drop("key"),
        facts,
        _promise_step(steps, facts),
        journeys.height,
        still_open,
        table.height - seen.height,
        unlike,
    )


def _moments(journeys: pl.DataFrame, here: pl.DataFrame, as_of_us: int) -> pl.DataFrame:
    """When each was asked and answered; without either, asked_us is null."""
    at = pl.col("occurred_at")
    answers = (
        here.filter(
            pl.col("kind").is_in(RATED), pl.col("metric").is_in(list(BAD_AT_MOST)), pl.col("rating").is_not_null()
        )
        .sort("occurred_at", "rating")
        .group_by("key")
        .agg(at.last().alias("answered_us"), pl.col("rating").last(), pl.col("metric").last())
        .select(
            "key",
            "answered_us",
            (pl.col("rating") <= pl.col("metric").replace_strict(BAD_AT_MOST, return_dtype=pl.Float64)).alias("bad"),
        )
    )
    asks = (
        here.filter(pl.col("kind") == ASKED)
        .select("key", at.alias("at"))
        .join(answers, on="key", how="left")
        .filter(pl.col("answered_us").is_null() | (pl.col("at") <= pl.col("answered_us")))
        .group_by("key")
        .agg(pl.col("at").max().alias("asked_us"))
    )
    # Sources that give a date only say midnight: what happened on that day counts as known.
    end = pl.col("asked_us") + pl.when(pl.col("asked_us") % DAY_US == 0).then(DAY_US - 1).otherwise(0)
    return (
        journeys.join(answers, on="key", how="left")
        .join(asks, on="key", how="left")
        .with_columns(
            asked=pl.col("asked_us").is_not_null(),
            asked_us=pl.coalesce("asked_us", "answered_us"),
        )
        .with_columns(known_us=pl.min_horizontal(end, pl.col("answered_us") - 1, pl.lit(as_of_us - 1)))
        .with_columns(known_us=pl.when(pl.col("asked_us").is_not_null()).then("known_us"))
    )


def _last_known(table: pl.DataFrame, steps: pl.DataFrame) -> pl.DataFrame:
    """key, touchpoint and at_us of the last step of each that was known by then."""
    return (
        steps.join(table.select("key", "known_us"), on="key")
        .filter(pl.col("occurred_at") <= pl.col("known_us"))
        .sort("occurred_at", "touchpoint")
        .group_by("key")
        .agg(pl.col("touchpoint").last(), pl.col("occurred_at").last().alias("at_us"))
    )


def _as_usual(table: pl.DataFrame, steps: pl.DataFrame, as_of_us: int) -> pl.DataFrame:
    """The same; those that nobody asked get the moment at which they would have been, where they have a step."""
    told, untold = table.filter(pl.col("asked_us").is_not_null()), table.filter(pl.col("asked_us").is_null())
    if untold.is_empty():
        return table
    known = steps.join(told.select("key", "known_us", "asked_us"), on="key").filter(
        pl.col("occurred_at") <= pl.col("known_us")
    )
    at, touchpoint = pl.col("occurred_at"), pl.col("touchpoint")
    waits = usual_waits(known)
    by_step = pl.DataFrame(
        {"touchpoint": list(waits), "wait_us": list(waits.values())},
        schema={"touchpoint": pl.String, "wait_us": pl.Int64},
    )
    after_last = known.group_by("key").agg((pl.col("asked_us").first() - at.max()).alias("wait_us"))
    usual = after_last.get_column("wait_us").clip(lower_bound=0).median()
    due = (
        steps.join(untold.select("key"), on="key")
        .join(by_step, on="touchpoint", how="left")
        .sort("key", at, touchpoint)
        .with_columns(next_us=at.shift(-1).over("key"))
        .with_columns(
            # After the last step there is always a moment; before that only where one is usual.
            wait_us=pl.when(pl.col("next_us").is_null())
            .then(pl.col("wait_us").fill_null(int(usual) if isinstance(usual, int | float) else 0))
            .otherwise("wait_us")
        )
        .select("key", "next_us", due_us=at + pl.col("wait_us"))
        .filter(pl.col("next_us").is_null() | (pl.col("due_us") < pl.col("next_us")))
        .group_by("key")
        .agg(pl.col("due_us").min())
    )
    placed = untold.join(due, on="key", how="left").with_columns(asked_us="due_us", known_us="due_us").drop("due_us")
    return pl.concat([told, placed.select(told.columns)])


def _unlike(seen: pl.DataFrame) -> dict[str, int]:
    sorts = seen.group_by("journey").agg(
        rated=pl.col("answered_us").count(), unrated=pl.col("answered_us").null_count().cast(pl.Int64)
    )
    few = sorts.filter(pl.col("rated") < LEAST_OF_A_SORT, pl.col("unrated") > 0).sort("journey")
    return dict(few.select("journey", "unrated").iter_rows())


def _promise_step(steps: pl.DataFrame, facts: pl.DataFrame) -> str:
    told = steps.filter(pl.col("against").is_not_null()).group_by("touchpoint").len()
    for name in told.sort(["len", "touchpoint"], descending=[True, False]).get_column("touchpoint"):
        if f"{name}.pending" in facts.columns:
            return str(name)
    return ""


def _labelled(steps: pl.DataFrame) -> pl.DataFrame:
    """Steps as `journey_facts` reads them; what went wrong is a step of its own besides."""
    wrong = (pl.col("kind") == "incident") | pl.col("outcome").is_in(["failed", "abandoned"])
    shape = (pl.col("key").alias("journey_id"), "touchpoint", "occurred_at")
    nothing = pl.lit(None, dtype=pl.Float64)
    parts = [
        steps.select(*shape, metric=pl.lit(""), score=nothing, amount=pl.col("amount").cast(pl.Float64)),
        steps.filter(wrong).select(
            *shape[:1],
            pl.col("touchpoint") + WRONG,
            *shape[2:],
            metric=pl.lit(""),
            score=nothing,
            amount=nothing,
        ),
    ]
    for column, metric in (("promised", PROMISED), ("against", AGAINST_PROMISE)):
        # An attribute can be any text: what is no number of days, such as inf, was not said.
        said = steps.filter(pl.col(column).is_finite() & (pl.col(column).abs() < MOST_DAYS))
        parts.append(said.select(*shape, metric=pl.lit(metric), score=pl.col(column).cast(pl.Float64), amount=nothing))
    return pl.concat(parts)
