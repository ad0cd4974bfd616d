"""Small logs for the laws of scoring: several customers, all kinds, late, equal and out-of-order times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np
import polars as pl
from hypothesis import strategies as st

from schemas.activation import KIND
from schemas.decode import COLUMNS
from schemas.emotions import EMOTIONS
from schemas.kinds import KINDS, OUTCOMES
from schemas.metrics import METRICS
from schemas.state_layout import FLOATS, INTS
from services.scoring.duplicates import id_keys, remember
from services.scoring.events import prepare
from services.scoring.readings import shipped
from services.scoring.state import Ints, Rows, States
from services.scoring.step import Scorer

DAY_US = 86_400_000_000
START_US = 1_767_225_600_000_000
"""2026-01-01, a moment at which days and seconds begin."""

TOUCHPOINTS = ("checkout", "delivery", "support.phone", "web.account", "store")
CASES = ("", "A-1", "A-2", "A-3", "A-4", "A-5", "A-6")
_OF_CUSTOMERS = tuple(kind for kind in KINDS if kind != KIND)
STEPS_US = (1, 499_999, 1_000_000, 3_600_000_000, DAY_US // 3, DAY_US)


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a log; its offset is its place there."""

    customer: int
    kind: str
    occurred_us: int
    received_us: int
    event_id: bytes
    touchpoint: str = "checkout"
    outcome: str | None = None
    metric: str | None = None
    rating: float | None = None
    emotion: str | None = None
    intensity: float | None = None
    confidence: float | None = None
    amount_micros: int | None = None
    case_id: str | None = None


def random_event(random: Random, customers: int, occurred_us: int, received_us: int) -> Event:
    """Any kind with any combination of what an event may say."""
    kind = random.choice((*_OF_CUSTOMERS, *("purchase",) * 8))
    metric = random.choice(list(METRICS)) if random.random() < 0.3 or kind == "survey_response" else None
    scale = METRICS[metric] if metric else None
    rating = None if scale is None else random.uniform(scale.low, scale.high)
    return Event(
        customer=random.randrange(customers),
        kind=kind,
        occurred_us=occurred_us,
        received_us=received_us,
        event_id=random.randbytes(16),
        touchpoint=random.choice(TOUCHPOINTS),
        outcome=random.choice((None, *OUTCOMES)),
        metric=metric,
        rating=rating if scale is None or not scale.whole else float(round(rating or 0)),
        emotion=random.choice(EMOTIONS) if random.random() < 0.3 or kind == "emotion" else None,
        intensity=random.choice((None, random.uniform(0.01, 1.0))),
        confidence=random.choice((None, random.uniform(0.01, 1.0))),
        amount_micros=random.choice((None, 0, 1, random.randrange(10**9), random.randrange(10**15))),
        case_id=random.choice((None, *CASES)),
    )


def random_log(random: Random, events: int, customers: int, step_us: int) -> list[Event]:
    """Events whose times lie on a grid of ``step_us``, so that some are equal, over at least a hundred days for the
    larger steps; most are live, some late, some from a clock ahead."""
    log = []
    received = START_US + 50 * DAY_US
    for _ in range(events):
        received += random.choice((0, 1, 400_000, 1_000_000, step_us))
        lag = random.choice((0, 0, 0, 1, step_us, random.randrange(120) * step_us, -3 * step_us))
        log.append(random_event(random, customers, max(received - lag, 0), received))
    return log


@st.composite
def logs(draw: st.DrawFn, max_events: int = 150) -> list[Event]:
    """A log of 1 to ``max_events`` events of 1 to 5 customers."""
    random = draw(st.randoms(use_true_random=True))
    events = draw(st.integers(1, max_events))
    return random_log(random, events, draw(st.integers(1, 5)), draw(st.sampled_from(STEPS_US)))


@st.composite
def splits(draw: st.DrawFn, events: int) -> list[slice]:
    """Some way to cut ``events`` neighbours into batches."""
    cuts = sorted(draw(st.sets(st.integers(1, events - 1), max_size=8))) if events > 1 else []
    return [slice(a, b) for a, b in zip([0, *cuts], [*cuts, events], strict=True)]


def to_frame(events: Sequence[Event]) -> pl.DataFrame:
    """The events as a decoded batch."""
    values: dict[str, list[Any]] = {
        "event_id": [e.event_id for e in events],
        "customer_id": [f"customer-{e.customer}" for e in events],
        "occurred_at": [e.occurred_us for e in events],
        "received_at": [e.received_us for e in events],
        "source": ["test"] * len(events),
        "channel": [""] * len(events),
        "currency": [None if e.amount_micros is None else "EUR" for e in events],
    }
    same = ("kind", "touchpoint", "outcome", "metric", "rating", "emotion", "intensity", "confidence")
    values |= {name: [getattr(e, name) for e in events] for name in (*same, "amount_micros", "case_id")}
    return pl.DataFrame(
        {name: pl.Series(name, values.get(name, [None] * len(events)), dtype=kind) for name, kind in COLUMNS.items()}
    )


def batch_of(log: Sequence[Event], offsets: Sequence[int]) -> tuple[pl.DataFrame, Rows, Ints]:
    """Frame, customer rows and offsets of some events of a log, sorted as the fold wants them."""
    order = sorted(offsets, key=lambda offset: (log[offset].customer, offset))
    rows = np.array([log[offset].customer for offset in order], dtype=np.intp)
    return to_frame([log[offset] for offset in order]), rows, np.array(order, dtype=np.int64)


def customers_of(log: Sequence[Event]) -> int:
    """How many rows of states a log needs."""
    return max(event.customer for event in log) + 1


def take(states: States, log: Sequence[Event], offsets: Sequence[int], scorer: Scorer, apply: Any) -> Any:
    """Remember and apply (fold or step) one batch."""
    frame, rows, at = batch_of(log, offsets)
    remember(states, rows, id_keys(frame.get_column("event_id"), frame.get_column("occurred_at").to_numpy()))
    return apply(states, prepare(frame, rows, at, shipped(), scorer.touchpoints), scorer)


def as_records(states: States, scorer: Scorer) -> list[dict[str, Any]]:
    """Each customer's columns as plain values: names instead of codes, bounded sets sorted."""
    records = []
    for i in range(len(states)):
        record: dict[str, Any] = dict(zip(FLOATS, states.floats[i].tolist(), strict=True))
        record |= dict(zip(INTS, states.ints[i].tolist(), strict=True))
        for name in ("worst_touchpoint", "last_touchpoint"):
            record[name] = scorer.touchpoints.names[record[name]]
        record["model_version"] = scorer.models.names[record["model_version"]]
        record["activity_days"] = states.activity_days[i].tolist()
        record["cases"] = states.cases[i].tolist()
        record["recent_ids"] = sorted(states.recent_ids[i].tolist())
        records.append(record)
    return records


@dataclass(frozen=True, slots=True)
class Signal:
    """A row of a frame of `services.scoring.judge.JUDGED`."""

    row: int
    log_offset: int
    judged_at: int
    from_band: str
    to_band: str
    risk: float
    score: float
    trend: float
    confidence: float
    value_at_risk: float
    reasons: list[dict[str, Any]]
    model_version: str
    volatility: float
    complaint_hours: float
    feedback_hours: float
    silence_days: float
    usual_gap_days: float
    worst_touchpoint: str


def signals_of(frame: pl.DataFrame) -> list[Signal]:
    """The rows of a frame of signals."""
    return [Signal(**row) for row in frame.iter_rows(named=True)]


def told(signals: Sequence[Signal]) -> list[tuple[Any, ...]]:
    """What of signals must be equal to the last bit; their numbers are compared apart."""
    return [(s.log_offset, s.row, s.judged_at, s.from_band, s.to_band, s.model_version) for s in signals]
