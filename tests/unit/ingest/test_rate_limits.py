"""429 at the edge: what is told, and that nothing of the request was taken."""

from __future__ import annotations

from typing import Any

import pytest

from services.ingest.settings import IngestSettings

KEYS = "key-of-shop-0123456789,key-of-club-0123456789"


def event(number: int, **members: Any) -> dict[str, Any]:
    return {
        "event_id": f"e{number}",
        "customer_id": "C",
        "occurred_at": "2026-03-02T09:14:05Z",
        "source": "test",
        "kind": "referral",
        "touchpoint": "store",
    } | members


def events(count: int) -> list[dict[str, Any]]:
    return [event(number) for number in range(count)]


async def test_too_many_is_429_and_nothing_of_it_is_taken(bench: Any) -> None:
    async with bench.client(key_events_per_s=1, key_burst_events=10) as client:
        assert (await client.post("/v1/events", json=events(8))).status_code == 202
        sent = len(bench.log.sent)
        answer = await client.post("/v1/events", json=[*events(3), event(9, kind="nonsense")])
        assert answer.status_code == 429
        assert answer.headers["content-type"] == "application/problem+json"
        assert int(answer.headers["retry-after"]) in (1, 2)
        problem = answer.json()
        assert problem["code"] == "rate_limited"
        assert "results" not in problem
        assert len(bench.log.sent) == sent, "neither accepted nor set aside"
        assert bench.count("events_received_total") == 8
        assert bench.count("rate_limited_total", scope="key") == 1
        assert bench.count("requests_total", status="429") == 1
        assert (await client.post("/v1/events", json=events(2))).status_code == 202


async def test_who_has_spent_all_is_not_even_read(bench: Any) -> None:
    async with bench.client(key_events_per_s=1, key_burst_events=2) as client:
        assert (await client.post("/v1/events", json=events(2))).status_code == 202
        assert (await client.post("/v1/events", content=b"{not json")).status_code == 429
        assert bench.count("bodies_refused_total", reason="invalid_json") == 0


async def test_a_body_that_cannot_be_read_counts_as_one_event(bench: Any) -> None:
    async with bench.client(key_events_per_s=1, key_burst_events=3) as client:
        statuses = [(await client.post("/v1/events", content=b"{not json")).status_code for _ in range(3)]
        assert statuses == [400, 400, 400]
        assert (await client.post("/v1/events", json=event(1))).status_code == 429


async def test_each_key_has_its_own_and_all_share_one(bench: Any) -> None:
    shop, club = ({"x-api-key": key} for key in KEYS.split(","))
    async with bench.client(
        TOUCHSTONE_API_KEYS=KEYS, key_events_per_s=1, key_burst_events=10, events_per_s=1, burst_events=15
    ) as client:
        assert (await client.post("/v1/events", json=events(10), headers=shop)).status_code == 202
        assert (await client.post("/v1/events", json=event(1), headers=shop)).status_code == 429
        assert (await client.post("/v1/events", json=events(5), headers=club)).status_code == 202
        answer = await client.post("/v1/events", json=events(4), headers=club)
        assert answer.status_code == 429
        assert "All senders together" in answer.json()["detail"]
        assert bench.count("rate_limited_total", scope="key") == 1
        assert bench.count("rate_limited_total", scope="overall") == 1
        assert (await client.post("/v1/events", json=event(1))).status_code == 401


async def test_a_batch_beyond_the_burst_is_refused_because_waiting_would_not_help(bench: Any) -> None:
    async with bench.client(key_events_per_s=100, key_burst_events=10) as client:
        answer = await client.post("/v1/events", json=events(11))
        assert (answer.status_code, answer.json()["code"]) == (422, "too_long")
        assert "10 events" in answer.json()["detail"]
        document = (await client.get("/openapi.json")).json()
        schema = document["paths"]["/v1/events"]["post"]["requestBody"]["content"]["application/json"]["schema"]
        assert schema["oneOf"][1]["maxItems"] == 10
        assert "Retry-After" in document["paths"]["/v1/events"]["post"]["responses"]["429"]["headers"]


@pytest.mark.parametrize(
    ("settings", "per_s"),
    [
        ({}, None),
        ({"host": "0.0.0.0"}, 20_000),
        ({"host": "0.0.0.0", "key_events_per_s": 0}, None),
        ({"key_events_per_s": 7}, 7),
    ],
)
def test_by_default_only_those_from_elsewhere_are_limited(settings: dict[str, Any], per_s: int | None) -> None:
    configured = IngestSettings(**settings)
    assert (configured.key_rate.events_per_s if configured.key_rate else None) == per_s
    assert configured.overall_rate is None
    assert configured.limits.max_batch_events == 5_000
