"""The views of alerting against figures worked out by hand."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest

from infra.clickhouse.client import ClickHouse
from schemas.case import CaseStep, Step, encode_case_step
from services.scoring.risk.model import DEFAULT
from tests.fakes.stream import FakeTables, make_core
from tests.integration.alerting.case_rows import (
    NEVER,
    NOW,
    happened,
    put_alerts,
    put_attempts,
    put_call,
    put_events,
    put_rule,
    put_states,
)

pytestmark = pytest.mark.stack

A, B, C = "a" * 32, "b" * 32, "c" * 32


def us(days: float) -> int:
    return round((NOW - timedelta(days=days)).timestamp() * 1e6)


def test_every_column_says_what_it_is(clickhouse: ClickHouse) -> None:
    views = "('alerts', 'alert_deliveries', 'cases', 'alert_economics', 'survey_permission')"
    where = f"database = 'touchstone' AND table IN {views}"
    assert clickhouse.query(f"SELECT uniqExact(table) FROM system.columns WHERE {where}") == [(5,)]
    assert clickhouse.query(f"SELECT table, name FROM system.columns WHERE {where} AND comment = ''") == []


def test_alerts_and_deliveries(clickhouse: ClickHouse) -> None:
    put_alerts(
        clickhouse,
        {"alert_id": A, "fate": "waiting"},
        {"alert_id": A, "version": 2},
        {"alert_id": A, "turn": "resolved", "at": NOW, "fate": "waiting"},
        {"alert_id": B, "fate": "held_out"},
        {"alert_id": C, "customer_id": "", "subject": "touchpoint=checkout"},
    )
    put_call(clickhouse, "one", [A, C])
    put_call(clickhouse, "two", [A], "pager")
    put_call(clickhouse, "three", [A], "mail")
    put_call(clickhouse, "four", [A], "chat", not_before=NOW + timedelta(hours=5))
    put_call(clickhouse, "five", [A], turn="resolved", about="one")
    put_attempts(clickhouse, "one", ("failed", 503, "down"), ("delivered", 204, ""))
    put_attempts(clickhouse, "two", ("failed", 500, "broken"), receiver="pager")
    put_attempts(clickhouse, "three", ("failed", 0, "refused"), ("dead", 410, "gone: remove it"), receiver="mail")
    rows = clickhouse.query(
        "SELECT alert_id, fate, resolved_fate, resolved_at, calls, delivered, delivered_at FROM touchstone.alerts"
        " ORDER BY alert_id"
    )
    received = NOW - timedelta(days=2) + timedelta(minutes=2)
    assert rows == [
        (A, "called", "waiting", NOW, 4, 1, received),
        (B, "held_out", "", NEVER, 0, 0, NEVER),
        (C, "called", "", NEVER, 1, 1, received),
    ]
    rows = clickhouse.query(
        "SELECT call_id, alerts, state, attempts, last_status, last_detail, delivered_at, next_at"
        " FROM touchstone.alert_deliveries WHERE turn = 'firing' ORDER BY receiver"
    )
    assert rows == [
        ("four", 1, "waiting", 0, 0, "", NEVER, NOW + timedelta(hours=5)),
        ("one", 2, "delivered", 2, 204, "", received, NEVER),
        ("three", 1, "dead", 2, 410, "gone: remove it", NEVER, NEVER),
        ("two", 1, "failing", 1, 500, "broken", NEVER, NOW + timedelta(minutes=1)),
    ]


def test_cases_and_their_steps(clickhouse: ClickHouse) -> None:
    put_alerts(
        clickhouse,
        {"alert_id": A},
        {"alert_id": B, "customer_id": "bob", "due_at": NEVER},
        {"alert_id": C, "customer_id": "cy", "due_at": NOW + timedelta(days=1)},
        {"alert_id": "d" * 32, "fate": "held_out"},
        {"alert_id": "e" * 32, "customer_id": "", "subject": "channel=web"},
    )
    steps = [
        CaseStep("bob", B, Step.ASSIGNED, "kim", owner="lee", number=0, at_us=us(1.9)),
        CaseStep("bob", B, Step.ACKNOWLEDGED, "lee", note="calling", at_us=us(1.8)),
        CaseStep("cy", C, Step.ASSIGNED, "kim", owner="lee", number=0, at_us=us(1.7)),
        CaseStep("cy", C, Step.ASSIGNED, "lee", owner="kim", number=1, at_us=us(1.6)),
        CaseStep("cy", C, Step.NOTE, "kim", note="no answer", at_us=us(1.5)),
        CaseStep("cy", C, Step.CLOSED, "kim", outcome="failed", at_us=us(1)),
    ]
    put_events(clickhouse, [encode_case_step(step) for step in steps])
    rows = clickhouse.query(
        "SELECT case_id, owner, state, overdue, acknowledged_by, closed_by, outcome, notes, assignments"
        " FROM touchstone.cases ORDER BY case_id"
    )
    assert rows == [
        (A, "retention", "open", True, "", "", "", 0, 0),
        (B, "lee", "acknowledged", False, "lee", "", "", 1, 1),
        (C, "kim", "closed", False, "", "kim", "failed", 1, 2),
    ]
    times = clickhouse.query("SELECT acknowledged_at, closed_at FROM touchstone.cases ORDER BY case_id")
    assert times[0] == (NEVER, NEVER)
    assert times[2] == (NEVER, NOW - timedelta(days=1))
    kinds = clickhouse.query("SELECT DISTINCT kind FROM touchstone.customer_timeline WHERE customer_id = 'cy'")
    assert kinds == [("case_step",)]
    assert clickhouse.query("SELECT count() FROM touchstone.felt_touchpoints") == [(0,)]


def test_economics(clickhouse: ClickHouse) -> None:
    put_rule(clickhouse, 4.5, 0.5)
    long_ago = NOW - timedelta(days=200)
    numbers = range(25)
    put_alerts(
        clickhouse,
        *({"alert_id": f"called-{n}", "customer_id": f"c{n}", "fired_at": long_ago} for n in numbers),
        *({"alert_id": f"held-{n}", "customer_id": f"h{n}", "fired_at": long_ago, "fate": "held_out"} for n in numbers),
        {"alert_id": "young", "customer_id": "y"},
        {"alert_id": "more", "customer_id": "m", "fate": "over_budget"},
        {"alert_id": "company", "customer_id": "", "subject": "channel=web"},
    )
    put_call(clickhouse, "one", ["called-0", "called-1", "young"])
    put_attempts(clickhouse, "one", ("delivered", 204, ""))
    paid = {"amount_micros": 10_000_000, "currency": "EUR"}
    soon, early, late = (long_ago + timedelta(days=days) for days in (1, -1, 150))
    put_events(
        clickhouse,
        [
            *(happened(f"c{n}", f"c{n}", soon, "purchase", **paid) for n in range(10)),
            happened("back", "c0", soon, "refund", **{**paid, "amount_micros": 4_000_000}),
            *(happened(f"h{n}", f"h{n}", soon, "purchase", **paid) for n in range(5)),
            happened("before", "h9", early, "purchase", **paid),
            happened("after", "c20", late, "purchase", **paid),
            happened("felt", "c21", soon, "interaction", outcome="failed"),
        ],
    )
    horizon = DEFAULT.horizon_days
    clickhouse.query("TRUNCATE TABLE touchstone.models")
    rows = clickhouse.query("SELECT * FROM touchstone.alert_economics")
    assert rows == [
        ("leaving", 52, 26, 25, 1, 3, 360.0, 13.5, 13.5 / 360, 36.0, 30.0, 25, 25, 10, 5, 96.0, 50.0, 96.0 - 50.0)
    ]
    assert horizon > 0


def test_survey_permission(clickhouse: ClickHouse) -> None:
    asked = happened("s", "asked", NOW - timedelta(days=3), "survey_sent")
    old = happened("o", "old", NOW - timedelta(days=30), "survey_sent")
    unhappy = happened("u", "unhappy", NOW - timedelta(days=20), "survey_response", metric="nps", rating=1.0)
    opened = happened("p", "both", NOW - timedelta(days=20), "complaint_opened", case_id="1")
    answered = happened("f", "both", NOW - timedelta(days=19), "follow_up")
    healed = happened("g", "unhappy2", NOW - timedelta(days=20), "survey_response", metric="nps", rating=1.0)
    followed = happened("h", "unhappy2", NOW - timedelta(days=19), "follow_up")
    outreach = happened("i", "both", NOW - timedelta(days=2), "outreach")
    records: list[bytes | None] = [asked, old, unhappy, opened, answered, healed, followed, outreach]
    core = make_core(FakeTables())
    core.take(0, np.arange(len(records)), records, [0] * len(records), ())
    customers = ["asked", "old", "unhappy", "both", "unhappy2"]
    put_states(clickhouse, core.snapshot(core.cache.find(customers)))
    put_events(clickhouse, [record for record in records if record])
    rows = clickhouse.query(
        "SELECT customer_id, allowed, reasons, ask_again_at FROM touchstone.survey_permission ORDER BY customer_id"
    )
    assert rows == [
        ("asked", False, ["asked_lately"], NOW + timedelta(days=11)),
        ("both", False, ["complaint_open", "asked_lately"], NEVER),
        ("old", True, [], NEVER),
        ("unhappy", False, ["feedback_unanswered"], NEVER),
        ("unhappy2", True, [], NEVER),
    ]
