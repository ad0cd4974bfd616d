"""From an event to a call and back: complaints that wait, silence, and the notice when all is well again."""

from __future__ import annotations

import time
import uuid
from typing import Any

import pytest

from infra.clickhouse.client import ClickHouse
from schemas.encode import encode
from schemas.topics import CONSUMER_GROUP, TOUCHPOINTS
from tests.e2e.alerting.desk import Desk, rule, signal
from tests.e2e.scoring.load import HOUR_US, Sent, produce
from tests.e2e.scoring.parts import NO_REVIEWS

pytestmark = pytest.mark.stack


def event(customer: str, kind: str, hours_ago: float, now_us: int, **more: Any) -> Sent:
    """An event of then that comes in now."""
    at_us = now_us - round(hours_ago * HOUR_US)
    said = {
        "event_id": uuid.uuid5(uuid.NAMESPACE_OID, f"{customer} {kind} {at_us}").bytes,
        "customer_id": customer,
        "occurred_at": at_us,
        "received_at": now_us,
        "source": "shop",
        "kind": kind,
        "touchpoint": "checkout",
    }
    return Sent(now_us, customer, encode(said | more), now_us // 1000)


def cases(tables: ClickHouse, customer: str) -> list[tuple[Any, ...]]:
    return tables.query(
        "SELECT toString(rule), state, resolved_at > opened_at FROM touchstone.cases "
        f"WHERE customer_id = '{customer}' ORDER BY rule"
    )


def reviews(tables: ClickHouse, customer: str) -> int:
    rows = tables.query(
        f"SELECT count() FROM touchstone.touchpoints FINAL WHERE kind = 'review_due' AND customer_id = '{customer}'"
    )
    return int(rows[0][0])


def test_a_crossing_is_called_and_its_recovery_told(desk: Desk, tables: ClickHouse) -> None:
    desk.rules(rule("crossing", "band = 'high'", until="band = 'low'", answer_within="24h", severity="critical"))
    part = desk.start()
    now_us = time.time_ns() // 1000
    desk.send([("crossing-ann", signal("crossing-ann", 1, now_us, risk=0.8))])
    desk.machine.until(lambda: len(desk.inbox.about("crossing-")) == 1, "the call is there")
    document = desk.inbox.about("crossing-")[0].document
    assert (document["status"], document["severity"], document["owner"]) == ("firing", "critical", "retention")
    told = document["alerts"][0]
    assert (told["customer_id"], told["risk"], told["band"]) == ("crossing-ann", 0.8, "high")
    assert told["reasons"] == [{"reason": "A complaint waits.", "log_odds": 1.5}]
    desk.machine.until(lambda: cases(tables, "crossing-ann") == [("crossing", "open", False)], "a case is open")

    desk.send([("crossing-ann", signal("crossing-ann", 2, now_us + 5_000_000, risk=0.1, band="low"))])
    desk.machine.until(lambda: len(desk.inbox.about("crossing-")) == 2, "the notice is there")
    call, notice = desk.inbox.about("crossing-")
    assert notice.document["status"] == "resolved"
    assert notice.document["about"] == call.id
    desk.machine.until(lambda: cases(tables, "crossing-ann") == [("crossing", "open", True)], "the case says so")
    assert not desk.inbox.refusals
    desk.end(part)


def test_time_alone_fires_rules_once_and_a_redelivery_by_scoring_calls_nobody(desk: Desk, tables: ClickHouse) -> None:
    def of(segment: str) -> str:
        return f"segment = '{segment}' AND "

    desk.rules(
        rule("waits", of("w") + "complaint_hours >= 4"),
        rule("silent", of("s") + "silence_days > 2 * usual_gap_days"),
        rule("holds", of("h") + "complaint_hours >= 4", for_="3s"),
    )
    now_us = time.time_ns() // 1000
    events = [
        event(who, "interaction", 30 * 24, now_us, attributes={"segment": who[-1]})
        for who in ("time-w", "time-s", "time-h")
    ]
    events += [event(who, "complaint_opened", 5, now_us, case_id="1") for who in ("time-w", "time-h")]
    bought = {"amount_micros": 20_000_000, "currency": "EUR"}
    events += [event("time-s", "purchase", days * 24.0, now_us, **bought) for days in (64, 57, 50, 43, 36)]
    produce(desk.machine.bootstrap, events)
    worker = desk.machine.start_worker(**NO_REVIEWS)
    part = desk.start(sweep_s=0.5)
    everybody = {"time-w", "time-s", "time-h"}
    desk.machine.until(lambda: desk.inbox.customers(prefix="time-") == everybody, "time has made all rules fire")
    # Asked for at least two more times, nobody is due: each has been told once.
    swept = desk.metric(part, "reviews_total")
    desk.machine.until_quiet()
    told_of = desk.inbox.told(prefix="time-")
    assert len(told_of) == len(set(told_of)) == 3

    # Somebody answers one of them: that resolves by the sweep too.
    later_us = time.time_ns() // 1000
    produce(desk.machine.bootstrap, [event("time-w", "complaint_resolved", 0, later_us, case_id="1")])
    desk.machine.until(lambda: desk.inbox.customers("resolved", "time-") == {"time-w"}, "the answer is told")
    assert desk.metric(part, "reviews_total") > swept
    desk.machine.until_quiet()
    assert {who: reviews(tables, who) for who in everybody} == {"time-w": 2, "time-s": 1, "time-h": 2}

    # Everything is read again by scoring: signals come again or not, nobody is called.
    seen, told = desk.inbox.seen, len(desk.inbox.calls)
    desk.machine.workers.remove(worker)
    assert worker.end() == 0
    desk.reset(CONSUMER_GROUP, TOUCHPOINTS)
    desk.machine.start_worker(**NO_REVIEWS)
    desk.machine.until_quiet()
    desk.until_read()
    assert (desk.inbox.seen, len(desk.inbox.calls)) == (seen, told)
    desk.end(part)
