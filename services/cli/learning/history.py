"""The deployment's own events as learning wants them: a frame of the columns asked for, money in one currency.

Everything here looks only at events before the moment asked for, the choice of the currency too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import polars as pl

from infra.clickhouse.client import quoted
from schemas.kinds import KINDS, RESERVED_KINDS
from schemas.scalars import MICROS
from schemas.tables import DATABASE, DIMENSIONS, TOUCHPOINTS
from services.learning.activity import DAY_US
from services.learning.journeys import AGAINST_PROMISE, PROMISED
from services.scoring.fold import MONEY_SIGN

_WEIGHT: Final = "(" + " + ".join(f"t.{dimension}_weight" for dimension in DIMENSIONS) + ")"
_SUM: Final = "(" + " + ".join(f"t.{dimension}_weight * t.{dimension}_valence" for dimension in DIMENSIONS) + ")"
_SIGN: Final = f"transform(toString(t.kind), {list(MONEY_SIGN)}, {list(MONEY_SIGN.values())}, 0)"

LEARNT_FROM: Final = ("customer_id", "occurred_at", "kind", "amount")
"""What a fit reads at least."""
FELT: Final = (
    "touchpoint",
    "metric",
    "case_id",
    *(f"{dimension}_{part}" for dimension in DIMENSIONS for part in ("valence", "weight")),
)
"""What experience is worked out from, besides."""
SHOWN: Final = ("journey", "valence")
"""What a report shows moments of truth by, besides."""
JOURNEYS: Final = (
    *LEARNT_FROM,
    "touchpoint",
    "journey_id",
    "journey",
    "metric",
    "rating",
    "outcome",
    "promised",
    "against",
)
"""What inferred experience is learnt from."""

COLUMNS: Final[dict[str, str]] = {
    "customer_id": "t.customer_id",
    "occurred_at": "toUnixTimestamp64Micro(t.occurred_at)",
    "kind": "toString(t.kind)",
    "amount": f"if({_SIGN} = 0, NULL, {_SIGN} * t.amount_micros / {MICROS})",
    "touchpoint": "toString(t.touchpoint)",
    "channel": "toString(t.channel)",
    "journey": "toString(t.journey)",
    "journey_id": "t.journey_id",
    "metric": "toString(t.metric)",
    "rating": "t.rating",
    "outcome": "toString(t.outcome)",
    "case_id": "t.case_id",
    "promised": f"toFloat64OrNull(t.attributes['{PROMISED}'])",
    "against": f"toFloat64OrNull(t.attributes['{AGAINST_PROMISE}'])",
    "valence": f"multiIf(t.kind != 'review', if({_WEIGHT} > 0, {_SUM} / {_WEIGHT}, NULL), "
    "t.metric = 'stars', (t.rating - 3) / 2, t.metric = 'sentiment', t.rating, NULL)",
    **{f"{dimension}_{part}": f"t.{dimension}_{part}" for dimension in DIMENSIONS for part in ("valence", "weight")},
}
"""Columns that can be asked for, and how the table gives them. ``occurred_at``: UTC microseconds. ``amount``: units of
the currency, refunds negative, null where there is no money. ``valence``: weighted mean over the dimensions, null where
nothing was felt. ``promised``, ``against``: days, attributes that `services.learning.journeys` names. Texts are empty
where the event has none."""
_FEW_VALUES: Final = ("kind", "touchpoint", "channel", "journey", "metric", "outcome")
"""Columns with few different texts: kept as codes."""

FIRST_DAY_US: Final = 365 * DAY_US
"""Events of 1970 come from clocks that were never set: they begin at 0."""
_CURRENCY: Final = "currency"


class Tables(Protocol):
    """What reads; `infra.clickhouse.client.ClickHouse` does."""

    def frame(self, sql: str) -> pl.DataFrame: ...


@dataclass(frozen=True, slots=True)
class History:
    """Events in no particular order, what must be said about them, and the source they are of (None: all)."""

    events: pl.DataFrame
    notes: tuple[str, ...] = ()
    source: str | None = None
    currency: str = ""
    """Of the amounts; empty if there are none, or they were not asked for."""

    @property
    def last_us(self) -> int | None:
        """Moment of the latest event."""
        return None if self.events.is_empty() else int(self.events["occurred_at"].max())  # type: ignore[arg-type]


def read_history(
    tables: Tables, columns: Sequence[str] = LEARNT_FROM, *, before_us: int | None = None, dataset: str | None = None
) -> History:
    """Events of the deployment, some of `COLUMNS`; only those that happened before ``before_us``.

    ``dataset``: only events of the source of that name, if there is one; otherwise all, and a note says so. Money in
    other currencies than the most common one is left out, events of 1970 as well; notes say how many. Raises as
    ClickHouse does.
    """
    source, notes = None, []
    if dataset is not None:
        if dataset in source_names(tables):
            source = dataset
        else:
            notes.append(f"no source is named {dataset}: all events are used")
    events = tables.frame(history_sql(columns, before_us=before_us, source=source))
    events, more, currency = learnable(events)
    return History(events, (*notes, *more), source, currency)


def source_names(tables: Tables) -> set[str]:
    """The systems that events came from; for what was imported, the name of the data set."""
    found = tables.frame(f"SELECT DISTINCT toString(source) AS name FROM {DATABASE}.{TOUCHPOINTS.name}")
    return set(found.get_column("name").to_list())


def history_sql(columns: Sequence[str], *, before_us: int | None = None, source: str | None = None) -> str:
    """The SELECT behind `read_history`; with an amount comes its currency."""
    chosen = [f"{COLUMNS[name]} AS {name}" for name in columns]
    if "amount" in columns:
        chosen.append(f"toString(t.currency) AS {_CURRENCY}")
    wanted = [f"t.kind NOT IN ({quoted(sorted(RESERVED_KINDS))})"]
    if before_us is not None:
        wanted.append(f"t.occurred_at < fromUnixTimestamp64Micro({int(before_us)}, 'UTC')")
    if source is not None:
        wanted.append(f"t.source = {quoted([source])}")
    return f"SELECT {', '.join(chosen)} FROM {DATABASE}.{TOUCHPOINTS.name} AS t FINAL WHERE {' AND '.join(wanted)}"


def learnable(events: pl.DataFrame) -> tuple[pl.DataFrame, list[str], str]:
    """What can be learnt from, notes on what was left out, and the currency of the amounts."""
    notes, currency = [], ""
    unset = events.get_column("occurred_at") < FIRST_DAY_US
    if unset.any():
        notes.append(
            f"events of the year 1970, left out: {unset.sum():,}. The clock behind them was not set; send them again "
            "with the right time"
        )
        events = events.filter(~unset)
    if _CURRENCY in events.columns:
        events, said, currency = _in_one_currency(events)
        notes += said
    codes = [pl.col(name).cast(pl.Categorical) for name in _FEW_VALUES if name in events.columns]
    return events.with_columns(codes), notes, currency


def _in_one_currency(events: pl.DataFrame) -> tuple[pl.DataFrame, list[str], str]:
    """Amounts of the currency that most events have; the others' become null."""
    money = pl.col("amount").is_not_null()
    counts = (
        events.lazy()
        .filter(money)
        .group_by(_CURRENCY)
        .len()
        .sort(["len", _CURRENCY], descending=[True, False])
        .collect()
    )
    taken = counts[_CURRENCY][0] if counts.height else ""
    if counts.height < 2:
        return events.drop(_CURRENCY), [], taken
    kept = pl.when(pl.col(_CURRENCY) == taken).then("amount").alias("amount")
    others = ", ".join(f"{name or 'none'} in {count:,}" for name, count in counts[1:].iter_rows())
    note = f"money counts in {taken} alone; events whose amount is in another currency, and left out: {others}"
    return events.with_columns(kept).drop(_CURRENCY), [note], taken


def known_kinds() -> tuple[str, ...]:
    """Kinds that senders may send."""
    return tuple(kind for kind in KINDS if kind not in RESERVED_KINDS)
