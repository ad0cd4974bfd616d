"""Hostile inputs that no other test sends, numbered as in docs/reliability.md."""

from __future__ import annotations

import json
from typing import Any

import pytest

from schemas.decode import MARKER_BYTES, decode
from schemas.topics import REJECTED, TOUCHPOINTS

KEY = "key-of-shop-0123456789"


def event(**members: Any) -> dict[str, Any]:
    return {
        "event_id": "e1",
        "customer_id": "C",
        "occurred_at": "2026-03-02T09:14:05Z",
        "source": "test",
        "kind": "interaction",
        "touchpoint": "store",
    } | members


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-api-key": "key-of-shop-012345678"},
        {"x-api-key": KEY.upper()},
        {"authorization": f"Digest {KEY}"},
        {"authorization": "Basic ===="},
        {"authorization": f"Bearer {KEY}\u00e9".encode()},
    ],
)
async def test_1_without_a_known_key_nothing_is_read_and_it_is_counted(bench: Any, headers: Any) -> None:
    async with bench.client(TOUCHSTONE_API_KEYS=KEY) as client:
        answer = await client.post("/v1/events", json=[event(), event(kind="nonsense")], headers=headers)
        assert answer.status_code == 401
        assert answer.headers["connection"] == "close"
        assert not bench.log.sent
        assert bench.count("requests_total", status="401") == 1
        assert bench.count("events_received_total") == 0
    # A key that is not in the setting any more is none.
    async with bench.client(TOUCHSTONE_API_KEYS="another-key-0123456789") as client:
        assert (await client.post("/v1/events", json=event(), headers={"x-api-key": KEY})).status_code == 401


@pytest.mark.parametrize("form", [b"%s", b"[%s]"], ids=["one", "array"])
async def test_6_members_without_number_are_refused_before_validation(
    bench: Any, form: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Validation takes microseconds for each of them: half a second for a body of 1 MB."""

    def validate(_: bytes) -> None:
        raise AssertionError("validated")

    monkeypatch.setattr("services.ingest.admit._validate_all", validate)
    monkeypatch.setattr("services.ingest.admit._validate_one", validate)
    attributes = {f"a{number}": "x" for number in range(20_000)}
    async with bench.client() as client:
        answer = await client.post("/v1/events", content=form % json.dumps(event(attributes=attributes)).encode())
        assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b'{"metric":"nps","rating":NaN}', "invalid_json"),
        (b'{"metric":"nps","rating":-Infinity}', "invalid_json"),
        (b'{"metric":"nps","rating":1e999}', None),
        (b'{"metric":"nps","rating":18446744073709551616}', None),
        (b'{"amount":18446744073709551616,"currency":"EUR"}', None),
        (b'{"metric":"nps","rating":1,"rating":9}', "duplicate_key"),
        (b'{"text":"\xff\xfe"}', "invalid_json"),
        (b'{"text":"\\ud800"}', None),
        (b'{"text":"a\\u0000b"}', None),
    ],
)
async def test_7_to_10_values_that_readers_take_differently_are_refused(
    bench: Any, text: bytes, code: str | None
) -> None:
    kind = {b"metric": "survey_response", b"amount": "purchase"}.get(text[2:8], "interaction")
    good = json.dumps(event(kind=kind)).encode()
    body = good[:-1] + b"," + text[1:]
    async with bench.client() as client:
        for sent in (body, b"[" + body + b"]"):
            answer = await client.post("/v1/events", content=sent)
            assert answer.status_code in (400, 422), answer.text
            assert code is None or answer.json()["code"] == code
        assert not bench.log.records(TOUCHPOINTS)


async def test_10_marks_that_turn_text_around_are_kept_to_the_byte(bench: Any) -> None:
    text = "\u202ereversed\u202c \u2066isolated\u2069 \ufeff\u200b end"
    body = b"\xef\xbb\xbf" + json.dumps(event(text=text), ensure_ascii=False).encode()
    async with bench.client() as client:
        assert (await client.post("/v1/events", content=body)).status_code == 202
    frame = decode(bench.log.records(TOUCHPOINTS), bytes(MARKER_BYTES)).frame
    assert frame.get_column("text").to_list() == [text]


async def test_13_new_names_do_not_become_new_metrics(bench: Any) -> None:
    def lines(text: str) -> int:
        return sum(not line.startswith("#") for line in text.splitlines())

    async with bench.client() as client:
        before = [event(event_id="0"), event(event_id="1", kind="k0")]
        assert (await client.post("/v1/events", json=before)).status_code == 202
        first = lines((await client.get("/metrics")).text)
        batch = [
            event(event_id=str(n), customer_id=f"C-{n}", touchpoint=f"place_{n}", source=f"s{n}") for n in range(500)
        ] + [event(event_id=str(n), kind=f"k{n}", source=f"s{n}") for n in range(500)]
        assert (await client.post("/v1/events", json=batch)).status_code == 202
        assert lines((await client.get("/metrics")).text) == first


@pytest.mark.parametrize("member", ["score", "risk", "tenant", "erased", "received_at", "log_offset", "partition"])
async def test_17_members_that_are_ours_are_refused_and_kept(bench: Any, member: str) -> None:
    async with bench.client() as client:
        answer = await client.post("/v1/events", json=event(**{member: 1}))
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["pointer"] == f"/{member}"
        assert not bench.log.records(TOUCHPOINTS)
        assert len(bench.log.records(REJECTED)) == 1
