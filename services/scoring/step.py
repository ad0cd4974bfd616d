"""One step of the stream: new events into states, judging where the log says so.

A customer is judged at an event if the event is live (it happened shortly before it was received), is no step of a case
(nothing happened to the customer, and no time has run out) and no event of the same second of received_at has been
judged already. That is a property of the log alone, so bands and signals come out
the same however the log is cut into batches. An event that is not judged changes the score all the same; where it
should change a band, the next review (see `services.scoring.reviews`) makes it so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from schemas.state_layout import INT_INDEX
from services.scoring.events import KIND, Events
from services.scoring.fold import Mask, activity_codes, fold
from services.scoring.judge import explain, judge
from services.scoring.risk.model import RiskModel
from services.scoring.state import Ints, States, Vocabulary
from services.scoring.timeline import Judging

LIVE_WITHIN_US: Final = 3_600_000_000
"""An event received later than this after it happened is history: it is folded and does not signal by itself."""
SECOND_US: Final = 1_000_000
REVIEW: Final = KIND["review_due"]
"""Who asks for a customer's review is told what it found."""

_JUDGED = INT_INDEX["judged_at"]
_CASE_STEP = KIND["case_step"]


@dataclass(slots=True)
class Scorer:
    """What a step needs besides states and events. Vocabularies grow; the rest is fixed while a process runs."""

    model: RiskModel
    """Judges where the log has activated no other one."""
    touchpoints: Vocabulary
    models: Vocabulary
    activity: Mask

    @classmethod
    def of(cls, model: RiskModel) -> Scorer:
        """A scorer that judges by ``model``."""
        return cls(model, Vocabulary(), Vocabulary(), activity_codes(model.activity_kinds))


def step(states: States, events: Events, scorer: Scorer, judging: Judging | None = None) -> pl.DataFrame:
    """Fold new events (sorted by customer row, then offset) into ``states`` in place; return `JUDGED` of judge.py.

    ``judging``: who judges each event; None: the scorer's model all of them. Only judging depends on the model.
    """
    judging = judging or Judging((scorer.model,))
    if not len(events):
        return explain(())
    judged = judged_at(states, events)
    # The events of a customer up to and including a judged one make a segment; segments of different customers with
    # the same number are folded together, then those customers are judged.
    before: Ints = np.cumsum(judged, dtype=np.int64) - judged
    starts = np.flatnonzero(np.r_[True, events.row[1:] != events.row[:-1]])
    segment: Ints = before - np.repeat(before[starts], np.diff(np.r_[starts, len(events)]))
    told: list[pl.DataFrame] = []
    for number in range(int(segment.max()) + 1):
        mine = np.flatnonzero(segment == number) if segment.any() else np.arange(len(events))
        part = events.select(mine) if len(mine) < len(events) else events
        fold(states, part, scorer.activity, scorer.touchpoints)
        at = mine[judged[mine]]
        if at.size:
            told += [
                judge(
                    states,
                    events.row[which],
                    events.received_us[which],
                    events.offset[which],
                    events.kind[which] == REVIEW,
                    model,
                    scorer.touchpoints,
                    scorer.models,
                )
                for model, which in judging.by_model(at)
            ]
    return explain(told)


def judged_at(states: States, events: Events) -> npt.NDArray[np.bool_]:
    """Which events are judged: live ones, no steps of cases, whose second of received_at is later than any judged
    before them."""
    second = events.received_us // SECOND_US
    live = (events.received_us - events.occurred_us <= LIVE_WITHIN_US) & (events.kind != _CASE_STEP)
    last = states.ints[events.row, _JUDGED] // SECOND_US
    first = np.r_[True, events.row[1:] != events.row[:-1]]
    # A running maximum per customer: rows ascend, so adding a multiple of the row keeps customers apart.
    span = np.int64(1) << 34
    base = events.row.astype(np.int64) * span
    mine = np.where(live, second, 0)
    reached = np.maximum.accumulate(base + mine)
    earlier = np.where(first, base, np.r_[np.int64(0), reached[:-1]]) - base
    return np.asarray(live & (second > np.maximum(earlier, last)))
