"""The fold as design and docs/measures.md say it, event by event and slow: what the vectorised fold is held to."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from typing import Any

from schemas.tables import ACTIVITY_DAYS, DIMENSIONS, RECENT_CASES, RECENT_IDS
from services.scoring.readings import read_frame, shipped
from tests.property.scoring.logs import Event, to_frame

DAY_US = 86_400_000_000
HALF_LIFE_DAYS = {"fast": 7, "slow": 90}


def _faded(age_us: int, half_life: str) -> float:
    return float(2.0 ** (-age_us / (HALF_LIFE_DAYS[half_life] * DAY_US)))


def _crc(text: str) -> int:
    return zlib.crc32(text.encode())


def reference(log: Sequence[Event], activity: Sequence[str]) -> tuple[dict[str, Any], dict[str, float]]:
    """State columns of one customer after ``log`` (at least one event), and the scale that float sums are
    compared at: sums of terms of both signs are as exact as their terms, not as their result."""
    state: dict[str, Any] = {}
    scale: dict[str, float] = {}
    readings = read_frame(shipped(), to_frame(log))
    events = [
        (event, readings.valence[i].tolist(), readings.weight[i].tolist())
        for i, event in enumerate(log)
        if event.kind not in ("review_due", "case_step")
    ]
    state["events"] = len(events)
    times = [event.occurred_us for event, _, _ in events]
    last = max(times, default=0)
    state["first_event_at"], state["last_event_at"] = min(times, default=0), last

    for d, dimension in enumerate(DIMENSIONS):
        for half_life in HALF_LIFE_DAYS:
            terms = [(v[d], w[d], _faded(last - e.occurred_us, half_life)) for e, v, w in events]
            weight = math.fsum(w * f for _, w, f in terms)
            state[f"{dimension}_{half_life}_w"] = weight
            state[f"{dimension}_{half_life}_s"] = math.fsum(w * v * f for v, w, f in terms)
            state[f"{dimension}_{half_life}_q"] = math.fsum(w * v * v * f for v, w, f in terms)
            scale |= {f"{dimension}_{half_life}_{letter}": weight for letter in "wsq"}

    sign = {"purchase": 1, "renewal": 1, "subscription": 1, "refund": -1}
    money = [(e, sign.get(e.kind, 0) * (e.amount_micros or 0)) for e, _, _ in events]
    for half_life in HALF_LIFE_DAYS:
        faded = [m / 1e6 * _faded(last - e.occurred_us, half_life) for e, m in money]
        state[f"spend_{half_life}"] = math.fsum(faded)
        scale[f"spend_{half_life}"] = math.fsum(map(abs, faded))
    state["spend_micros"] = sum(m for _, m in money)
    sent = [e for e, _, _ in events if e.kind == "survey_sent"]
    contacts = [e for e, _, _ in events if e.kind not in activity]
    state["contact_load"] = math.fsum(_faded(last - e.occurred_us, "slow") for e in contacts)
    state["last_contact_at"] = max((e.occurred_us for e in contacts), default=0)
    state["survey_load"] = math.fsum(_faded(last - e.occurred_us, "slow") for e in sent)

    felt = [(e, v, w) for e, v, w in events if any(w)]
    state["felt"] = len(felt)
    means = {id(e): sum(a * b for a, b in zip(w, v, strict=True)) / sum(w) for e, v, w in felt}
    latest = max(
        ((e.occurred_us, _crc(e.touchpoint), means[id(e)], e.touchpoint) for e, _, _ in felt), default=(0, 0, 0.0, "")
    )
    state["last_felt_at"], _, state["last_valence"], state["last_touchpoint"] = latest
    bad = [(e, -sum(a * b for a, b in zip(w, v, strict=True))) for e, v, w in felt]
    worst = max(
        (
            (math.log2(s) + e.occurred_us / (90 * DAY_US), e.occurred_us, _crc(e.touchpoint), s, e.touchpoint)
            for e, s in bad
            if s > 0
        ),
        default=(0.0, 0, 0, 0.0, ""),
    )
    _, state["worst_at"], _, state["worst_severity"], state["worst_touchpoint"] = worst

    def count(*kinds: str) -> int:
        return sum(e.kind in kinds for e, _, _ in events)

    def when(*kinds: str) -> int:
        return max((e.occurred_us for e, _, _ in events if e.kind in kinds), default=0)

    state["activities"], state["last_activity_at"] = count(*activity), when(*activity)
    state["surveys_sent"], state["survey_responses"] = count("survey_sent"), count("survey_response")
    state["complaints_opened"], state["complaints_resolved"] = count("complaint_opened"), count("complaint_resolved")
    state["last_follow_up_at"], state["last_cancellation_at"] = when("follow_up"), when("cancellation")
    state["last_commitment_at"] = when("renewal", "subscription", "purchase")
    unhappy = [
        e.occurred_us
        for e, _, _ in events
        if e.kind == "complaint_opened"
        or (e.kind in ("survey_response", "emotion") and id(e) in means and means[id(e)] < -0.15)
    ]
    state["last_feedback_at"] = max(unhappy, default=0)

    days = sorted({e.occurred_us // DAY_US for e, _, _ in events if e.kind in activity} - {0})[-ACTIVITY_DAYS:]
    state["active_days"], state["first_active_day"] = len(days), days[0] if days else 0
    state["activity_days"] = [0] * (ACTIVITY_DAYS - len(days)) + days

    cases: dict[int, tuple[int, int]] = {}
    for e, _, _ in events:
        if e.kind in ("complaint_opened", "complaint_resolved"):
            case = _crc(e.case_id or "") >> 1
            entry = (e.occurred_us // 1_000_000, int(e.kind == "complaint_resolved"))
            cases[case] = max(cases.get(case, (0, 0)), entry)
    newest = sorted((second, case, resolved) for case, (second, resolved) in cases.items())[-RECENT_CASES:]
    opened = [second for second, _, resolved in newest if not resolved]
    state["open_complaints"] = len(opened)
    state["open_complaint_since"] = min(opened, default=0) * 1_000_000
    packed = [second << 32 | case << 1 | resolved for second, case, resolved in newest]
    state["cases"] = [0] * (RECENT_CASES - len(packed)) + packed

    keys = sorted((e.occurred_us // 1_000_000, _folded(e.event_id)) for e in log)
    kept, gone = keys[-RECENT_IDS:], keys[:-RECENT_IDS]
    state["recent_ids"] = [0] * (RECENT_IDS - len(kept)) + [second << 32 | folded for second, folded in kept]
    state["ids_horizon_s"] = max((second for second, _ in gone), default=0)
    return state, scale


def _folded(event_id: bytes) -> int:
    folded = 0
    for at in range(0, 16, 4):
        folded ^= int.from_bytes(event_id[at : at + 4], "little")
    return folded
