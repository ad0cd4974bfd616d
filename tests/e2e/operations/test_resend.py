"""Rejected events are fixed and sent again: each counts once, and the books balance after every step."""

from __future__ import annotations

import json
import time
import uuid
from typing import Any, Final

import httpx
import pytest
from confluent_kafka import Producer

from schemas.encode import encode
from schemas.topics import TOUCHPOINTS
from tests.e2e.command import Touchstone, wait_for

pytestmark = pytest.mark.stack

SOURCE: Final = "resending"


def survey(number: int, **more: Any) -> dict[str, Any]:
    return {
        "event_id": f"{SOURCE} {number}",
        "customer_id": f"resent-{number}",
        "occurred_at": "2026-03-01T09:30:00Z",
        "source": SOURCE,
        "kind": "survey_response",
        "touchpoint": "checkout",
        "metric": "nps",
        "rating": 9,
        **more,
    }


def listed(touchstone: Touchstone, *filters: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = touchstone.json("rejected", *filters)
    return found


def which(row: dict[str, Any]) -> str:
    return f"{row['stage']}/{row['log_partition']}/{row['log_offset']}"


@pytest.fixture(scope="module")
def refused(touchstone: Touchstone) -> dict[str, str]:
    """Some events that ingest refused: their names in the table, by what is wrong with them."""
    touchstone.settled()
    url = touchstone.json("up")["ingest"]
    batch = [survey(1), survey(2, rating=11), survey(3, shop="north"), survey(4, shop="south", rating=12)]
    answer = httpx.post(f"{url}/v1/events", json=batch)
    assert (answer.json()["accepted"], answer.json()["refused"]) == (1, 3)
    wait_for(lambda: len(listed(touchstone, "--source", SOURCE)) == 3, "the refused events are in the table")
    names = {row["customer_id"]: which(row) for row in listed(touchstone, "--source", SOURCE)}
    return {"rating": names["resent-2"], "member": names["resent-3"], "both": names["resent-4"]}


def test_a_fixed_event_is_judged_sent_and_written_down_once(touchstone: Touchstone, refused: dict[str, str]) -> None:
    before = touchstone.settled()
    one = refused["rating"]
    shown = touchstone.run("rejected", "show", one)
    assert "out_of_range" in shown
    assert "00000000  7b" in shown  # the bytes begin with a brace

    # Still wrong: told why, nothing is sent.
    still = touchstone.json("rejected", "resend", one, "--set", "metric=stars", code=1)
    [event] = still["events"]
    assert (event["verdict"], event["problems"][0]["reason"], event["problems"][0]["field"]) == (
        "refused",
        "out_of_range",
        "/rating",
    )
    fit = touchstone.json("rejected", "resend", one, "--set", "rating=10", "--dry-run")
    assert fit["counts"] == {"accepted": 0, "fit": 1, "refused": 0, "resent before": 0}
    assert touchstone.settled()["ingest_since_start"] == before["ingest_since_start"]

    done = touchstone.json("rejected", "resend", one, "--set", "rating=10")
    assert done["counts"]["accepted"] == 1
    after = touchstone.settled()
    assert after["ingest_since_start"]["accepted"] == before["ingest_since_start"]["accepted"] + 1
    assert after["events"]["stored"] == before["events"]["stored"] + 1
    assert after["events"]["resent"] == before["events"]["resent"] + 1
    assert after["events"]["refused"] == before["events"]["refused"]
    [state] = touchstone.rows(
        "SELECT events, survey_responses FROM customer_state FINAL WHERE customer_id = 'resent-2'"
    )
    assert state == {"events": 1, "survey_responses": 1}

    # The same again sends nothing; where it is wanted all the same, it counts as what it is.
    again = touchstone.json("rejected", "resend", one, "--set", "rating=10")
    assert again["counts"] == {"accepted": 0, "fit": 0, "refused": 0, "resent before": 1}
    touchstone.json("rejected", "resend", one, "--set", "rating=10", "--again")
    end = touchstone.settled()
    assert end["events"]["stored"] == after["events"]["stored"]
    assert end["events"]["duplicate"] == after["events"]["duplicate"] + 1
    assert end["events"]["resent"] == after["events"]["resent"]


def test_what_is_told_apart_by_filters_is_resent_together(touchstone: Touchstone, refused: dict[str, str]) -> None:
    filters = ("--source", SOURCE, "--reason", "unknown_field")
    done = touchstone.json("rejected", "resend", *filters, "--unset", "shop", code=1)
    told = {event["which"]: event["verdict"] for event in done["events"]}
    assert told == {refused["member"]: "accepted", refused["both"]: "refused"}
    [count] = listed(touchstone, "--count", *filters)
    assert (count["events"], count["resent"]) == (2, 1)
    assert [which(row) for row in listed(touchstone, "--left", *filters)] == [refused["both"]]

    fixed = touchstone.folder / "fixed.json"
    fixed.write_text(json.dumps(survey(4)))
    touchstone.json("rejected", "resend", refused["both"], "--file", str(fixed))
    assert not listed(touchstone, "--left", *filters)
    [row] = listed(touchstone, "--source", SOURCE, "--customer", "resent-4")
    assert row["resent_at"]
    touchstone.settled()
    [found] = touchstone.rows("SELECT lower(hex(event_id)) AS id FROM touchpoints WHERE customer_id = 'resent-4'")
    assert found["id"] == row["resent_as"]


def test_a_record_that_scoring_rejected_is_resent_as_its_sender_meant_it(touchstone: Touchstone) -> None:
    [home] = touchstone.rows("SELECT log_partition AS at FROM customer_state FINAL WHERE customer_id = 'resent-2'")
    now_us = time.time_ns() // 1000
    record = {
        "event_id": uuid.uuid4().bytes,
        "customer_id": "resent-2",
        "occurred_at": now_us,
        "received_at": now_us,
        "source": SOURCE,
        "kind": "purchase",
        "touchpoint": "checkout",
        "amount_micros": 12_500_000,
        "currency": "EUR",
    }
    producer = Producer({"bootstrap.servers": touchstone.json("up")["kafka"]})
    producer.produce(TOUCHPOINTS, encode(record), "resent-2", partition=(home["at"] + 1) % 4)
    assert producer.flush(30) == 0
    before = touchstone.settled()
    filters = ("--stage", "log", "--reason", "wrong_partition")
    [row] = listed(touchstone, *filters)
    [event] = touchstone.json("rejected", "resend", which(row))["events"]
    assert event["verdict"] == "accepted"
    assert (event["event"]["amount"], "received_at" in event["event"]) == ("12.500000", False)
    after = touchstone.settled()
    assert after["events"]["stored"] == before["events"]["stored"] + 1
    assert after["events"]["rejected"] == before["events"]["rejected"]
    [state] = touchstone.rows("SELECT events, spend_micros FROM customer_state FINAL WHERE customer_id = 'resent-2'")
    assert state == {"events": 2, "spend_micros": 12_500_000}
    assert touchstone.json("verify", "--sample", "20")["equal"]
