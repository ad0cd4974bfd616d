"""Moments of truth: which touchpoints, felt badly or well, go with staying, saying and spending beyond the base rate.

At each date, customers are told apart by what they felt at a touchpoint in a window before it, and looked at in the
horizon after it: did they come back, what did they say, what did they spend. What was to be expected of them is the
base chance (staying), what they spent before (spending) or nothing of their own (saying), each corrected by how far it
was off for others of like base chance at the same date, who felt it neither badly nor well (`contrast`). All
comparisons are corrected together for their number (Benjamini, Hochberg: Controlling the false discovery rate, Journal
of the Royal Statistical Society B 57, 1995).

What is found is association: who felt badly may differ in other ways from who did not. ``among_touched`` narrows that
down: against others who felt something at the same touchpoint, and not so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import BaseModel, ConfigDict
from scipy.stats import false_discovery_control

from schemas.kinds import FAMILIES, Family
from services.learning.activity import DAY_US, read_events
from services.learning.contrast import Effect, Population, contrast
from services.learning.errors import BadHistory, TooLittle
from services.learning.strata import bins_by_day

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Rows = npt.NDArray[np.intp]

BADLY: Final = -0.15
"""A valence below this was felt badly, as where scoring counts unhappy feedback."""
WELL: Final = 0.15
FALSE_DISCOVERIES: Final = 0.05
"""Share of what is called found that may be chance."""
MOST_PLACES: Final = 200
"""Touchpoints, and steps of journeys, that are tried: those felt by the most customers."""
SPEND_HORIZONS: Final = 4
"""Own spend before a date is taken over so many horizons, or since the customer was first seen."""
HELD: Final = (0.5, 99.5)
"""Percentiles that spend is held to: one customer's yacht is no finding."""

Feeling = Literal["badly", "well"]
Outcome = Literal["left", "said_badly", "said_well", "spent"]
FEELINGS: Final[tuple[Feeling, ...]] = ("badly", "well")
OUTCOMES: Final[tuple[Outcome, ...]] = ("left", "said_badly", "said_well", "spent")


class Moment(BaseModel):
    """One comparison. ``touchpoint`` None: any. ``journey`` None: in whatever journey, or in none.

    ``effect`` in shares of customers, or for ``spent`` in units of currency a horizon. ``q``: p corrected for the
    number of comparisons; ``found``: q at most `FALSE_DISCOVERIES`.
    """

    model_config = ConfigDict(frozen=True)

    touchpoint: str | None
    journey: str | None
    feeling: Feeling
    outcome: Outcome
    effect: Effect
    q: float
    found: bool
    among_touched: Effect | None

    @property
    def holds_there(self) -> bool | None:
        """Whether it is the same, surely, against others who felt something at the same touchpoint; None: too few.

        Where it is not, the finding may be of who goes there rather than of how it felt.
        """
        if self.among_touched is None:
            return None
        return self.among_touched.at_least * self.effect.difference.mean > 0.0


class Moments(BaseModel):
    """All comparisons, by outcome; within one those found first, then by what they surely amount to.

    ``dates``: days since 1970. ``tried``: comparisons made; ``too_few``: left out for want of customers or outcomes.
    """

    model_config = ConfigDict(frozen=True)

    horizon_days: int
    window_days: int
    kinds: tuple[str, ...]
    dates: tuple[int, ...]
    customers: int
    rows: int
    felt_customers: int
    tried: int
    too_few: int
    moments: tuple[Moment, ...]
    notes: tuple[str, ...]

    def of(self, outcome: Outcome) -> tuple[Moment, ...]:
        """The comparisons of one outcome, at single touchpoints, in order."""
        return tuple(m for m in self.moments if m.outcome == outcome and m.touchpoint is not None)

    def anywhere(self) -> tuple[Moment, ...]:
        """What goes with having felt badly or well at any touchpoint."""
        return tuple(m for m in self.moments if m.touchpoint is None)


@dataclass(frozen=True, slots=True)
class _Place:
    touchpoint: str | None
    journey: str | None


@dataclass(frozen=True, slots=True)
class _Exposed:
    """Rows of the population at one place: felt anything, felt it badly, felt it well."""

    place: _Place
    touched: Rows
    badly: Rows
    well: Rows


def moments_of_truth(
    events: pl.DataFrame,
    base: pl.DataFrame,
    *,
    as_of_us: int,
    horizon_days: int,
    kinds: Sequence[str],
    window_days: int | None = None,
) -> Moments:
    """Compare customers by what they felt.

    ``events``: customer_id, occurred_at (UTC microseconds or datetime), kind, touchpoint, valence, and if there are any
    amount (units of currency, refunds negative) and journey. ``valence`` in [-1, 1] or null: of an experience, how it
    was felt; of a review, what it says; of other behaviour it is not looked at. ``base``: customer_id, day (since 1970)
    and chance of not coming back within the horizon from that day, known before it; whoever is in it is compared.
    ``kinds`` count as coming back. ``window_days`` before a date in which feelings count: by default the horizon.

    Dates whose horizon had not ended by ``as_of_us`` are left out. Raises `BadHistory` if a column is missing or holds
    what it cannot, `TooLittle` if no date is left.
    """
    window = horizon_days if window_days is None else window_days
    if min(horizon_days, window) < 1:
        raise BadHistory(f"horizon and window must be at least 1 day, not {horizon_days} and {window}")
    past = _read(events, as_of_us)
    notes: list[str] = []
    people = _people(base, as_of_us, horizon_days, notes)
    dates = people.get_column("day").unique().sort().to_list()
    seen = _outcomes(past, people, horizon_days, tuple(kinds))
    exposed, felt = _exposures(past, people, window, notes)
    populations = _populations(people, seen, past, notes)
    found: list[tuple[_Place, Feeling, Outcome, Effect, Effect | None]] = []
    too_few = 0
    for at in exposed:
        here = _narrowed(populations, people, at.touched)
        for feeling in FEELINGS:
            rows, opposite = (at.badly, at.well) if feeling == "badly" else (at.well, at.badly)
            for outcome, population in populations.items():
                effect = contrast(population, rows, opposite) if len(rows) else None
                if effect is None:
                    too_few += bool(len(rows))
                    continue
                among = contrast(here[outcome], np.searchsorted(at.touched, rows))
                found.append((at.place, feeling, outcome, effect, among))
    return Moments(
        horizon_days=horizon_days,
        window_days=window,
        kinds=tuple(kinds),
        dates=tuple(dates),
        customers=people.get_column("customer_id").n_unique(),
        rows=people.height,
        felt_customers=felt,
        tried=len(found),
        too_few=too_few,
        moments=_ranked(found),
        notes=tuple(notes),
    )


def _read(events: pl.DataFrame, as_of_us: int) -> pl.DataFrame:
    """Events before the moment, with valence, touchpoint and journey (empty if none) in their types."""
    for name in ("touchpoint", "valence"):
        if name not in events.columns:
            raise BadHistory(f"events need a column {name}; there are {', '.join(events.columns) or 'none'}")
    journey = pl.col("journey").cast(pl.String) if "journey" in events.columns else pl.lit(None, pl.String)
    return (
        read_events(events)
        .filter(pl.col("occurred_at") < as_of_us)
        .with_columns(
            pl.col("touchpoint").cast(pl.String).fill_null(""),
            pl.col("valence").cast(pl.Float64, strict=False).fill_nan(None).clip(-1.0, 1.0),
            journey.fill_null("").alias("journey"),
        )
    )


def _people(base: pl.DataFrame, as_of_us: int, horizon_days: int, notes: list[str]) -> pl.DataFrame:
    """Row, customer_id, customer (code), day and chance of everybody at the dates whose horizon has ended."""
    for name in ("customer_id", "day", "chance"):
        if name not in base.columns:
            raise BadHistory(f"base chances need a column {name}; there are {', '.join(base.columns) or 'none'}")
    people = base.select(
        pl.col("customer_id").cast(pl.String), pl.col("day").cast(pl.Int64), pl.col("chance").cast(pl.Float64)
    )
    possible = people.select((pl.col("chance").is_between(0.0, 1.0) & pl.col("chance").is_finite()).fill_null(False))
    if not possible.to_series().all():
        raise BadHistory("base chances must be within 0 and 1: give the chance of not coming back within the horizon")
    if people.select("customer_id", "day").is_duplicated().any():
        raise BadHistory("base chances must be one for each customer and day: remove the others")
    ended = (pl.col("day") + horizon_days) * DAY_US <= as_of_us
    left_out = people.filter(~ended).get_column("day").n_unique()
    people = people.filter(ended).sort("day", "customer_id")
    if not people.height:
        raise TooLittle(
            f"no date lies {horizon_days} days or more before the as-of date, so it is not known yet who came back: "
            "give earlier dates, or wait"
        )
    if left_out:
        notes.append(f"{left_out} dates were left out: their {horizon_days} days had not ended")
    return people.with_columns(
        (pl.col("customer_id").rank("dense") - 1).cast(pl.Int64).alias("customer")
    ).with_row_index("row")


def _outcomes(events: pl.DataFrame, people: pl.DataFrame, horizon_days: int, kinds: tuple[str, ...]) -> pl.DataFrame:
    """In the order of ``people``: came, said_badly, said_well, spent, and spent_before a horizon."""
    says, kind, valence = pl.col("kind").is_in(FAMILIES[Family.SAY]), pl.col("kind"), pl.col("valence")
    pays = kind.is_in([*FAMILIES[Family.SPEND], *kinds])
    # Sorted, so that a sum does not depend on the order of events to the last bit.
    paid = pl.col("amount").filter(pays).sort().sum()
    first = events.group_by("customer_id").agg(pl.col("occurred_at").min().alias("first"))
    parts = []
    for (day,), at in people.group_by("day", maintain_order=True):
        start = int(day) * DAY_US
        end, since = start + horizon_days * DAY_US, start - SPEND_HORIZONS * horizon_days * DAY_US
        when = pl.col("occurred_at")
        after = (
            events.filter(when >= start, when < end)
            .group_by("customer_id")
            .agg(
                kind.is_in(kinds).any().alias("came"),
                (says & (valence < BADLY)).any().alias("said_badly"),
                (says & ((valence > WELL) | (kind == "referral"))).any().alias("said_well"),
                paid.alias("spent"),
            )
        )
        before = events.filter(when >= since, when < start).group_by("customer_id").agg(paid.alias("paid_before"))
        watched = ((start - pl.col("first")) / (horizon_days * DAY_US)).clip(1.0, float(SPEND_HORIZONS))
        parts.append(
            at.join(after, on="customer_id", how="left", maintain_order="left")
            .join(before, on="customer_id", how="left", maintain_order="left")
            .join(first, on="customer_id", how="left", maintain_order="left")
            .with_columns((pl.col("paid_before") / watched).fill_null(0.0).alias("spent_before"))
        )
    return pl.concat(parts).select(
        pl.col("came", "said_badly", "said_well").fill_null(False), pl.col("spent").fill_null(0.0), "spent_before"
    )


def _exposures(
    events: pl.DataFrame, people: pl.DataFrame, window_days: int, notes: list[str]
) -> tuple[list[_Exposed], int]:
    """Who felt what at which place in the window before each date, and how many customers felt anything at all."""
    felt = events.filter(
        pl.col("kind").is_in(FAMILIES[Family.EXPERIENCE]), pl.col("valence").is_not_null(), pl.col("touchpoint") != ""
    )
    steps = felt.filter(pl.col("journey") != "")
    nowhere = pl.lit(None, pl.String)
    kept = ("customer_id", "occurred_at", "valence")
    everywhere = pl.concat(
        [
            felt.select(*kept, nowhere.alias("touchpoint"), nowhere.alias("journey")),
            felt.select(*kept, "touchpoint", nowhere.alias("journey")),
            steps.select(*kept, "touchpoint", "journey"),
        ]
    )
    when, parts = pl.col("occurred_at"), []
    for (day,), at in people.group_by("day", maintain_order=True):
        start = int(day) * DAY_US
        parts.append(
            everywhere.filter(when >= start - window_days * DAY_US, when < start)
            .join(at.select("customer_id", "customer", "row"), on="customer_id", how="inner")
            .group_by("touchpoint", "journey", "customer", "row")
            .agg((pl.col("valence") < BADLY).any().alias("badly"), (pl.col("valence") > WELL).any().alias("well"))
        )
    rows = pl.concat(parts).sort("row")
    places = (
        rows.group_by("touchpoint", "journey")
        .agg(pl.col("customer").n_unique().alias("customers"))
        .sort("customers", "touchpoint", "journey", descending=[True, False, False], nulls_last=False)
    )
    if not places.height:
        notes.append(
            "nothing was felt by these customers in the windows before these dates: there is nothing to compare"
        )
        return [], 0
    if places.height > MOST_PLACES + 1:
        notes.append(
            f"of {places.height - 1} touchpoints and steps of journeys the {MOST_PLACES} felt by the most were tried"
        )
        places = places.head(MOST_PLACES + 1)
    numbered = places.drop("customers").with_row_index("place")
    placed = rows.join(numbered, on=["touchpoint", "journey"], how="inner", nulls_equal=True).sort("place", "row")
    exposed = []
    for (place,), part in placed.group_by("place", maintain_order=True):
        touchpoint, journey = numbered.row(int(place))[1:]
        row = part.get_column("row").cast(pl.Int64).to_numpy()
        exposed.append(
            _Exposed(
                _Place(touchpoint, journey),
                row,
                row[part.get_column("badly").to_numpy()],
                row[part.get_column("well").to_numpy()],
            )
        )
    return exposed, int(places.get_column("customers").to_numpy().max())


def _populations(
    people: pl.DataFrame, seen: pl.DataFrame, events: pl.DataFrame, notes: list[str]
) -> dict[Outcome, Population]:
    """What is compared for each outcome that these events can show at all."""
    day, chance = people.get_column("day").to_numpy(), people.get_column("chance").to_numpy()
    customer = people.get_column("customer").to_numpy()
    alike = bins_by_day(day, [chance])

    def chances(value: Floats, expected: Floats) -> Population:
        return Population.of(alike, customer, value, expected, chance=True)

    left = (~seen.get_column("came")).cast(pl.Float64).to_numpy()
    found: dict[Outcome, Population] = {"left": chances(left, chance)}
    said = events.filter(pl.col("kind").is_in(FAMILIES[Family.SAY]))
    for outcome in ("said_badly", "said_well"):
        value = seen.get_column(outcome).cast(pl.Float64).to_numpy()
        if value.any():
            found[outcome] = chances(value, np.zeros(len(value)))
    if not said.height:
        notes.append("no review or referral in this history: saying is not compared")
    elif said.filter(pl.col("valence").is_not_null()).is_empty() and "said_badly" not in found:
        notes.append("no review says how it was meant (valence is missing): bad reviews are not compared")
    spent, before = (np.asarray(seen.get_column(name).to_numpy()) for name in ("spent", "spent_before"))
    if not spent.any():
        notes.append("no amounts in this history: spending is not compared")
    else:
        # Held, so that a few large amounts do not decide; both alike, so that the difference stays one of money.
        spent, before = (np.clip(values, *np.percentile(values, HELD)) for values in (spent, before))
        found["spent"] = Population.of(bins_by_day(day, [before, chance]), customer, spent, before, chance=False)
    return found


def _narrowed(
    populations: Mapping[Outcome, Population], people: pl.DataFrame, touched: Rows
) -> dict[Outcome, Population]:
    """Those only who felt something at one place, in strata of their own, as there are fewer."""
    day = people.get_column("day").to_numpy()[touched]
    chance = people.get_column("chance").to_numpy()[touched]
    alike = bins_by_day(day, [chance])
    narrowed: dict[Outcome, Population] = {}
    for outcome, population in populations.items():
        stratum = alike if population.chance else bins_by_day(day, [population.expected[touched], chance])
        narrowed[outcome] = population.take(touched, stratum)
    return narrowed


def _ranked(
    found: Sequence[tuple[_Place, Feeling, Outcome, Effect, Effect | None]],
) -> tuple[Moment, ...]:
    if not found:
        return ()
    corrected = false_discovery_control([effect.p for _, _, _, effect, _ in found]).tolist()
    moments = [
        Moment(
            touchpoint=place.touchpoint,
            journey=place.journey,
            feeling=feeling,
            outcome=outcome,
            effect=effect,
            q=q,
            found=q <= FALSE_DISCOVERIES,
            among_touched=among,
        )
        for (place, feeling, outcome, effect, among), q in zip(found, corrected, strict=True)
    ]
    moments.sort(key=lambda m: (OUTCOMES.index(m.outcome), not m.found, -abs(m.effect.at_least), m.q))
    return tuple(moments)
