"""Focus: parts of the company that are felt worse, or more haphazardly, than by their own past. Pure.

A rule looks at each touchpoint or channel in closed windows of a fixed length. When a window has closed, each part with
enough customers is held against the windows of its own past (`focus_measure.compare`). All parts of a rule are asked at
once, so chances are adjusted by Benjamini and Hochberg (1995). A part fires at a level and resolves at a lower one, and
while it fires its past ends where it fired: a bad month does not become the usual it is compared with, until it has
lasted for as long as the past is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import NormalDist
from typing import Final, Literal

import numpy as np
import polars as pl
from scipy.stats import false_discovery_control

from services.alerting.alert import Alert, Turn, stable_id
from services.alerting.document import Severity
from services.alerting.focus_measure import POINTS, Comparison, Measure, compare, measured
from services.alerting.rules.model import Focus

By = Literal["touchpoint", "channel"]

HOUR_US: Final = 3_600_000_000
DAY_US: Final = 24 * HOUR_US
WEEK_US: Final = 7 * DAY_US
FIRST_MONDAY_US: Final = 4 * DAY_US
"""Windows begin at this Monday and its multiples, so that weeks begin on Mondays and days at midnight, UTC."""
SETTLING_US: Final = 300_000_000
"""After the end of a window, until the tables surely have what was received in it. A longer lag must be waited for."""
STANDARD_ERRORS: Final = 3.0
"""Beyond the usual; with it, of windows in which nothing has changed, one in 740 fires for any part."""
LEAVE_CHANCE: Final = 0.2
"""A part resolves when its window is no more unusual than this."""
LEAST_CHANGE: Final = 0.1
"""Smaller differences call nobody, however sure they are. In units of valence: 5 points of the experience score."""
LEAST_WINDOWS: Final = 4
"""Of the past; below that there is no telling by how much windows differ."""
LEAST_CUSTOMERS: Final = 2
"""One alone gives no sampling error, whatever the rule says."""
LIKE_WINDOWS: Final = 6
"""Of the same weekday, or hour of the day: if so many are there, they alone are the past."""
_NOWHERE: Final = -1
"""Offset of what comes from no event of the log."""


@dataclass(frozen=True, slots=True)
class FocusRule:
    """What is watched. Times in microseconds."""

    name: str
    by: By
    measure: Measure
    window_us: int = DAY_US
    """Length of a window."""
    against_us: int = 28 * DAY_US
    """Length of the past."""
    customers_at_least: int = 50
    """Customers behind the window; a window of the past counts from half of them on."""
    standard_errors: float = STANDARD_ERRORS
    change_at_least: float = LEAST_CHANGE
    cooldown_us: int = 0
    answer_within_us: int = 0
    severity: Severity = "warning"
    owner: str = ""

    @classmethod
    def of(cls, focus: Focus) -> FocusRule:
        """As the rules file says it."""
        return cls(
            name=focus.name,
            by=focus.by,
            measure=focus.measure,
            window_us=focus.window_us,
            against_us=focus.against_us,
            customers_at_least=focus.customers_at_least,
            change_at_least=focus.change_at_least,
            standard_errors=focus.standard_errors,
            cooldown_us=focus.cooldown_us,
            answer_within_us=focus.answer_within_us,
            severity=focus.severity,
            owner=focus.owner,
        )

    @property
    def false_alarms(self) -> float:
        """Of windows in which nothing has changed, the share that may fire for any part: the chance of so many
        standard errors."""
        return NormalDist().cdf(-self.standard_errors)


@dataclass(frozen=True, slots=True)
class FocusState:
    """Where a rule stands with a part: the last turn of its last alert."""

    alert_id: str
    firing: bool
    fired_us: int
    resolved_us: int = 0


def states_of(alerts: Sequence[Alert]) -> dict[str, FocusState]:
    """States by subject from the turns of one rule, in any order: nothing else needs to be kept."""
    found: dict[str, FocusState] = {}
    for alert in sorted(alerts, key=lambda alert: (alert.at_us, alert.turn == Turn.RESOLVED)):
        firing = alert.turn == Turn.FIRING
        found[alert.subject] = FocusState(alert.alert_id, firing, alert.fired_us, 0 if firing else alert.at_us)
    return found


def latest_end_us(rule: FocusRule, now_us: int, settling_us: int = SETTLING_US) -> int:
    """End of the latest closed window."""
    return FIRST_MONDAY_US + (now_us - settling_us - FIRST_MONDAY_US) // rule.window_us * rule.window_us


def ends_due(rule: FocusRule, after_us: int, now_us: int, settling_us: int = SETTLING_US) -> range:
    """Ends of the windows that closed since the one that ended at ``after_us``, in order: each is judged once."""
    first = FIRST_MONDAY_US + ((after_us - FIRST_MONDAY_US) // rule.window_us + 1) * rule.window_us
    return range(first, latest_end_us(rule, now_us, settling_us) + 1, rule.window_us)


def reads_from_us(rule: FocusRule, states: Mapping[str, FocusState], end_us: int) -> int:
    """Begin of the earliest window that judging the window with this end needs."""
    anchors = [end_us, *(state.fired_us for state in states.values() if state.firing)]
    earliest = min(anchors) - rule.window_us - rule.against_us
    return max(FIRST_MONDAY_US, FIRST_MONDAY_US + (earliest - FIRST_MONDAY_US) // rule.window_us * rule.window_us)


@dataclass(frozen=True, slots=True)
class Observation:
    """A part in the window that has closed. ``adjusted``: its chance with all parts of the rule taken into account."""

    part: str
    customers: int
    readings: int
    found: Comparison
    adjusted: float


def observe(rule: FocusRule, windows: pl.DataFrame, end_us: int, states: Mapping[str, FocusState]) -> list[Observation]:
    """All parts with enough customers and enough past, by name.

    ``windows``: `focus_measure.WINDOWS`, from `reads_from_us` on; what is later than ``end_us`` is not looked at.
    """
    start_us = end_us - rule.window_us
    seen: list[tuple[str, int, int, Comparison]] = []
    for (part,), rows in windows.sort("part", "start_us").group_by("part", maintain_order=True):
        now = rows.filter(pl.col("start_us") == start_us)
        if not now.height or now["customers"][0] < max(LEAST_CUSTOMERS, rule.customers_at_least):
            continue
        state = states.get(subject_of(rule, str(part)))
        until_us = state.fired_us - rule.window_us if state is not None and state.firing else start_us
        past = _past(rule, rows, start_us, until_us)
        if past.height < LEAST_WINDOWS:
            continue
        this = measured(now, rule.measure)
        customers = int(now["customers"][0])
        found = compare(
            float(this.value[0]),
            float(this.variance[0]),
            customers,
            measured(past, rule.measure),
            high_is_bad=rule.measure == "haphazardness",
        )
        seen.append((str(part), customers, int(now["readings"][0]), found))
    if not seen:
        return []
    adjusted = false_discovery_control([found.chance for *_, found in seen])
    return [Observation(*one, float(chance)) for one, chance in zip(seen, np.atleast_1d(adjusted), strict=True)]


def _past(rule: FocusRule, rows: pl.DataFrame, start_us: int, until_us: int) -> pl.DataFrame:
    """The windows before ``until_us``, alike in weekday or hour to the one at ``start_us`` if there are enough."""
    at, enough = pl.col("start_us"), pl.col("customers") >= max(LEAST_CUSTOMERS, rule.customers_at_least / 2)
    past = rows.filter(at >= until_us - rule.against_us, at < until_us, enough)
    for period_us in (WEEK_US, DAY_US):
        alike = past.filter((start_us - at) % period_us == 0)
        if period_us > rule.window_us and alike.height >= LIKE_WINDOWS:
            return alike
    return past


def judge(
    rule: FocusRule, windows: pl.DataFrame, end_us: int, states: Mapping[str, FocusState], rules_version: str
) -> list[Alert]:
    """Turns of alerts when the window with this end has closed, by subject; ``customer_id`` is empty.

    ``windows``: as for `observe`; ``states``: by subject, as of the window before. Judged again it gives the same
    alerts with the same ids.
    """
    turns = []
    for seen in observe(rule, windows, end_us, states):
        subject = subject_of(rule, seen.part)
        state = states.get(subject)
        if state is not None and state.firing:
            if end_us > state.fired_us and _over(rule, seen, end_us, state):
                turns.append(_turn(rule, seen, end_us, rules_version, Turn.RESOLVED, state.alert_id, state.fired_us))
        elif _bad(rule, seen) and not (state is not None and end_us < state.resolved_us + rule.cooldown_us):
            alert_id = stable_id("focus", rule.name, subject, str(end_us))
            turns.append(_turn(rule, seen, end_us, rules_version, Turn.FIRING, alert_id, end_us))
    return turns


def subject_of(rule: FocusRule, part: str) -> str:
    """``touchpoint=checkout``."""
    return f"{rule.by}={part}"


def _worse_by(rule: FocusRule, seen: Observation) -> float:
    difference = seen.found.difference
    return difference if rule.measure == "haphazardness" else -difference


def _bad(rule: FocusRule, seen: Observation) -> bool:
    return seen.adjusted <= rule.false_alarms and _worse_by(rule, seen) >= rule.change_at_least


def _over(rule: FocusRule, seen: Observation, end_us: int, state: FocusState) -> bool:
    better = seen.found.chance > LEAVE_CHANCE or _worse_by(rule, seen) < rule.change_at_least / 2.0
    return better or _usual_by_now(rule, end_us, state)


def _usual_by_now(rule: FocusRule, end_us: int, state: FocusState) -> bool:
    return end_us - state.fired_us >= rule.against_us


def _turn(
    rule: FocusRule,
    seen: Observation,
    end_us: int,
    rules_version: str,
    turn: Turn,
    alert_id: str,
    fired_us: int,
) -> Alert:
    firing = turn == Turn.FIRING
    return Alert(
        alert_id=alert_id,
        turn=turn,
        rule=rule.name,
        rules_version=rules_version,
        customer_id="",
        subject=subject_of(rule, seen.part),
        at_us=end_us,
        fired_us=fired_us,
        severity=rule.severity,
        owner=rule.owner,
        due_us=fired_us + rule.answer_within_us if rule.answer_within_us else 0,
        summary=_summary(rule, seen, end_us, fired_us, firing=firing),
        facts={
            rule.by: seen.part,
            "measure": rule.measure,
            "value": seen.found.value,
            "usual": seen.found.usual,
            "change": seen.found.difference,
            "chance": seen.found.chance,
            "chance_adjusted": seen.adjusted,
            "customers": float(seen.customers),
            "readings": float(seen.readings),
            "past_windows": float(seen.found.windows),
            "window_start": _iso(end_us - rule.window_us),
            "window_end": _iso(end_us),
        },
        reasons=(),
        signal_id="",
        log_partition=0,
        log_offset=_NOWHERE,
    )


def _summary(rule: FocusRule, seen: Observation, end_us: int, fired_us: int, *, firing: bool) -> str:
    value, usual = (_in_points(rule, x) for x in (seen.found.value, seen.found.usual))
    felt = "customer" if seen.customers == 1 else "customers"
    behind = f"{seen.customers:,} {felt} {_when(rule, end_us)}"
    what = f"{rule.by.capitalize()} {seen.part}"
    if firing:
        how = "is felt worse than usual" if rule.measure == "felt" else "is felt more haphazardly than usual"
    elif end_us - fired_us >= rule.against_us:
        how = f"has been so for {_length(rule.against_us)}, which counts as usual from now on"
    else:
        how = "is felt as usual again"
    scale = "points of 100" if rule.measure == "felt" else "points of spread"
    return f"{what} {how}: {value:.0f} {scale} against {usual:.0f}; {behind}"


def _in_points(rule: FocusRule, value: float) -> float:
    return POINTS + POINTS * value if rule.measure == "felt" else POINTS * value


def _when(rule: FocusRule, end_us: int) -> str:
    if rule.window_us == DAY_US:
        return f"on {_iso(end_us - DAY_US)[:10]}"
    return f"in the {_length(rule.window_us)} until {_iso(end_us)}"


def _length(length_us: int) -> str:
    for unit_us, name in ((DAY_US, "day"), (HOUR_US, "hour"), (60_000_000, "minute")):
        if length_us % unit_us == 0:
            count = length_us // unit_us
            return f"{count} {name}" + "s" * (count != 1)
    return f"{length_us / 1e6:g} seconds"


def _iso(at_us: int) -> str:
    return datetime.fromtimestamp(at_us // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
