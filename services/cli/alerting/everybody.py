"""Everybody's signals as of any moments, in order: events folded as the stream folds them, and a review of all.

For history that has no recorded signals. Each event counts from when it happened. Memory: some KiB a customer while all
are judged, and one chunk of events.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from infra.clickhouse.client import quoted
from schemas.decode import KIND_TYPE
from schemas.kinds import RESERVED_KINDS
from schemas.state_layout import INT_INDEX
from schemas.tables import DATABASE, DIMENSIONS, TOUCHPOINTS
from services.alerting.backtest import COMINGS
from services.alerting.decide import REASON, SIGNALS
from services.scoring.events import Events, case_hashes, negative_feedback
from services.scoring.fold import activity_codes, fold
from services.scoring.judge import judge
from services.scoring.readings import Readings
from services.scoring.risk.model import RiskModel
from services.scoring.state import Ints, Rows, States, Vocabulary

CHUNK_EVENTS: Final = 200_000
"""Folded at once; some 200 MiB."""
DAY_US: Final = 86_400_000_000
CANCELLING: Final = "cancellation"
SEGMENT: Final = "segment"
"""The attribute that says to which segment a customer belongs."""
_TABLE: Final = f"{DATABASE}.{TOUCHPOINTS.name} AS t FINAL"
_LIVED: Final = f"t.kind NOT IN ({quoted(sorted(RESERVED_KINDS))})"
_PARTS: Final = [f"{dimension}_{part}" for dimension in DIMENSIONS for part in ("valence", "weight")]


class Tables(Protocol):
    """What reads; `infra.clickhouse.client.ClickHouse` does."""

    def frame(self, sql: str) -> pl.DataFrame: ...


def latest_us(tables: Tables, before_us: int) -> int | None:
    """When the latest event before a moment happened; None if there is none."""
    found = tables.frame(
        f"SELECT toInt64(count()) AS n, toUnixTimestamp64Micro(max(t.occurred_at)) AS at FROM {_TABLE} "
        f"WHERE {_LIVED} AND {_before(before_us)}"
    )
    return int(found["at"][0]) if found["n"][0] else None


def comings(tables: Tables, kinds: Sequence[str], since_us: int, before_us: int) -> pl.DataFrame:
    """`COMINGS` by events of some kinds: all of a span, and each customer's last one before it."""
    of_kind = f"t.kind IN ({quoted(list(kinds))})"
    found = tables.frame(
        f"SELECT t.customer_id AS customer_id, toUnixTimestamp64Micro(t.occurred_at) AS at_us FROM {_TABLE} "
        f"WHERE {of_kind} AND {_from(since_us)} AND {_before(before_us)} UNION ALL "
        f"SELECT t.customer_id, toUnixTimestamp64Micro(max(t.occurred_at)) FROM {_TABLE} "
        f"WHERE {of_kind} AND {_before(since_us)} GROUP BY t.customer_id"
    )
    return found.select(pl.col(name).cast(type_) for name, type_ in COMINGS.items())


def signals(tables: Tables, model: RiskModel, steps_us: Sequence[int]) -> Iterator[pl.DataFrame]:
    """At each of the moments (ascending), `services.alerting.decide.SIGNALS` of everybody who was known by then.

    A customer's place in the log is the number of the step. No reasons. Raises as ClickHouse does.
    """
    everybody = _Everybody(tables, model, steps_us[-1])
    begin_us = 0
    for step, at_us in enumerate(steps_us):
        for until_us in _chunks(everybody.by_day, begin_us, at_us):
            everybody.fold(begin_us, until_us)
            begin_us = until_us
        yield everybody.judge(step, at_us)


class _Everybody:
    def __init__(self, tables: Tables, model: RiskModel, before_us: int) -> None:
        self._tables, self._model = tables, model
        self._activity = activity_codes(model.activity_kinds)
        self._touchpoints, self._models = Vocabulary(), Vocabulary()
        lived = f"{_LIVED} AND {_before(before_us)}"
        table = f"{DATABASE}.{TOUCHPOINTS.name} AS t"
        ids = tables.frame(f"SELECT DISTINCT t.customer_id AS customer_id FROM {table} WHERE {lived}")
        self._customers = ids.get_column("customer_id").cast(pl.String).sort()
        self._places = pl.DataFrame({"customer_id": self._customers, "row": np.arange(len(ids), dtype=np.int64)})
        self._segments: npt.NDArray[np.object_] = np.full(len(ids), "", dtype=object)
        self._states = States.empty(len(ids))
        self.by_day = tables.frame(
            f"SELECT toInt64(toUnixTimestamp(toStartOfDay(t.occurred_at))) AS day_s, toInt64(count()) AS events "
            f"FROM {table} WHERE {lived} GROUP BY day_s ORDER BY day_s"
        )

    def fold(self, begin_us: int, end_us: int) -> None:
        """Fold what happened in a stretch of time."""
        columns = ", ".join(f"t.{name} AS {name}" for name in _PARTS)
        events = self._tables.frame(
            "SELECT t.customer_id AS customer_id, toUnixTimestamp64Micro(t.occurred_at) AS occurred_at, "
            "toString(t.kind) AS kind, toString(t.touchpoint) AS touchpoint, t.case_id AS case_id, "
            f"ifNull(t.amount_micros, 0) AS amount_micros, t.attributes['{SEGMENT}'] AS segment, {columns} "
            f"FROM {_TABLE} WHERE {_LIVED} AND {_from(begin_us)} AND {_before(end_us)}"
        )
        if events.is_empty():
            return
        events = events.join(self._places, on="customer_id", how="inner").sort("row", "occurred_at", "touchpoint")
        fold(self._states, self._events(events), self._activity, self._touchpoints)
        told = events.filter(pl.col("segment") != "").group_by("row", maintain_order=True).agg(pl.col("segment").last())
        self._segments[told.get_column("row").to_numpy()] = told.get_column("segment").to_numpy()

    def judge(self, step: int, at_us: int) -> pl.DataFrame:
        """A review of everybody who was known by then."""
        rows: Rows = np.flatnonzero(self._states.ints[:, INT_INDEX["events"]] > 0)
        if not rows.size:
            return pl.DataFrame(schema=SIGNALS)
        at = np.full(len(rows), at_us, dtype=np.int64)
        asked = np.ones(len(rows), dtype=bool)
        told = judge(
            self._states, rows, at, np.full(len(rows), step), asked, self._model, self._touchpoints, self._models
        )
        given: dict[str, Any] = {
            "signal_id": pl.lit(""),
            "customer_id": self._customers.gather(rows),
            "log_partition": pl.lit(0),
            "reasons": pl.lit([], dtype=pl.List(REASON)),
            "band": pl.col("to_band"),
            "segment": pl.Series(self._segments[rows], dtype=pl.String),
        }
        return told.select(
            (given[name] if name in given else pl.col(name)).cast(type_).alias(name) for name, type_ in SIGNALS.items()
        )

    def _events(self, events: pl.DataFrame) -> Events:
        def matrix(part: str) -> npt.NDArray[np.float64]:
            return events.select(pl.col(f"{name}_{part}").cast(pl.Float64) for name in DIMENSIONS).to_numpy()

        readings = Readings(matrix("valence"), matrix("weight"))
        kind = events.get_column("kind").cast(KIND_TYPE).to_physical().cast(pl.UInt8).to_numpy()
        occurred: Ints = events.get_column("occurred_at").to_numpy()
        names = events.get_column("touchpoint").unique(maintain_order=True)
        codes = dict(zip(names.to_list(), self._touchpoints.codes(names.to_list()).tolist(), strict=True))
        return Events(
            row=events.get_column("row").to_numpy().astype(np.intp),
            offset=np.arange(events.height, dtype=np.int64),
            occurred_us=occurred,
            received_us=occurred,
            kind=kind,
            touchpoint=events.get_column("touchpoint").replace_strict(codes, return_dtype=pl.Int64).to_numpy(),
            readings=readings,
            amount_micros=events.get_column("amount_micros").cast(pl.Int64).to_numpy(),
            negative_feedback=negative_feedback(kind, readings),
            case_hash=case_hashes(events, kind),
        )


def _chunks(by_day: pl.DataFrame, begin_us: int, end_us: int) -> Iterator[int]:
    """Ends of stretches of whole days, but for the last, each of `CHUNK_EVENTS` events or a day."""
    held = 0
    for day_s, events in by_day.iter_rows():
        day_us = day_s * 1_000_000
        if day_us + DAY_US <= begin_us or day_us >= end_us:
            continue
        if held and held + events > CHUNK_EVENTS and day_us > begin_us:
            yield day_us
            held = 0
        held += events
    yield end_us


def _moment(at_us: int) -> str:
    return f"fromUnixTimestamp64Micro(toInt64({int(at_us)}), 'UTC')"


def _before(at_us: int) -> str:
    return f"t.occurred_at < {_moment(at_us)}"


def _from(at_us: int) -> str:
    return f"t.occurred_at >= {_moment(at_us)}"
