"""The fold: (states, events) to states, for many customers at once and in any order of events.

Sums decay by the clock alone: W(t) = sum w_i 2^-((t - t_i)/h), and S, Q with w_i v_i and w_i v_i^2. A state keeps
them as of its latest event; events and state are brought to the later of the two references, then added. Everything
else is a minimum, a maximum, a count or a bounded set of the newest, so no order and no split into batches changes
the result.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from schemas.kinds import KINDS, NOT_FOLDED
from schemas.state_layout import FLOAT_INDEX as FLOAT
from schemas.state_layout import INT_INDEX as INT
from schemas.tables import ACTIVITY_DAYS, DIMENSIONS, HALF_LIVES, RECENT_CASES, SUMS
from services.scoring.decay import DAY_US, HALF_LIFE_US, decay
from services.scoring.events import KIND, MICRO, Events, mean_valence
from services.scoring.state import Floats, Ints, Rows, States, Vocabulary

Mask = npt.NDArray[np.bool_]

_SHAPE: Final = (len(DIMENSIONS), len(HALF_LIVES), len(SUMS))
_SUMS: Final = slice(0, math.prod(_SHAPE))
"""The table lists the sums first, by dimension, half-life and letter: so they are one block of this shape."""
if [FLOAT[f"{d}_{h}_{x}"] for d in DIMENSIONS for h in HALF_LIVES for x in SUMS] != list(range(_SUMS.stop)):
    raise ImportError("customer_state must list the sums first, by dimension, half-life and letter")
_SPEND_FAST, _SPEND_SLOW, _SURVEY_LOAD = FLOAT["spend_fast"], FLOAT["spend_slow"], FLOAT["survey_load"]
_CONTACT_LOAD, _LAST_CONTACT = FLOAT["contact_load"], INT["last_contact_at"]
_FIRST, _LAST, _EVENTS = INT["first_event_at"], INT["last_event_at"], INT["events"]

_FOLDED: Final = np.array([kind not in NOT_FOLDED for kind in KINDS])
COUNTED: Final = {
    "surveys_sent": "survey_sent",
    "survey_responses": "survey_response",
    "complaints_opened": "complaint_opened",
    "complaints_resolved": "complaint_resolved",
}
"""Columns that count events of one kind."""
LATEST: Final = {
    "last_follow_up_at": ("follow_up",),
    "last_cancellation_at": ("cancellation",),
    "last_commitment_at": ("renewal", "subscription", "purchase"),
}
"""Columns that hold the latest time of some kinds."""
MONEY_SIGN: Final = {"purchase": 1, "renewal": 1, "subscription": 1, "refund": -1}
"""Kinds whose amounts are spend; amounts of other kinds are kept with the event and not added up."""
_SIGN: Final = np.array([MONEY_SIGN.get(kind, 0) for kind in KINDS], dtype=np.int64)


def activity_codes(kinds: tuple[str, ...]) -> Mask:
    """Which kinds count as coming back, as a mask over kind codes."""
    return np.array([kind in kinds for kind in KINDS])


def fold(states: States, events: Events, activity: Mask, touchpoints: Vocabulary) -> None:
    """Fold events (sorted by customer row) into ``states`` in place. No event may be in a state already.

    ``activity``: mask over kinds, from `activity_codes`. ``touchpoints``: the vocabulary of the events' codes.
    """
    if not len(events):
        return
    starts = np.flatnonzero(np.r_[True, events.row[1:] != events.row[:-1]])
    ends = np.r_[starts[1:], len(events)]
    rows = events.row[starts]
    states.ints[rows, INT["log_offset"]] = events.offset[ends - 1]
    states.ints[rows, INT["updated_at"]] = events.received_us[ends - 1]
    counted = _FOLDED[events.kind]
    if not counted.all():
        events = events.select(np.flatnonzero(counted))
        if not len(events):
            return
        starts = np.flatnonzero(np.r_[True, events.row[1:] != events.row[:-1]])
        ends = np.r_[starts[1:], len(events)]
        rows = events.row[starts]
    _fold_sums(states, events, starts, rows, activity)
    states.ints[rows, _EVENTS] += ends - starts
    _fold_moments(states, events, touchpoints)
    _fold_counts(states, events)
    _fold_cases(states, events)
    _fold_days(states, events, activity)


def _fold_sums(states: States, events: Events, starts: Rows, rows: Rows, activity: Mask) -> None:
    first = np.minimum.reduceat(events.occurred_us, starts)
    latest = np.maximum.reduceat(events.occurred_us, starts)
    known_first, before = states.ints[rows, _FIRST], states.ints[rows, _LAST]
    fresh = states.ints[rows, _EVENTS] == 0
    reference = np.maximum(before, latest)
    states.ints[rows, _FIRST] = np.where(fresh, first, np.minimum(known_first, first))
    states.ints[rows, _LAST] = reference
    step = np.where(fresh, 0, reference - before)
    age = np.repeat(reference, np.diff(np.r_[starts, len(events)])) - events.occurred_us

    readings = events.readings
    weighted = readings.weight * readings.valence
    terms = np.stack((readings.weight, weighted, weighted * readings.valence), axis=2)
    faded = np.stack([decay(age, HALF_LIFE_US[name]) for name in HALF_LIVES], axis=1)
    carried = np.stack([decay(step, HALF_LIFE_US[name]) for name in HALF_LIVES], axis=1)
    added = (terms[:, :, None, :] * faded[:, None, :, None]).reshape(len(events), -1)
    block = states.floats[rows]
    sums = block[:, _SUMS].reshape(-1, *_SHAPE) * carried[:, None, :, None]
    block[:, _SUMS] = sums.reshape(len(rows), -1) + np.add.reduceat(added, starts, axis=0)

    money = _SIGN[events.kind] * events.amount_micros
    fast, slow = HALF_LIVES.index("fast"), HALF_LIVES.index("slow")
    contact = ~activity[events.kind]
    for column, half_life, term in (
        (_SPEND_FAST, fast, money * MICRO),
        (_SPEND_SLOW, slow, money * MICRO),
        (_SURVEY_LOAD, slow, (events.kind == KIND["survey_sent"]).astype(np.float64)),
        (_CONTACT_LOAD, slow, contact.astype(np.float64)),
    ):
        block[:, column] = block[:, column] * carried[:, half_life] + np.add.reduceat(
            term * faded[:, half_life], starts
        )
    states.floats[rows] = block
    latest_contact = np.maximum.reduceat(np.where(contact, events.occurred_us, 0), starts)
    states.ints[rows, _LAST_CONTACT] = np.maximum(states.ints[rows, _LAST_CONTACT], latest_contact)
    states.ints[rows, INT["spend_micros"]] += np.add.reduceat(money, starts)


def _fold_moments(states: States, events: Events, touchpoints: Vocabulary) -> None:
    felt = np.flatnonzero(events.readings.felt)
    if not felt.size:
        return
    events = events.select(felt)
    starts = np.flatnonzero(np.r_[True, events.row[1:] != events.row[:-1]])
    rows = events.row[starts]
    states.ints[rows, INT["felt"]] += np.diff(np.r_[starts, len(events)])
    valence = mean_valence(events.readings)
    names = touchpoints.hash_of(events.touchpoint)

    best = _greatest(starts, (valence, names, events.occurred_us))
    known = states.ints[rows, INT["last_felt_at"]]
    later = _greater(
        (events.occurred_us[best], names[best], valence[best]),
        (
            known,
            touchpoints.hash_of(states.ints[rows, INT["last_touchpoint"]]),
            states.floats[rows, FLOAT["last_valence"]],
        ),
    )
    chosen, to = best[later], rows[later]
    states.ints[to, INT["last_felt_at"]] = events.occurred_us[chosen]
    states.ints[to, INT["last_touchpoint"]] = events.touchpoint[chosen]
    states.floats[to, FLOAT["last_valence"]] = valence[chosen]

    severity = np.maximum(-(events.readings.weight * events.readings.valence).sum(axis=1), 0.0)
    bad = np.flatnonzero(severity > 0)
    if not bad.size:
        return
    events, severity, names = events.select(bad), severity[bad], names[bad]
    starts = np.flatnonzero(np.r_[True, events.row[1:] != events.row[:-1]])
    rows = events.row[starts]
    # Equal half-lives keep the order of decaying severities, so the largest log2(severity) + t/h is largest for ever.
    rank = severity_rank(severity, events.occurred_us)
    best = _greatest(starts, (names, events.occurred_us, rank))
    with np.errstate(divide="ignore"):
        known_rank = severity_rank(states.floats[rows, FLOAT["worst_severity"]], states.ints[rows, INT["worst_at"]])
    worse = _greater(
        (rank[best], events.occurred_us[best], names[best]),
        (
            known_rank,
            states.ints[rows, INT["worst_at"]],
            touchpoints.hash_of(states.ints[rows, INT["worst_touchpoint"]]),
        ),
    )
    chosen, to = best[worse], rows[worse]
    states.floats[to, FLOAT["worst_severity"]] = severity[chosen]
    states.ints[to, INT["worst_at"]] = events.occurred_us[chosen]
    states.ints[to, INT["worst_touchpoint"]] = events.touchpoint[chosen]


def _greatest(starts: Rows, keys: tuple[npt.NDArray[Any], ...]) -> Rows:
    """Per group of neighbours the index of the greatest element, by the last key first (as `np.lexsort`)."""
    best = starts.copy()
    counts = np.diff(np.r_[starts, len(keys[0])])
    several = np.flatnonzero(counts > 1)
    if several.size:
        group = np.repeat(np.arange(several.size), counts[several])
        within = np.arange(len(group)) - np.repeat(np.cumsum(counts[several]) - counts[several], counts[several])
        mine = np.repeat(starts[several], counts[several]) + within
        order = np.lexsort((*(key[mine] for key in keys), group))
        best[several] = mine[order][np.cumsum(counts[several]) - 1]
    return best


def severity_rank(severity: Floats, at_us: Ints) -> Floats:
    """What orders moments by their decayed severity at any time; -inf where there was none."""
    return np.asarray(np.log2(severity) + at_us / HALF_LIFE_US["slow"])


def _greater(new: tuple[npt.NDArray[np.generic], ...], old: tuple[npt.NDArray[np.generic], ...]) -> Mask:
    """Lexicographic ``new > old``, row by row."""
    greater = np.zeros(len(new[0]), dtype=bool)
    tied = np.ones(len(new[0]), dtype=bool)
    for a, b in zip(new, old, strict=True):
        greater |= tied & (a > b)  # type: ignore[operator]
        tied &= a == b
    return greater


def _fold_counts(states: States, events: Events) -> None:
    for column, kind in COUNTED.items():
        _add_at(states, events.row[events.kind == KIND[kind]], INT[column])
    for column, kinds in LATEST.items():
        of_kind = np.isin(events.kind, [KIND[kind] for kind in kinds])
        _raise_to(states, events.row[of_kind], events.occurred_us[of_kind], INT[column])
    unhappy = events.negative_feedback
    _raise_to(states, events.row[unhappy], events.occurred_us[unhappy], INT["last_feedback_at"])


def _add_at(states: States, rows: Rows, column: int) -> None:
    if rows.size:
        np.add.at(states.ints[:, column], rows, 1)


def _raise_to(states: States, rows: Rows, values: Ints, column: int) -> None:
    if rows.size:
        np.maximum.at(states.ints[:, column], rows, values)


def _fold_cases(states: States, events: Events) -> None:
    """Per case the latest of its events stands; a resolution wins over an opening in the same second."""
    of_case = np.flatnonzero((events.kind == KIND["complaint_opened"]) | (events.kind == KIND["complaint_resolved"]))
    if not of_case.size:
        return
    row = events.row[of_case]
    resolved = (events.kind[of_case] == KIND["complaint_resolved"]).astype(np.uint64)
    seconds = (events.occurred_us[of_case] // 1_000_000).astype(np.uint64)
    entries = (seconds << np.uint64(32)) | (events.case_hash[of_case] << np.uint64(1)) | resolved
    of_customer: dict[int, list[int]] = {}
    for customer, entry in zip(row.tolist(), entries.tolist(), strict=True):
        of_customer.setdefault(customer, []).append(entry)
    rows = np.fromiter(of_customer, dtype=np.intp, count=len(of_customer))
    sets, number, since = [], [], []
    for known, mine in zip(states.cases[rows].tolist(), of_customer.values(), strict=True):
        newest: dict[int, int] = {}
        for entry in (*known, *mine):
            case = entry & 0xFFFFFFFE
            if entry > newest.get(case, 0):
                newest[case] = entry
        kept = sorted(newest.values())[-RECENT_CASES:]
        unresolved = [entry >> 32 for entry in kept if not entry & 1]
        sets.append([0] * (RECENT_CASES - len(kept)) + kept)
        number.append(len(unresolved))
        since.append(min(unresolved, default=0) * 1_000_000)
    states.cases[rows] = np.array(sets, dtype=np.uint64)
    states.ints[rows, INT["open_complaints"]] = number
    states.ints[rows, INT["open_complaint_since"]] = since


def _fold_days(states: States, events: Events, activity: Mask) -> None:
    """Days with activity: the newest `ACTIVITY_DAYS` distinct ones, ascending."""
    active = np.flatnonzero(activity[events.kind])
    if not active.size:
        return
    row, at = events.row[active], events.occurred_us[active]
    _add_at(states, row, INT["activities"])
    _raise_to(states, row, at, INT["last_activity_at"])
    # The day the epoch begins with stands for no day: a clock that was never set makes no rhythm.
    dated = at >= DAY_US
    if not dated.any():
        return
    row, at = row[dated], at[dated]
    day = np.minimum(at // DAY_US, 0xFFFF)
    pairs = np.unique(row.astype(np.int64) << 16 | day)
    row, day = pairs >> 16, (pairs & 0xFFFF).astype(np.uint16)
    starts = np.flatnonzero(np.r_[True, row[1:] != row[:-1]])
    counts = np.diff(np.r_[starts, len(row)])
    rows = row[starts]
    width = int(counts.max())
    new = np.zeros((len(rows), width), dtype=np.uint16)
    place = np.repeat(np.arange(len(rows)), counts)
    new[place, np.arange(len(row)) - np.repeat(starts, counts)] = day
    merged = np.sort(np.concatenate((states.activity_days[rows], new), axis=1), axis=1)
    merged[:, 1:][merged[:, 1:] == merged[:, :-1]] = 0
    kept = np.sort(merged, axis=1)[:, -ACTIVITY_DAYS:]
    states.activity_days[rows] = kept
    number = np.count_nonzero(kept, axis=1)
    states.ints[rows, INT["active_days"]] = number
    states.ints[rows, INT["first_active_day"]] = kept[np.arange(len(rows)), ACTIVITY_DAYS - number]
