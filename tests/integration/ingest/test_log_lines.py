"""What comes in does not come out in the log: hostile and ordinary requests, in either form."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from datetime import datetime

import httpx
import pytest

from tests.integration.ingest.conftest import IngestProcess

PERSON = "Xaviera-Quillfeather"
"""In every field, header and path below; no other text has it."""
KEY = f"{PERSON}-sender-key"


def event(**more: object) -> dict[str, object]:
    return {
        "event_id": f"{PERSON}-1",
        "customer_id": f"C-{PERSON}",
        "occurred_at": "2026-03-02T09:14:05Z",
        "source": "till",
        "kind": "interaction",
        "touchpoint": "store",
        "text": f"I am {PERSON}\r\n2026-03-02 ERROR forged: line\x1b[31m",
        "attributes": {PERSON: f"${{jndi:ldap://{PERSON}}}"},
        **more,
    }


def bodies() -> list[bytes]:
    good = event()
    bad = [
        event(occurred_at=PERSON),
        event(kind=PERSON),
        event(rating=PERSON, metric="nps"),
        event(**{PERSON: 1}),
        event(customer_id=f"\x00{PERSON}"),
        event(touchpoint=PERSON.upper()),
        event(amount=PERSON, currency="EUR", kind="purchase"),
        event(text=PERSON * 2_000),
    ]
    return [
        *(json.dumps(one).encode() for one in (good, *bad)),
        json.dumps([good, *bad]).encode(),
        b"\n".join(json.dumps(one).encode() for one in (good, *bad)),
        f'{{"customer_id": "{PERSON}"'.encode(),
        f'{{"{PERSON}": NaN}}'.encode(),
        f'{{"{PERSON}": 1, "{PERSON}": 2}}'.encode(),
        PERSON.encode("utf-16"),
        f'"{PERSON}\udcff"'.encode("utf-8", "surrogateescape"),
        b"[" * 100_000 + PERSON.encode(),
    ]


def say_nonsense(port: int) -> None:
    """Bytes that are no HTTP, with a name in them."""
    for text in (f"GET /{PERSON} NONSENSE/9\r\n\r\n", f"POST /v1/events HTTP/1.1\r\n{PERSON}\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", port), timeout=5) as line:
            line.sendall(text.encode())
            line.settimeout(5)
            while line.recv(4096):
                pass


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_no_personal_value_comes_into_the_log(start: Callable[..., IngestProcess], log_format: str) -> None:
    process = start(
        "127.0.0.1:1",
        TOUCHSTONE_API_KEYS=KEY,
        TOUCHSTONE_LOG_FORMAT=log_format,
        TOUCHSTONE_INGEST_LOG_LEVEL="debug",
        TOUCHSTONE_INGEST_DELIVERY_TIMEOUT_S=0.6,
        TOUCHSTONE_INGEST_MAX_QUEUED_RECORDS=1_000,
    )
    admitted = {"authorization": f"Bearer {KEY}", "user-agent": PERSON}
    answers = set()
    with httpx.Client(base_url=process.url, timeout=20) as client:
        for body in bodies():
            answers.add(client.post("/v1/events", content=body, headers=admitted).status_code)
        many = json.dumps([event(event_id=f"{PERSON}-{n}") for n in range(1_500)]).encode()
        answers.add(client.post("/v1/events", content=many, headers=admitted).status_code)
        answers.add(client.post("/v1/events", content=b"{}", headers={"x-api-key": f"{PERSON}-wrong-key"}).status_code)
        unpacked = {**admitted, "content-encoding": "gzip"}
        answers.add(client.post("/v1/events", content=PERSON.encode(), headers=unpacked).status_code)
        answers.add(client.get(f"/{PERSON}?name={PERSON}").status_code)
    say_nonsense(process.port)
    assert process.stop() == 0
    assert {400, 401, 404, 422, 503} <= answers, "the requests went where they should"
    text = process.log_path.read_text("utf-8")
    assert PERSON.lower() not in text.lower()
    assert "\x1b" not in text
    assert "forged" not in text
    assert "kafka" in text, "there was something to log"
    for line in text.splitlines():
        if log_format == "json":
            read = json.loads(line)
            assert {"time", "level", "logger", "message"} <= read.keys()
            assert datetime.fromisoformat(read["time"]).utcoffset() is not None
        else:
            assert datetime.fromisoformat(line.split(" ")[0]).utcoffset() is not None
