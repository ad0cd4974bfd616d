"""A rehearsal in words: for a person, and as a document for a script."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

import polars as pl

from services.alerting.backtest import DAY_US, Counted, Quartiles, Result, Share, Span
from services.alerting.rules.durations import duration_text
from services.alerting.rules.model import Rule, RuleSet
from services.cli.console import paint, print_table, say
from services.cli.learning.told import moment
from services.cli.visible import visible
from services.scoring.risk.model import RiskModel

SEGMENTS_SHOWN: Final = 5
_WIDTH: Final = 10


@dataclass(frozen=True, slots=True)
class Told:
    """What was rehearsed and found. ``learnt_until_us``: the model knows what happened before that."""

    results: tuple[Result, ...]
    rules: RuleSet
    span: Span
    every_us: int
    recorded: bool
    model: RiskModel
    learnt_until_us: int | None

    @property
    def notes(self) -> tuple[str, ...]:
        """What must be known to read the numbers."""
        span, horizon = self.span, f"{self.model.horizon_days:g} days"
        found = []
        if self.learnt_until_us is not None and self.learnt_until_us > span.since_us:
            found.append(
                f"model {self.model.version} has learnt from what happened until {moment(self.learnt_until_us)}: the "
                f"figures flatter it. For a fair look learn one from what came before: `touchstone fit --asof "
                f"{moment(span.since_us)[:10]} --version before`, then --model before"
            )
        if self.recorded:
            found.append("signals are those that were recorded, judged by the models and from the events of their time")
        else:
            found.append(
                f"everybody was judged at {len(span.steps_us):,} moments, every {duration_text(self.every_us)}, and "
                "each event counts from when it happened: live, a rule fires up to a step earlier, calls of one step "
                "come one by one, and what comes and goes within a step is seen"
            )
        if span.until_us + span.horizon_us > span.end_us:
            fate = moment(max(span.end_us - span.horizon_us, 0))[:10]
            found.append(
                f"history ends on {moment(span.end_us)[:10]}: whether who was called after {fate} left within "
                f"{horizon} is not known yet"
            )
        return tuple(found)


def document(told: Told, alerts: pl.DataFrame, limit: int) -> dict[str, Any]:
    """For a script: all numbers, and the first alerts of each rule."""
    span = told.span
    return {
        "since": moment(span.since_us),
        "until": moment(span.until_us),
        "known_until": moment(span.end_us),
        "steps": len(span.steps_us),
        "every": duration_text(told.every_us),
        "signals": "recorded" if told.recorded else "judged again",
        "model": told.model.version,
        "model_learnt_until": None if told.learnt_until_us is None else moment(told.learnt_until_us),
        "horizon_days": told.model.horizon_days,
        "coming_back": list(told.model.activity_kinds),
        "rules_version": told.rules.rules_version,
        "notes": list(told.notes),
        "rules": [
            {**asdict(result), "called": _rows(alerts, result.rule).head(limit).to_dicts()} for result in told.results
        ],
    }


def _rows(alerts: pl.DataFrame, rule: str) -> pl.DataFrame:
    """Of those that were called, the costliest first."""
    return (
        alerts.filter(pl.col("rule") == rule, pl.col("called_us").is_not_null())
        .sort("value_at_risk", "called_us", "customer_id", descending=[True, False, False], nulls_last=True)
        .drop("rule", "fate")
    )


def print_told(told: Told, alerts: pl.DataFrame, limit: int) -> None:
    """For a person, on stdout; notes on stderr."""
    span, model = told.span, told.model
    _line("span", f"{moment(span.since_us)} to {moment(span.until_us)}")
    kinds = " or ".join(model.activity_kinds)
    _line("leaving", f"no {kinds} within {model.horizon_days:g} days; judged by {model.version}")
    for rule, result in zip(told.rules.rules, told.results, strict=True):
        print()
        _print_rule(rule, result, len(span.steps_us))
        shown = _rows(alerts.filter(pl.col("step") > 0), result.rule).head(limit)
        if shown.height:
            print()
            print_table(
                ["customer", "called", "risk", "value at risk", "segment", "outcome", "days ahead"],
                [_cells(row) for row in shown.iter_rows(named=True)],
            )
    for note in told.notes:
        say(f"note: {note}")


def _print_rule(rule: Rule, result: Result, steps: int) -> None:
    print(f"{paint(rule.name, 'cyan')}: {rule.when.text}")
    if not result.fired:
        _line("calls", f"nobody: the condition held for no customer at any of {steps:,} steps long enough to fire")
        _line("base rate", _base(result))
        return
    now, first = result.running, result.first_step
    more = [
        (result.over_budget, "over budget"),
        (result.held_out, "held out"),
        (result.not_called, "not called in time"),
    ]
    besides = "".join(f"; {count:,} {what}" for count, what in more if count)
    _line("calls", f"{now.called:,} about {now.customers:,} customers, {result.customers_per_week:.3g} a week{besides}")
    if first.called:
        share = f", {_percent(first.precision)} of whom left" if first.precision.of else ""
        _line("", f"besides {first.called:,} at the first step, for whom it held already{share}; not counted below")
    if now.precision.of:
        _line("precision", f"{_interval(now.precision)} left within the horizon")
        _line(
            "", f"{_percent(now.stayed_share)} would have stayed anyway, {_percent(now.too_late_share)} had gone before"
        )
    else:
        _line("precision", "not known: no call has an outcome yet")
    _line("", _uncounted(now))
    _line("base rate", _base(result))
    if result.recall.of:
        _line("recall", f"{_interval(result.recall)} of {result.recall.of:,} customers who left were called before")
    else:
        _line("recall", "nobody left in the span")
    _line("lead time", _lead(result.lead_days, "before the silence was complete"))
    if result.cancellation_lead_days.count:
        _line("", _lead(result.cancellation_lead_days, "before they cancelled"))
    _line(
        "budget",
        f"{result.calls:,} calls, {result.calls_per_week:.3g} a week; busiest day {result.busiest_day_calls:,} of "
        f"{result.budget_per_day:,}, {result.budget_used:.1%} of it in all",
    )
    _line(
        "",
        f"with a call for each customer {result.budget_one_by_one:.0%}: what fires at one step is told together here",
    )
    named = [segment for segment in result.segments if segment.segment][:SEGMENTS_SHOWN]
    if named:
        told = ", ".join(f"{visible(s.segment, 30)} {s.called:,} ({_percent(s.precision)} left)" for s in named)
        _line("segments", told)


def _base(result: Result) -> str:
    if result.base_rate.value is None:
        return "not known: the horizon has passed for no step"
    text = f"{result.base_rate.value:.1%} of all who had not gone yet leave: what calling everybody would give"
    if result.at_random is not None and result.lift is not None:
        text += f"; as many calls at random {result.at_random:.1%}, so the rule is {result.lift:.2g} times as good"
    return text


def _uncounted(counted: Counted) -> str:
    parts = [f"{counted.precision.of:,} calls are counted"]
    if counted.unknown:
        parts.append(f"the outcome of {counted.unknown:,} is not known yet")
    if counted.never_came:
        parts.append(f"{counted.never_came:,} were about customers who never came, so cannot be lost")
    return "; ".join(parts)


def _lead(days: Quartiles, what: str) -> str:
    if days.median is None or days.low is None or days.high is None:
        return "nobody who was called left"
    return f"{days.median:.3g} days {what} (half between {days.low:.3g} and {days.high:.3g}; {days.count:,} customers)"


def _interval(share: Share) -> str:
    if share.value is None or share.low is None or share.high is None:
        return "-"
    return f"{share.value:.1%} [{share.low:.1%} to {share.high:.1%}]"


def _percent(share: Share) -> str:
    return "-" if share.value is None else f"{share.value:.0%}"


def _cells(row: dict[str, Any]) -> list[str]:
    return [
        visible(row["customer_id"], 40),
        moment(row["called_us"] // (60 * 1_000_000) * 60 * 1_000_000),
        "-" if row["risk"] is None else f"{row['risk']:.3f}",
        "-" if row["value_at_risk"] is None else f"{row['value_at_risk']:.2f}",
        visible(row["segment"], 20),
        str(row["outcome"]).replace("_", " "),
        "" if row["lead_us"] is None else f"{row['lead_us'] / DAY_US:.1f}",
    ]


def _line(name: str, text: str) -> None:
    print(f"  {name.ljust(_WIDTH)} {text}")
