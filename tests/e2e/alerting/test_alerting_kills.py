"""Killed, replayed and relieved: each alert that the signals imply is told once, with one id and one body."""

from __future__ import annotations

import random
import threading
import time
from typing import Any

import pytest

from infra.clickhouse.client import ClickHouse
from schemas.topics import ALERTING_GROUP, LOYALTY_SIGNALS
from services.alerting.rules.model import RuleSet
from tests.e2e.alerting.desk import Desk, rule, signal

pytestmark = pytest.mark.stack

LEVELS = (0.2, 0.4, 0.6, 0.8)
"""Risk at which a rule of its own fires; none resolves, so that each alert has a call of its own."""


def rising_rules(desk: Desk, prefix: str) -> RuleSet:
    return desk.rules(
        *(rule(f"{prefix}-{round(100 * level)}", f"risk >= {level}", until="risk < 0.01") for level in LEVELS)
    )


def rising(prefix: str, customers: int) -> list[tuple[str, bytes]]:
    """Signals of customers who get worse step by step."""
    now_us = time.time_ns() // 1000
    return [
        (f"{prefix}-{number}", signal(f"{prefix}-{number}", step, now_us + step, risk=level + 0.05))
        for step, level in enumerate(LEVELS)
        for number in range(customers)
    ]


def kept(tables: ClickHouse, prefix: str) -> list[tuple[Any, ...]]:
    return tables.query(
        "SELECT alert_id, toString(turn), toString(fate) FROM touchstone.alert_log FINAL "
        f"WHERE startsWith(rule, '{prefix}-') ORDER BY alert_id"
    )


def calls_made(tables: ClickHouse) -> list[tuple[Any, ...]]:
    return tables.query("SELECT call_id, alert_ids, document FROM touchstone.alert_calls ORDER BY call_id")


def delivered(tables: ClickHouse, prefix: str) -> int:
    """Calls whose delivery is recorded."""
    rows = tables.query(
        "SELECT uniqExact(call_id) FROM touchstone.alert_attempts WHERE outcome = 'delivered' AND call_id IN "
        f"(SELECT call_id FROM touchstone.alert_calls WHERE startsWith(rule, '{prefix}-'))"
    )
    return int(rows[0][0])


def check_against_fold(desk: Desk, tables: ClickHouse, rules: RuleSet, prefix: str) -> None:
    """Delivered is what a fresh fold implies; each alert is in one call and has one fate."""
    expected = sorted(alert.alert_id for alert in desk.fold(rules, prefix).alerts)
    desk.machine.until(lambda: len(desk.inbox.told()) >= len(expected), "all alerts are told")
    desk.machine.until(
        lambda: kept(tables, prefix) == [(alert_id, "firing", "called") for alert_id in expected],
        "each alert has one fate",
    )
    assert sorted(desk.inbox.told()) == expected
    assert all(len(bodies) == 1 for bodies in desk.inbox.bodies.values())
    assert not desk.inbox.refusals


def test_killed_at_random_it_tells_what_a_fresh_fold_implies(desk: Desk, tables: ClickHouse) -> None:
    chance = random.Random()
    rules = rising_rules(desk, "killed")
    records = rising("killed", 150)

    def trickle() -> None:
        for start in range(0, len(records), 100):
            desk.send(records[start : start + 100])
            if ended.wait(0.3):
                return

    ended = threading.Event()
    sending = threading.Thread(target=trickle, daemon=True)
    sending.start()
    for _ in range(4):
        part = desk.start()
        more = desk.inbox.seen + chance.randrange(60)
        desk.machine.until(
            lambda part=part, more=more: desk.reads(part) and desk.inbox.seen >= more,  # type: ignore[misc]
            "it has told some",
        )
        if chance.random() < 0.5:
            ended.wait(chance.random() / 4)  # mostly in between two calls, or in an office that opens
        desk.kill(part)
        desk.forget_members()
        if len(desk.inbox.told()) > len(records) - 80:
            break
    sending.join()
    desk.start()
    check_against_fold(desk, tables, rules, "killed")


def test_a_replay_of_all_signals_calls_nobody(desk: Desk, tables: ClickHouse) -> None:
    rules = rising_rules(desk, "replayed")
    part = desk.start()
    desk.send(rising("replayed", 40))
    check_against_fold(desk, tables, rules, "replayed")
    desk.until_read()
    desk.end(part)
    seen, made = desk.inbox.seen, calls_made(tables)
    desk.reset(ALERTING_GROUP, LOYALTY_SIGNALS)
    assert desk.lag() > 0
    part = desk.start()
    desk.until_read()
    desk.end(part)
    assert (desk.inbox.seen, calls_made(tables)) == (seen, made)


def test_one_stands_by_and_goes_on_where_the_other_was_killed(desk: Desk, tables: ClickHouse) -> None:
    rules = rising_rules(desk, "relieved")
    first = desk.start()
    desk.machine.until(lambda: desk.reads(first), "the first reads")
    second = desk.start()
    desk.machine.until(lambda: desk.metric(second, "reads") == 0, "the second is there")
    records = rising("relieved", 40)
    desk.send(records[:80])
    desk.machine.until(lambda: delivered(tables, "relieved") == 80, "the first half is told, and that is recorded")
    assert desk.reads(first)
    assert not desk.reads(second)
    desk.kill(first)
    desk.send(records[80:])
    desk.machine.until(lambda: desk.reads(second), "the second goes on")
    check_against_fold(desk, tables, rules, "relieved")
    assert desk.inbox.seen == len(records), "nothing was under way when the first was killed: nothing comes twice"
