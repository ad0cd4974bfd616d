"""Silence raises the alarm: nobody sends anything, and the band changes all the same."""

from __future__ import annotations

import time
import uuid
from typing import Any, Final

import orjson
import pytest

from infra.clickhouse.client import ClickHouse
from schemas.encode import encode
from schemas.topics import LOYALTY_SIGNALS
from tests.e2e.checker import Expected, check, read_topic
from tests.e2e.scoring.load import DAY_US, Sent, produce
from tests.e2e.scoring.parts import Machine

pytestmark = pytest.mark.stack

LATER: Final = ("silent-later-0", "silent-later-1")
"""Their reviews show that the timer has looked again."""
DAYS_AGO: Final = (100.0, 93.0, 86.0, 79.0, 72.0, 65.0, 58.0, 51.0)


def purchase(customer: str, days_ago: float, now_us: int, *, live: bool) -> Sent:
    """A purchase of that time; taken in then, or only today as history is."""
    at_us = now_us - round(days_ago * DAY_US)
    received_us = at_us + 1_000_000 if live else now_us
    value = encode(
        {
            "event_id": uuid.uuid5(uuid.NAMESPACE_OID, f"{customer} {at_us}").bytes,
            "customer_id": customer,
            "occurred_at": at_us,
            "received_at": received_us,
            "source": "shop",
            "kind": "purchase",
            "touchpoint": "checkout",
            "amount_micros": 20_000_000,
            "currency": "EUR",
        }
    )
    return Sent(at_us, customer, value, received_us // 1000)


def reviews(tables: ClickHouse) -> dict[str, int]:
    rows: list[tuple[Any, ...]] = tables.query(
        "SELECT customer_id, count() FROM touchstone.touchpoints FINAL "
        "WHERE kind = 'review_due' AND startsWith(customer_id, 'silent-') GROUP BY customer_id"
    )
    return {customer: int(count) for customer, count in rows}


def bands(tables: ClickHouse) -> dict[str, str]:
    return dict(
        tables.query(
            "SELECT customer_id, toString(band) FROM touchstone.customer_state FINAL "
            "WHERE startsWith(customer_id, 'silent-')"
        )
    )


def test_customers_who_fall_silent_are_reviewed_once_and_signalled(
    stage: Machine, tables: ClickHouse, expected: Expected
) -> None:
    now_us = time.time_ns() // 1000
    lapsed = {f"silent-live-{number}" for number in range(5)}
    imported = {f"silent-old-{number}" for number in range(5)}
    content = {f"silent-fresh-{number}" for number in range(5)}
    # Once a week; the last came seven weeks ago, or a day.
    history = [purchase(who, ago, now_us, live=who in lapsed) for who in lapsed | imported for ago in DAYS_AGO]
    history += [purchase(who, ago - 50, now_us, live=True) for who in content for ago in DAYS_AGO]
    produce(stage.bootstrap, sorted(history, key=lambda sent: sent.at_us))

    stage.start_worker(TOUCHSTONE_SCORING_REVIEW_INTERVAL_S="0.5")
    stage.until(lambda: reviews(tables).keys() == lapsed | imported, "the silent customers are reviewed")
    stage.until_quiet()
    seen = reviews(tables)
    for customer in LATER:
        produce(stage.bootstrap, [purchase(customer, ago, now_us, live=True) for ago in DAYS_AGO])
        stage.until(lambda who=customer: who in reviews(tables), f"{customer} is reviewed")  # type: ignore[misc]
        stage.until_quiet()
    others = {who: count for who, count in reviews(tables).items() if who not in LATER}
    assert others == seen, "a review must settle what it was due for"
    # The first look may have come before the last event of a customer.
    assert max(seen.values()) <= 2

    stage.settle()
    silent = lapsed | imported | {*LATER}
    now_in = bands(tables)
    assert {who for who, band in now_in.items() if band == "low"} == content
    signalled = {
        customer
        for (customer,) in tables.query(
            "SELECT DISTINCT s.customer_id FROM touchstone.loyalty_signals AS s FINAL "
            "INNER JOIN touchstone.touchpoints AS t "
            "ON t.log_partition = s.log_partition AND t.log_offset = s.log_offset "
            "WHERE t.kind = 'review_due' AND s.from_band = 'low' AND startsWith(s.customer_id, 'silent-')"
        )
    }
    assert signalled == silent
    told = [
        orjson.loads(record.value or b"")
        for part in read_topic(stage.bootstrap, LOYALTY_SIGNALS).values()
        for record in part
    ]
    latest = {
        signal["customer_id"]: signal["to_band"] for signal in told if signal["customer_id"].startswith("silent-")
    }
    assert latest == {who: band for who, band in now_in.items() if band != "low"}
    check(stage.bootstrap, tables, expected)
