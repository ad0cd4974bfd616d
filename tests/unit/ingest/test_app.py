"""The HTTP shell before a log that a test holds in its hands."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import zlib
from collections.abc import AsyncIterator
from typing import Any, Protocol

import httpx
import orjson
import pytest
import zstandard

from schemas.reasons import Reason
from schemas.rejected import payload_of

pytestmark = pytest.mark.asyncio


class AnyBench(Protocol):
    """conftest.Bench, which tests get as a fixture."""

    log: Any

    def client(self, **settings: Any) -> Any: ...
    def count(self, name: str, **labels: str) -> float: ...


def event(number: int = 0, **members: Any) -> dict[str, Any]:
    return {
        "event_id": f"e-{number}",
        "customer_id": f"C-{number}",
        "occurred_at": "2026-03-02T09:14:05Z",
        "source": "crm",
        "kind": "interaction",
        "touchpoint": "store",
    } | members


def is_problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = response.json()
    assert (document["status"], document["code"], document["instance"]) == (status, code, "/v1/events")
    assert document["detail"]
    assert document["message"] == document["detail"]
    assert document["title"]
    assert document["type"]
    return document


async def test_accepted_events_are_in_the_log_before_the_answer(bench: AnyBench) -> None:
    async with bench.client() as client:
        response = await client.post("/v1/events", json=[event(1), event(2)])
        assert response.status_code == 202
        assert response.json() == {
            "results": [{"event_id": "e-1", "verdict": "ok"}, {"event_id": "e-2", "verdict": "ok"}],
            "accepted": 2,
            "refused": 0,
        }
        (delivery,) = bench.log.sent
        assert delivery.topic == "touchpoints"
        assert delivery.keys == ["C-1", "C-2"]
        assert delivery.timestamp_ms == 1_772_443_245_000
        assert delivery.complete
    assert bench.log.flushed


async def test_refused_events_are_set_aside_and_counted(bench: AnyBench) -> None:
    bad = event(2, kind="review_due", text="raw \u00e4")
    async with bench.client() as client:
        response = await client.post("/v1/events", json=[event(1), bad, event(3)])
        assert response.status_code == 202
        answer = response.json()
        assert [result["verdict"] for result in answer["results"]] == ["ok", "drop", "ok"]
        assert (answer["accepted"], answer["refused"]) == (2, 1)
        assert answer["results"][1]["reason"] == "reserved_kind"
    (aside,) = [orjson.loads(value) for value in bench.log.records("rejected")]
    assert aside["stage"] == "ingest"
    assert (aside["reason"], aside["field"], aside["received_at"]) == ("reserved_kind", "/kind", 1_772_443_245_000_000)
    assert (aside["event_id"], aside["customer_id"], aside["source"]) == ("e-2", "C-2", "crm")
    assert json.loads(payload_of(aside)) == bad
    assert bench.count("events_received_total") == 3
    assert bench.count("events_accepted_total") == 2
    assert bench.count("events_refused_total", reason="reserved_kind") == 1
    assert bench.count("refused_records_total", outcome="kept") == 1


async def test_nothing_accepted_is_422_with_every_pointer(bench: AnyBench) -> None:
    async with bench.client() as client:
        alone = await client.post("/v1/events", json=event(touchpoint="Store", rating=3))
        document = is_problem(alone, 422, "invalid_value")
        assert document["errors"][0]["pointer"] == "/touchpoint"
        assert document["results"][0]["verdict"] == "drop"
        assert (document["accepted"], document["refused"]) == (0, 1)
        batch = await client.post("/v1/events", json=[event(kind="x"), event(score=1)])
        document = is_problem(batch, 422, "unknown_kind")
        assert [error["pointer"] for error in document["errors"]] == ["/0/kind", "/1/score"]
    assert bench.log.records("touchpoints") == []


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "invalid_json"),
        (b"{", 400, "invalid_json"),
        (b"\xff", 400, "invalid_json"),
        (b"[" * 100_000, 400, "too_deep"),
        (b'{"a":NaN}', 400, "invalid_json"),
        (b'{"a":1,"a":2,"kind":"review"}', 400, "duplicate_key"),
        (b"[]", 422, "missing_field"),
        (b"x" * (4 << 20), 413, "too_large"),
        (b"[" + b",".join([b"{}"] * 5_001) + b"]", 422, "too_long"),
    ],
)
async def test_bodies_that_cannot_be_read(bench: AnyBench, body: bytes, status: int, code: str) -> None:
    async with bench.client() as client:
        is_problem(await client.post("/v1/events", content=body), status, code)


async def test_a_body_over_the_limit_is_413_with_and_without_a_length(bench: AnyBench) -> None:
    async def stream() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b" " * 1_024

    async with bench.client(max_body_bytes=50_000) as client:
        is_problem(await client.post("/v1/events", content=b" " * 50_001), 413, "too_large")
        streamed = await client.post("/v1/events", content=stream())
        is_problem(streamed, 413, "too_large")
        assert streamed.headers["connection"] == "close"


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.ZstdCompressor().compress])
async def test_packed_bodies(bench: AnyBench, pack: Any) -> None:
    name = "gzip" if pack is gzip.compress else "zstd"
    headers = {"content-encoding": name}
    body = json.dumps([event(n) for n in range(10)]).encode()
    async with bench.client(max_body_bytes=5_000) as client:
        good = await client.post("/v1/events", content=pack(body), headers=headers)
        assert good.json()["accepted"] == 10
        is_problem(await client.post("/v1/events", content=pack(body)[:-4], headers=headers), 400, "corrupt_body")
        is_problem(await client.post("/v1/events", content=pack(bytes(5_001)), headers=headers), 413, "too_large")
        other = await client.post("/v1/events", content=zlib.compress(body), headers={"content-encoding": "deflate"})
        is_problem(other, 415, "unknown_encoding")
        assert other.headers["accept-encoding"] == "gzip, zstd"


@pytest.mark.parametrize("content_type", ["application/x-ndjson; charset=utf-8", "text/plain", ""])
async def test_lines_by_type_and_by_content(bench: AnyBench, content_type: str) -> None:
    body = "".join(json.dumps(event(n)) + "\n" for n in range(3)).encode()
    async with bench.client() as client:
        response = await client.post("/v1/events", content=body, headers={"content-type": content_type})
        assert response.json()["accepted"] == 3
        if "ndjson" in content_type:
            broken = body.replace(b'"kind"', b'"kin\xff"', 1)
            response = await client.post("/v1/events", content=broken, headers={"content-type": content_type})
            assert [result["verdict"] for result in response.json()["results"]] == ["drop", "ok", "ok"]


async def test_what_kafka_did_not_acknowledge_is_to_be_sent_again(bench: AnyBench) -> None:
    bench.log.accepts = lambda value: b"C-1" not in value
    async with bench.client() as client:
        response = await client.post("/v1/events", json=[event(0), event(1), event(2, kind="x"), event(3)])
        document = is_problem(response, 503, "unavailable")
        assert response.headers["retry-after"] == "2"
        assert [result["verdict"] for result in document["results"]] == ["ok", "retry", "drop", "ok"]
        assert (document["accepted"], document["refused"], document["retry"]) == (2, 1, 1)
    assert bench.count("events_retried_total") == 1
    assert bench.count("events_accepted_total") == 2


async def test_silence_of_kafka_ends_in_time(bench: AnyBench) -> None:
    bench.log.accepts = None
    async with bench.client(delivery_timeout_s=0.6) as client:
        response = await client.post("/v1/events", json=[event(0), event(1, kind="x")])
        document = is_problem(response, 503, "unavailable")
        assert [result["verdict"] for result in document["results"]] == ["retry", "drop"]
        bench.log.accepts = lambda _: True


async def test_a_full_queue_is_503_and_loses_nothing_in_silence(bench: AnyBench) -> None:
    bench.log.full = True
    async with bench.client() as client:
        document = is_problem(await client.post("/v1/events", json=[event(0), event(1, kind="x")]), 503, "unavailable")
        assert document["retry"] == 1
    assert bench.count("refused_records_total", outcome="lost") == 1


async def test_bytes_in_flight_are_bounded(bench: AnyBench) -> None:
    async with bench.client(max_inflight_bytes=1 << 20) as client:
        response = await client.post("/v1/events", content=b" " * (2 << 20))
        is_problem(response, 503, "unavailable")
        assert response.headers["retry-after"] == "2"
        again = await client.post("/v1/events", json=event())
        assert again.status_code == 202
    assert bench.count("inflight_bytes") == 0


async def test_a_body_that_dribbles_in_is_given_up(bench: AnyBench) -> None:
    async def stream() -> AsyncIterator[bytes]:
        for _ in range(1_000):
            yield b" "
            await asyncio.sleep(0.01)

    async with bench.client(receive_timeout_s=0.2) as client:
        is_problem(await client.post("/v1/events", content=stream()), 408, "timeout")


async def test_keys(bench: AnyBench) -> None:
    key = "k" * 16
    async with bench.client(TOUCHSTONE_API_KEYS=f"{'o' * 20}, {key}") as client:
        good = [
            {"authorization": f"Bearer {key}"},
            {"x-api-key": key},
            {"authorization": "Basic " + base64.b64encode(f"{key}:".encode()).decode()},
        ]
        for headers in good:
            assert (await client.post("/v1/events", json=event(), headers=headers)).status_code == 202
        for headers in [
            {},
            {"authorization": f"Bearer {key}x"},
            {"authorization": "Basic !"},
            {"authorization": "Basic /w=="},
            {"authorization": key},
            {"x-api-key": ""},
        ]:
            response = await client.post("/v1/events", json=event(), headers=headers)
            is_problem(response, 401, "unauthorized")
            assert response.headers["www-authenticate"].startswith("Bearer")
        assert (await client.get("/health/live")).status_code == 200
        assert "bearer" in (await client.get("/openapi.json")).json()["components"]["securitySchemes"]


async def test_health_tells_kafka_and_topics(bench: AnyBench) -> None:
    async with bench.client() as client:
        assert (await client.get("/health/live")).json() == {"status": "live"}
        assert (await client.get("/health/ready")).json() == {"status": "ready"}
        bench.log.existing = {"rejected"}
        missing = await client.get("/health/ready")
        assert missing.status_code == 503
        assert "touchpoints" in missing.json()["detail"]
        bench.log.existing = ConnectionError("nobody there")
        silent = await client.get("/health/ready")
        assert (silent.status_code, silent.json()["detail"]) == (503, "nobody there")
        assert silent.headers["retry-after"] == "2"


async def test_other_places_and_methods_are_problems_too(bench: AnyBench) -> None:
    async with bench.client() as client:
        for response, status in [(await client.get("/v1/events"), 405), (await client.get("/nothing"), 404)]:
            assert response.status_code == status
            assert response.headers["content-type"] == "application/problem+json"


async def test_a_fault_of_ours_is_a_500_that_may_be_repeated(bench: AnyBench, caplog: pytest.LogCaptureFixture) -> None:
    bench.log.send = None
    async with bench.client() as client:
        response = await client.post("/v1/events", json=event())
        is_problem(response, 500, "internal")
    assert "request failed" in caplog.text
    assert bench.count("inflight_bytes") == 0


async def test_metrics_are_served(bench: AnyBench) -> None:
    async with bench.client() as client:
        await client.post("/v1/events", json=[event(0), event(1, occurred_at="2026-03-02T09:25:00Z")])
        text = (await client.get("/metrics")).text
    assert "touchstone_ingest_events_accepted_total 2.0" in text
    assert 'touchstone_ingest_events_warned_total{reason="future_time"} 1.0' in text
    assert 'touchstone_ingest_requests_total{status="202"} 1.0' in text


async def test_reasons_are_all_documented(bench: AnyBench) -> None:
    async with bench.client() as client:
        document = (await client.get("/openapi.json")).json()
        page = (await client.get("/docs")).text
    schemas = document["components"]["schemas"]
    assert schemas["Result"]["properties"]["reason"]["enum"] == [reason.value for reason in Reason]
    assert document["openapi"] == "3.1.0"
    operation = document["paths"]["/v1/events"]["post"]
    assert set(operation["responses"]) == {"202", "400", "408", "413", "415", "422", "429", "500", "503"}
    assert "http://" not in page.replace("http://127.0.0.1:8080", "")
    assert "https://" not in page
    assert "<script" not in page
    for kind in ("interaction", "refund"):
        assert kind in page
