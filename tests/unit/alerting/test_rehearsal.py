"""Rules rehearsed over signals made by hand."""

from __future__ import annotations

from typing import Any

import polars as pl

from services.alerting.backtest import DAY_US
from services.alerting.decide import REASON, SIGNALS
from services.alerting.rehearsal import Rehearsal
from services.alerting.rules.model import RuleSet
from services.alerting.rules.read import read_rules

HOUR_US = DAY_US // 24


def ruleset(more: str = "", when: str = "risk > 0.8") -> RuleSet:
    return read_rules(
        f"""
version: 1
receivers: [{{name: desk, type: file, path: calls.jsonl}}]
rules:
  - {{name: risky, when: "{when}", owner: retention, receivers: [desk], cooldown: 0s{more}}}
"""
    ).rules


def seen(risks: dict[str, float], day: int) -> pl.DataFrame:
    """A signal of each customer at a day, with its risk."""
    given: dict[str, Any] = {
        "customer_id": list(risks),
        "risk": list(risks.values()),
        "value_at_risk": [100.0 * risk for risk in risks.values()],
    }
    rest: dict[str, Any] = {"judged_at": day * DAY_US, "log_partition": 0, "log_offset": day}
    frame = pl.DataFrame(given, schema_overrides={"customer_id": pl.String, "risk": pl.Float64})
    return frame.select(
        (
            pl.col(name)
            if name in given
            else pl.lit([], dtype=pl.List(REASON))
            if name == "reasons"
            else pl.lit(rest.get(name, "" if type_ == pl.String else 0.0))
        )
        .cast(type_)
        .alias(name)
        for name, type_ in SIGNALS.items()
    )


def rehearsed(rules: RuleSet, *days: dict[str, float]) -> Rehearsal:
    rehearsal = Rehearsal(rules)
    for day, risks in enumerate(days, start=10):
        rehearsal.step(seen(risks, day), (day + 1) * DAY_US)
    return rehearsal


def test_each_is_called_once_until_it_has_resolved() -> None:
    days = [{"a": 0.9, "b": 0.1}, {"a": 0.95, "b": 0.9}, {"a": 0.2, "b": 0.9}, {"a": 0.9, "b": 0.9}]
    rehearsal = rehearsed(ruleset(), *days)
    alerts = rehearsal.alerts()
    assert list(alerts.select("customer_id", "step", "fate").iter_rows()) == [
        ("a", 0, "called"),
        ("b", 1, "called"),
        ("a", 3, "called"),
    ]
    assert alerts["fired_us"].to_list() == [10 * DAY_US, 11 * DAY_US, 13 * DAY_US]
    assert (alerts["called_us"] - alerts["fired_us"]).to_list() == [1_000_000] * 3, "the first waits for company"
    assert alerts["risk"].to_list() == [0.9, 0.9, 0.9]
    assert rehearsal.calls()["alerts"].to_list() == [1, 1, 1]


def test_many_at_once_share_a_call() -> None:
    rehearsal = rehearsed(ruleset(), {f"c{n}": 0.9 for n in range(500)})
    assert rehearsal.calls()["alerts"].to_list() == [500]
    assert rehearsal.alerts()["called_us"].null_count() == 0


def test_quiet_hours_put_calls_off() -> None:
    quiet = ', quiet_hours: {from: "20:00", to: "08:00"}'
    alerts = rehearsed(ruleset(quiet), {"a": 0.9}, {"a": 0.1}).alerts()
    assert alerts["called_us"].to_list() == [10 * DAY_US + 8 * HOUR_US]


def test_who_is_well_before_the_call_is_not_called() -> None:
    rehearsal = Rehearsal(ruleset(', quiet_hours: {from: "00:00", to: "23:59"}'))
    rehearsal.step(seen({"a": 0.9}, 10), 10 * DAY_US + HOUR_US)
    well = seen({"a": 0.1}, 11).with_columns(judged_at=pl.lit(10 * DAY_US + 2 * HOUR_US))
    rehearsal.step(well, 11 * DAY_US)
    assert rehearsal.alerts()["fate"].to_list() == ["untold"]
    assert rehearsal.alerts()["called_us"].to_list() == [None]


def test_what_is_held_back_to_the_end_waits() -> None:
    rehearsal = Rehearsal(ruleset(', quiet_hours: {from: "00:00", to: "23:59"}'))
    rehearsal.step(seen({"a": 0.9}, 10), 10 * DAY_US + HOUR_US)
    assert rehearsal.alerts()["fate"].to_list() == ["waiting"]


def test_beyond_the_budget_nobody_is_called() -> None:
    budget = ", budget: {per_hour: 2, per_day: 2}, group: {above: 1000}"
    rehearsal = Rehearsal(ruleset(budget))
    for hour, risks in enumerate([{"a": 0.9}, {"b": 0.9}, {"c": 0.9}]):
        frame = seen(risks, 10).with_columns(judged_at=10 * DAY_US + hour * HOUR_US, log_offset=pl.lit(hour, pl.Int64))
        rehearsal.step(frame, 10 * DAY_US + (hour + 1) * HOUR_US)
    assert rehearsal.alerts()["fate"].to_list() == ["called", "called", "over_budget"]
    assert rehearsal.calls().height == 2


def test_held_out_alerts_are_recorded() -> None:
    alerts = rehearsed(ruleset(", hold_out: 0.5, group: {above: 1000}"), {f"c{n}": 0.9 for n in range(200)}).alerts()
    held = alerts.filter(pl.col("fate") == "held_out")
    assert 60 < held.height < 140
    assert held["called_us"].null_count() == held.height


def test_customers_whom_no_rule_concerns_cost_nothing() -> None:
    rehearsal = rehearsed(ruleset(when="segment = 'gold'"), {"a": 0.9}, {"a": 0.9})
    assert rehearsal.alerts().is_empty()
    assert rehearsal.calls().is_empty()


def test_the_same_signals_give_the_same_alerts() -> None:
    days = [{f"c{n}": (n * 7 + day * 3) % 10 / 10 for n in range(50)} for day in range(6)]
    assert rehearsed(ruleset(), *days).alerts().equals(rehearsed(ruleset(), *days).alerts())
