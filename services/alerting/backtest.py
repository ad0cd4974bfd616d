"""What calls were worth: held against who came back and who did not. Pure: frames in, numbers out.

A customer has *left* when no coming followed within the horizon H. Of a call at c to a customer who had come before:

    too_late   no coming in the H before c: the silence was complete before anybody was called
    left       no coming in (c, c + H]
    stayed     a coming in (c, c + H]: this customer would have stayed without a call
    unknown    c + H lies behind the end of what is known; counts nowhere

    precision = left / (left + stayed + too_late)
    base rate = left / (left + stayed) of everybody who is not gone, at all steps: what calling them all would give
    at random = the same, each step weighing as much as it has calls: what as many calls at random would give
    recall    = customers whose silence became complete in the span, and who were called during it / all those

Customers who never came cannot be lost; calls to them are counted apart. Lead time is from the call to the moment at
which the silence was complete. Shares carry 95 % Wilson intervals (Wilson, 1927), as if calls were independent; several
calls to one customer are less than that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.stats import binomtest

Ints = npt.NDArray[np.int64]

DAY_US: Final = 86_400_000_000
OUTCOMES: Final = ("left", "stayed", "too_late", "unknown", "never_came")
SURE: Final = 0.95
COMINGS: Final[dict[str, pl.DataType | type[pl.DataType]]] = {"customer_id": pl.String, "at_us": pl.Int64}
"""A coming back, or another moment of a customer. UTC microseconds, any order."""


@dataclass(frozen=True, slots=True)
class Share:
    """``hits`` of ``of``, with its 95 % interval; no value where there is nothing to divide by."""

    hits: int
    of: int
    value: float | None
    low: float | None
    high: float | None

    @classmethod
    def from_counts(cls, hits: int, of: int) -> Share:
        if of == 0:
            return cls(0, 0, None, None, None)
        interval = binomtest(hits, of).proportion_ci(SURE, method="wilson")
        return cls(hits, of, hits / of, float(interval.low), float(interval.high))


@dataclass(frozen=True, slots=True)
class Quartiles:
    """Of ``count`` times, in days; no values where there are none."""

    count: int
    low: float | None
    median: float | None
    high: float | None

    @classmethod
    def of(cls, days: pl.Series) -> Quartiles:
        if days.is_empty():
            return cls(0, None, None, None)
        low, median, high = (float(x) for x in np.quantile(days.to_numpy(), (0.25, 0.5, 0.75)))
        return cls(len(days), low, median, high)


@dataclass(frozen=True, slots=True)
class Span:
    """What is looked at, UTC microseconds. ``steps_us``: at least one, when everybody was judged."""

    since_us: int
    until_us: int
    end_us: int
    """What happened before this is known."""
    horizon_us: int
    steps_us: tuple[int, ...]
    """Step 0 is not counted among the others: at it everybody is called for whom a rule holds already."""

    @property
    def running_us(self) -> int:
        """Length of the span but for step 0."""
        return max(self.until_us - self.steps_us[min(1, len(self.steps_us) - 1)], DAY_US)


class Past:
    """Who came when: gaps between comings, the last of each customer without an end."""

    def __init__(self, comings: pl.DataFrame, cancellations: pl.DataFrame, span: Span) -> None:
        """``comings``, ``cancellations``: `COMINGS`; those from the end of the span on are not looked at."""
        known = pl.col("at_us") < span.end_us
        self.span = span
        self.cancellations = cancellations.filter(known).sort("at_us")
        came = comings.filter(known).sort("customer_id", "at_us")
        following = pl.col("at_us").shift(-1)
        same = pl.col("customer_id").shift(-1) == pl.col("customer_id")
        self.gaps = came.with_columns(next_us=pl.when(same).then(following)).sort("at_us")
        """customer_id, at_us, next_us (null: none came), by time."""
        self._at = self.gaps.get_column("at_us").to_numpy()
        self._next = self.gaps.get_column("next_us").fill_null(np.iinfo(np.int64).max).to_numpy()

    def at(self, step_us: int) -> tuple[int, int]:
        """Customers who are not gone at a moment, and how many of them left; (0, 0) where that is not known yet."""
        h = self.span.horizon_us
        if step_us + h > self.span.end_us:
            return 0, 0
        begin, end = np.searchsorted(self._at, (step_us - h, step_us), side="right")
        following = self._next[begin:end]
        following = following[following > step_us]
        return len(following), int(np.count_nonzero(following > step_us + h))

    def leavers(self) -> pl.DataFrame:
        """customer_id, at_us, complete_us: silences that became complete within the span."""
        complete = pl.col("at_us") + self.span.horizon_us
        until_us = min(self.span.until_us, self.span.end_us)
        return (
            self.gaps.with_columns(complete_us=complete)
            .filter(
                pl.col("complete_us") > self.span.since_us,
                pl.col("complete_us") <= until_us,
                pl.col("next_us").is_null() | (pl.col("next_us") > pl.col("complete_us")),
            )
            .select("customer_id", "at_us", "complete_us")
        )

    def outcomes(self, calls: pl.DataFrame) -> pl.DataFrame:
        """``calls`` (with customer_id and called_us) and of each: last_us, next_us, outcome, lead_us (of those who
        left), cancellation_lead_us (to a cancellation within the horizon, if one came)."""
        h, called, last = self.span.horizon_us, pl.col("called_us"), pl.col("last_us")
        came = self.gaps.select("customer_id", "next_us", last_us="at_us")
        found = (
            calls.sort("called_us")
            .join_asof(
                came.sort("last_us"),
                left_on="called_us",
                right_on="last_us",
                by="customer_id",
                strategy="backward",
                coalesce=False,
                check_sortedness=False,
            )
            .join_asof(
                self.cancellations.select("customer_id", cancelled_us="at_us"),
                left_on="called_us",
                right_on="cancelled_us",
                by="customer_id",
                strategy="forward",
                allow_exact_matches=False,
                coalesce=False,
                check_sortedness=False,
            )
        )
        outcome = (
            pl.when(last.is_null())
            .then(pl.lit("never_came"))
            .when(called + h > self.span.end_us)
            .then(pl.lit("unknown"))
            .when(called - last >= h)
            .then(pl.lit("too_late"))
            .when(pl.col("next_us") <= called + h)
            .then(pl.lit("stayed"))
            .otherwise(pl.lit("left"))
        )
        left = pl.col("outcome") == "left"
        cancelled_in = pl.col("cancelled_us") - called
        return found.with_columns(outcome=outcome).with_columns(
            lead_us=pl.when(left).then(last + h - called),
            cancellation_lead_us=pl.when(left & (cancelled_in <= h)).then(cancelled_in),
        )


@dataclass(frozen=True, slots=True)
class Counted:
    """Calls about customers by what became of those, and the shares of those whose outcome is known."""

    called: int
    customers: int
    left: int
    stayed: int
    too_late: int
    unknown: int
    never_came: int
    precision: Share
    stayed_share: Share
    too_late_share: Share

    @classmethod
    def of(cls, judged: pl.DataFrame) -> Counted:
        """Of rows with customer_id and outcome."""
        counts = dict(judged.get_column("outcome").value_counts().iter_rows())
        by = {name: int(counts.get(name, 0)) for name in OUTCOMES}
        known = by["left"] + by["stayed"] + by["too_late"]
        return cls(
            called=judged.height,
            customers=judged.get_column("customer_id").n_unique(),
            **by,
            precision=Share.from_counts(by["left"], known),
            stayed_share=Share.from_counts(by["stayed"], known),
            too_late_share=Share.from_counts(by["too_late"], known),
        )


@dataclass(frozen=True, slots=True)
class Segment:
    """Calls about customers of one segment; empty: none known."""

    segment: str
    called: int
    precision: Share


@dataclass(frozen=True, slots=True)
class Result:
    """What a rule would have done. ``running``: but for the first step, at which everybody for whom it held already
    was called at once (``first_step``)."""

    rule: str
    fired: int
    over_budget: int
    held_out: int
    not_called: int
    """Resolved before anybody was called, or held back to the end."""
    first_step: Counted
    running: Counted
    segments: tuple[Segment, ...]
    base_rate: Share
    at_random: float | None
    lift: float | None
    """Precision of ``running`` by ``at_random``."""
    recall: Share
    lead_days: Quartiles
    cancellation_lead_days: Quartiles
    calls: int
    """Calls to each receiver; one may tell of many customers."""
    calls_per_week: float
    customers_per_week: float
    """Both without the first step."""
    busiest_day_calls: int
    budget_per_day: int
    budget_used: float
    """Share of what the budget allows in the span."""
    budget_one_by_one: float
    """The same without the first step, if each customer had a call: what fires at one step is told together here, and
    comes one by one in operation."""


def judge(rule: str, budget_per_day: int, alerts: pl.DataFrame, calls: pl.DataFrame, past: Past) -> Result:
    """Hold what a rule did (`rehearsal.ALERTS` and `rehearsal.CALLS`, of it alone) against what happened."""
    span = past.span
    judged = past.outcomes(alerts.filter(pl.col("called_us").is_not_null()))
    first = pl.col("step") == 0
    running = judged.filter(~first)
    counted = Counted.of(running)
    people, left = np.array([past.at(step_us) for step_us in span.steps_us[1:]] or [(0, 0)]).T
    at_random = _at_random(running, people, left)
    fates = dict(alerts.get_column("fate").value_counts().iter_rows())
    later = calls.filter(pl.col("made_us") >= span.until_us - span.running_us)
    per_day = calls.group_by(pl.col("made_us") // DAY_US).len().get_column("len")
    days = max((span.until_us - span.since_us) / DAY_US, 1.0)
    weeks = span.running_us / DAY_US / 7.0
    precision = counted.precision.value
    return Result(
        rule=rule,
        fired=alerts.height,
        over_budget=int(fates.get("over_budget", 0)),
        held_out=int(fates.get("held_out", 0)),
        not_called=int(fates.get("untold", 0) + fates.get("waiting", 0)),
        first_step=Counted.of(judged.filter(first)),
        running=counted,
        segments=_segments(running),
        base_rate=Share.from_counts(int(left.sum()), int(people.sum())),
        at_random=at_random,
        lift=precision / at_random if precision is not None and at_random else None,
        recall=_recall(judged, past.leavers()),
        lead_days=Quartiles.of(running.get_column("lead_us").drop_nulls() / DAY_US),
        cancellation_lead_days=Quartiles.of(running.get_column("cancellation_lead_us").drop_nulls() / DAY_US),
        calls=calls.height,
        calls_per_week=later.height / weeks,
        customers_per_week=running.height / weeks,
        busiest_day_calls=int(per_day.max() or 0),  # type: ignore[arg-type]
        budget_per_day=budget_per_day,
        budget_used=calls.height / (days * budget_per_day),
        budget_one_by_one=running.height / (span.running_us / DAY_US * budget_per_day),
    )


def _at_random(running: pl.DataFrame, people: Ints, left: Ints) -> float | None:
    """Expected share of those who leave, of as many calls at the same steps to customers drawn from all not gone."""
    known = running.filter(pl.col("outcome").is_in(["left", "stayed", "too_late"]))
    counts = np.bincount(known.get_column("step").to_numpy() - 1, minlength=len(people))[: len(people)]
    sure = (people > 0) & (counts > 0)
    return float(np.average(left[sure] / people[sure], weights=counts[sure])) if sure.any() else None


def _recall(judged: pl.DataFrame, leavers: pl.DataFrame) -> Share:
    reached = leavers.join(judged.select("customer_id", "called_us"), on="customer_id").filter(
        pl.col("called_us") >= pl.col("at_us"), pl.col("called_us") < pl.col("complete_us")
    )
    return Share.from_counts(reached.select("customer_id", "at_us").n_unique(), leavers.height)


def _segments(judged: pl.DataFrame) -> tuple[Segment, ...]:
    """The most called first."""
    found = []
    for (name,), rows in judged.group_by("segment"):
        counted = Counted.of(rows)
        found.append(Segment(str(name), counted.called, counted.precision))
    return tuple(sorted(found, key=lambda segment: (-segment.called, segment.segment)))
