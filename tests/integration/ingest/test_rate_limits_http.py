"""The limits of the deployed process: a sender that waits as it is told gets everything in."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

pytestmark = pytest.mark.stack

Start = Callable[..., Any]


def batch(first: int, count: int) -> list[dict[str, Any]]:
    return [
        {
            "event_id": f"limited-{number}",
            "customer_id": f"L-{number}",
            "occurred_at": "2026-03-02T09:14:05Z",
            "source": "test",
            "kind": "referral",
            "touchpoint": "store",
        }
        for number in range(first, first + count)
    ]


def test_a_patient_sender_gets_all_in_and_no_faster_than_allowed(topics: str, start: Start) -> None:
    ingest = start(topics, TOUCHSTONE_INGEST_KEY_EVENTS_PER_S=100, TOUCHSTONE_INGEST_KEY_BURST_EVENTS=100)
    url = f"{ingest.url}/v1/events"
    accepted = limited = 0
    started = time.monotonic()
    with httpx.Client() as client:
        while accepted < 300:
            answer = client.post(url, json=batch(accepted, 50))
            if answer.status_code == 202:
                accepted += answer.json()["accepted"]
                continue
            assert answer.status_code == 429
            assert answer.headers["content-type"] == "application/problem+json"
            limited += 1
            wait_s = int(answer.headers["retry-after"])
            assert wait_s >= 1
            time.sleep(wait_s)  # what the answer asks for
            answer = client.post(url, json=batch(accepted, 50))
            assert answer.status_code == 202, "waited as told"
            accepted += answer.json()["accepted"]
        elapsed_s = time.monotonic() - started
        assert accepted <= 100 * elapsed_s + 100
        metrics = client.get(f"{ingest.url}/metrics").text
    assert f'touchstone_ingest_rate_limited_total{{scope="key"}} {limited}.0' in metrics
    assert f"touchstone_ingest_events_accepted_total {accepted}.0" in metrics
    assert limited
