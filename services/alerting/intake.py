"""Records of topic ``loyalty-signals`` to the frame that `decide` takes. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import polars as pl
from pydantic import ValidationError

from schemas.signal import LoyaltySignal
from services.alerting.decide import SIGNALS
from services.alerting.rules.fields import FIELDS

Segments = Mapping[str, Sequence[tuple[int, str]]]
"""By customer: offsets in the log, ascending, at which attribute ``segment`` was told, and what it said."""

MOST_US: Final = 7_258_118_400_000_000
"""2200-01-01: tables keep no time far beyond it."""
_MOST_PARTITION: Final = 2**16 - 1
_MOST_OFFSET: Final = 2**63 - 1

_GIVEN: Final = tuple(name for name in FIELDS if name not in ("band", "segment"))


@dataclass(frozen=True, slots=True)
class Taken:
    """What records say."""

    signals: list[LoyaltySignal]
    unreadable: list[int]
    """Places among the records of those that are no signals."""


def read(values: Sequence[bytes]) -> Taken:
    """Signals out of the topic's records. Never raises."""
    taken = Taken([], [])
    for place, value in enumerate(values):
        try:
            signal = LoyaltySignal.model_validate_json(value)
        except ValidationError:
            taken.unreadable.append(place)
            continue
        if _can_be_kept(signal):
            taken.signals.append(signal)
        else:
            taken.unreadable.append(place)
    return taken


def _can_be_kept(signal: LoyaltySignal) -> bool:
    """Whether tables have room for what it says: one record that cannot be written would hold up all after it."""
    return (
        signal.customer_id != ""
        and 0 <= signal.judged_at_us < MOST_US
        and 0 <= signal.log_partition <= _MOST_PARTITION
        and 0 <= signal.log_offset <= _MOST_OFFSET
        and all(math.isfinite(reason.log_odds) for reason in signal.reasons)
    )


def frame(signals: Sequence[LoyaltySignal], segments: Segments) -> pl.DataFrame:
    """The columns of `decide.SIGNALS`, in the order of ``signals``."""
    columns: dict[str, list[Any]] = {
        "signal_id": [signal.signal_id.hex for signal in signals],
        "customer_id": [signal.customer_id for signal in signals],
        "judged_at": [signal.judged_at_us for signal in signals],
        "log_partition": [signal.log_partition for signal in signals],
        "log_offset": [signal.log_offset for signal in signals],
        "band": [signal.to_band for signal in signals],
        "segment": [segment_at(segments.get(signal.customer_id, ()), signal.log_offset) for signal in signals],
        **{name: [getattr(signal, name) for signal in signals] for name in _GIVEN},
    }
    flat = {name: type_ for name, type_ in SIGNALS.items() if name != "reasons"}
    return pl.DataFrame(columns, schema=flat).with_columns(_reasons(signals)).select(list(SIGNALS))


def _reasons(signals: Sequence[LoyaltySignal]) -> pl.Series:
    """Column ``reasons``. Gathered flat and cut into lists after: polars takes nested Python objects slowly."""
    told = [(row, reason) for row, signal in enumerate(signals) for reason in signal.reasons]
    by_row = (
        pl.DataFrame(
            {
                "row": [row for row, _ in told],
                "reason": [reason.reason for _, reason in told],
                "log_odds": [reason.log_odds for _, reason in told],
            },
            schema={"row": pl.UInt32, "reason": pl.String, "log_odds": pl.Float64},
        )
        .group_by("row", maintain_order=True)
        .agg(reasons=pl.struct("reason", "log_odds"))
    )
    rows = pl.DataFrame({"row": range(len(signals))}, schema={"row": pl.UInt32})
    none = pl.lit([], dtype=SIGNALS["reasons"])
    joined = rows.join(by_row, on="row", how="left", maintain_order="left")
    return joined.select(pl.col("reasons").fill_null(none)).to_series()


def segment_at(told: Sequence[tuple[int, str]], offset: int) -> str:
    """The segment of the latest event at or before an offset; empty: none was told."""
    return next((segment for at, segment in reversed(told) if at <= offset), "")
