"""Was calling worth it? How customers fared after their case was closed, against customers whom nobody called. Pure.

Where chance held alerts of the rule out, the difference is an *effect*: called and held out differ by chance alone,
so called customers are all those whom chance let be called, whatever came of it, counted from the alert. Where it did
not, called customers of closed cases are compared, from the closing, with customers whom nobody called, alike in the
tenth of risk, the third of value, the segment and the week: an *association*, since those who were called may differ
in what nobody wrote down. Intervals are percentile bootstraps over customers (Efron and Tibshirani 1993, ch. 13).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl
from numpy.random import Generator

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]
Draws = Callable[[], Generator]
"""Begins the same random numbers anew at each call."""

MEASURES: Final = ("score_change", "returned", "spend")
"""Points of the score over the horizon; 1 if the customer came back within it; net spend in it, currency units."""
COLUMNS: Final = {
    "rule": pl.String,
    "customer_id": pl.String,
    "group": pl.String,
    "at": pl.Int64,
    "risk": pl.Float64,
    "value": pl.Float64,
    "segment": pl.String,
    **dict.fromkeys(MEASURES, pl.Float64),
}
"""One row per alert, or per customer and week for those nobody called. ``group``: a `Group`; ``at``: UTC microseconds
from which the horizon counts, which must be over; ``risk`` 0..1 and ``value`` at risk as of then."""

LEAST_EACH: Final = 20
"""Of both sorts: below it an interval says more about luck than about calls, so none is given."""
SAMPLES: Final = 2_000
_LOW, _HIGH = 2.5, 97.5
_WEEK_US: Final = 7 * 86_400_000_000


class Group(StrEnum):
    """How a row came to be called or not."""

    CALLED = "called"
    """Chance could have held it out, and did not; or no chance was set and its case was closed."""
    HELD_OUT = "held_out"
    NEVER_CALLED = "never_called"
    """No alert of the rule told of this customer."""


class Kind(StrEnum):
    """What a difference may be called."""

    EFFECT = "effect"
    ASSOCIATION = "association"
    NOTHING = "too few"


@dataclass(frozen=True, slots=True)
class Difference:
    """Mean of the called minus that of the others, with a 95 % interval; of an association, of matched ones."""

    called: float
    others: float
    difference: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Recovery:
    """What calling by one rule went along with, or brought about."""

    rule: str
    kind: Kind
    called: int
    """Rows that were compared; of an association, those for whom there was somebody alike."""
    others: int
    unmatched: int
    """Called ones whom nobody was like."""
    measures: dict[str, Difference]
    """By `MEASURES`; empty where there are too few."""
    said: str
    """A sentence that says what may be concluded, and what not."""


def recovery(rows: pl.DataFrame, draws: Draws, *, least: int = LEAST_EACH, samples: int = SAMPLES) -> list[Recovery]:
    """By rule, in the order of their names; ``rows`` as in `COLUMNS`."""
    return [
        _of_rule(str(rule), part, draws, least, samples)
        for (rule,), part in rows.sort("rule", "at", "customer_id").group_by("rule", maintain_order=True)
    ]


def _of_rule(rule: str, rows: pl.DataFrame, draws: Draws, least: int, samples: int) -> Recovery:
    called = rows.filter(pl.col("group") == Group.CALLED.value)
    held_out = rows.filter(pl.col("group") == Group.HELD_OUT.value)
    if held_out.height:
        if min(called.height, held_out.height) < least:
            return _too_few(rule, called.height, held_out.height, 0, f"held out, {least} of both are needed")
        codes = np.zeros(called.height, dtype=np.intp), np.zeros(held_out.height, dtype=np.intp)
        measures = _differences(called, held_out, *codes, draws, samples)
        said = (
            "An effect: chance alone decided who was called, so the difference is what calling brought about, on "
            "average over all whom it would have reached."
        )
        return Recovery(rule, Kind.EFFECT, called.height, held_out.height, 0, measures, said)
    never = rows.filter(pl.col("group") == Group.NEVER_CALLED.value)
    if min(called.height, never.height) < least:
        return _too_few(rule, called.height, never.height, 0, f"whom nobody called, {least} of both are needed")
    mine, theirs = _matched(called, never)
    inside, alike = np.flatnonzero(mine >= 0), np.flatnonzero(theirs >= 0)
    unmatched = called.height - len(inside)
    if min(len(inside), len(alike)) < least:
        return _too_few(
            rule, len(inside), len(alike), unmatched, f"alike whom nobody called, {least} of both are needed"
        )
    measures = _differences(called[inside], never[alike], mine[inside], theirs[alike], draws, samples)
    said = (
        "An association, no effect: those who were called may differ from those alike in risk, value, segment and week "
        "in what is not known here. Set hold_out in the rule to measure the effect."
    )
    return Recovery(rule, Kind.ASSOCIATION, len(inside), len(alike), unmatched, measures, said)


def _too_few(rule: str, called: int, others: int, unmatched: int, what: str) -> Recovery:
    said = f"Nothing can be said yet: {called} called and {others} {what}, with their horizon over."
    return Recovery(rule, Kind.NOTHING, called, others, unmatched, {}, said)


def _matched(called: pl.DataFrame, others: pl.DataFrame) -> tuple[Codes, Codes]:
    """The stratum of each row, -1 where the other side has nobody in it.

    Tenths of risk and thirds of value are cut at quantiles of the called, so that every stratum has some of them.
    """
    tenths = np.quantile(called.get_column("risk").to_numpy(), np.linspace(0.1, 0.9, 9))
    thirds = np.quantile(called.get_column("value").to_numpy(), [1 / 3, 2 / 3])

    def strata(rows: pl.DataFrame) -> list[tuple[int, int, str, int]]:
        return list(
            zip(
                np.searchsorted(tenths, rows.get_column("risk").to_numpy(), side="right").tolist(),
                np.searchsorted(thirds, rows.get_column("value").to_numpy(), side="right").tolist(),
                rows.get_column("segment").to_list(),
                (rows.get_column("at") // _WEEK_US).to_list(),
                strict=True,
            )
        )

    mine, theirs = strata(called), strata(others)
    shared = {stratum: code for code, stratum in enumerate(sorted(set(mine) & set(theirs)))}
    return (
        np.array([shared.get(stratum, -1) for stratum in mine], dtype=np.intp),
        np.array([shared.get(stratum, -1) for stratum in theirs], dtype=np.intp),
    )


def _differences(
    called: pl.DataFrame, others: pl.DataFrame, mine: Codes, theirs: Codes, draws: Draws, samples: int
) -> dict[str, Difference]:
    """Per measure the mean over called rows of (own value - mean of the others of its stratum)."""
    own_values, other_values = (rows.select(MEASURES).cast(pl.Float64).to_numpy() for rows in (called, others))
    strata = int(max(mine.max(), theirs.max())) + 1
    whole = _means(own_values, other_values, mine, theirs, np.ones(called.height), np.ones(others.height), strata)
    random = draws()
    # A customer may have several rows: all of them are drawn together.
    names = [rows.get_column("customer_id").rank("dense").to_numpy().astype(np.intp) - 1 for rows in (called, others)]
    counts = [int(name.max()) + 1 for name in names]
    drawn = np.empty((samples, len(MEASURES)))
    for sample in range(samples):
        own_weight, other_weight = (
            np.bincount(random.integers(0, count, count), minlength=count)[name].astype(np.float64)
            for name, count in zip(names, counts, strict=True)
        )
        own, compared = _means(own_values, other_values, mine, theirs, own_weight, other_weight, strata)
        drawn[sample] = own - compared
    low, high = np.nanpercentile(drawn, (_LOW, _HIGH), axis=0)
    own, compared = whole
    return {
        name: Difference(*(float(x) for x in (own[m], compared[m], own[m] - compared[m], low[m], high[m])))
        for m, name in enumerate(MEASURES)
    }


def _means(
    own: Floats, others: Floats, mine: Codes, theirs: Codes, own_weight: Floats, other_weight: Floats, strata: int
) -> tuple[Floats, Floats]:
    """Weighted means (measures,) of the called and, over the same mix of strata, of the others.

    A stratum that a sample left without others is left out of it, on both sides.
    """
    there = np.bincount(theirs, other_weight, strata)
    share = np.bincount(mine, own_weight, strata) * (there > 0)
    total = share.sum()
    if not total:
        nothing = np.full(own.shape[1], np.nan)
        return nothing, nothing
    kept = own_weight * (there[mine] > 0)
    ours = (own * kept[:, None]).sum(axis=0) / total
    compared = np.empty(own.shape[1])
    for m in range(own.shape[1]):
        sums = np.bincount(theirs, other_weight * others[:, m], strata)
        compared[m] = (share * np.divide(sums, there, out=np.zeros(strata), where=there > 0)).sum() / total
    return ours, compared
