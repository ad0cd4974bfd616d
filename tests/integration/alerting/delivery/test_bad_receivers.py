"""Fault 27 and hostile inputs 18, 19, 20 and 23 against real servers: whatever a receiver does, it is bounded."""

from __future__ import annotations

import asyncio
import base64
import ssl
import time
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import standardwebhooks
import trustme

from services.alerting.alert import Outcome
from services.alerting.delivery import http
from services.alerting.delivery.addresses import Address
from services.alerting.delivery.dispatcher import Dispatcher
from services.alerting.delivery.limits import Limits
from services.alerting.delivery.receivers import Alertmanager, PagerDuty, Slack, Webhook
from services.alerting.delivery.retry import Answer, Verdict
from services.alerting.delivery.senders import HttpSender, build_senders
from tests.integration.alerting.delivery.bad_servers import Request, answering, cutting, hanging, serving
from tests.unit.alerting.delivery.world import MemoryStore, make_call, running


def now_us() -> int:
    return time.time_ns() // 1_000


SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()


class Names:
    """A resolver whose answers are set by the test."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[Address]:
        self.asked.append(host)
        answers = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [ip_address(answer) for answer in answers]


@pytest.fixture(autouse=True)
def _secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DESK_SECRET", SECRET)


def receiver(url: str, *, local: bool = True, **more: Any) -> Webhook:
    return Webhook(name="desk", type="webhook", url=url, local=local, signing_secrets=("env:DESK_SECRET",), **more)


async def send(hook: Any, resolve: Names | None = None) -> Answer:
    sender = HttpSender(hook, resolve=resolve)
    try:
        async with asyncio.timeout(30):
            return await sender.send(make_call("a"), now_us())
    finally:
        await sender.close()


async def test_a_call_is_signed_and_its_connection_kept() -> None:
    async with serving(answering(204)) as server:
        sender = HttpSender(receiver(server.url(), headers={"X-Team": "retention"}))
        for _ in range(3):
            assert await sender.send(make_call("a"), now_us()) == Answer(Verdict.DELIVERED, 204)
        await sender.close()
    assert server.connections == 1
    assert len({request.body for request in server.got}) == len({str(request.headers) for request in server.got}) == 1
    request = server.got[0]
    standardwebhooks.Webhook(SECRET).verify(request.body, dict(request.headers))
    assert request.headers["webhook-id"] == make_call("a").call_id
    assert request.headers["x-team"] == "retention"
    assert request.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("status", "verdict"),
    [(500, Verdict.RETRY), (404, Verdict.RETRY), (410, Verdict.GONE), (413, Verdict.NEVER), (503, Verdict.SLOW_DOWN)],
)
async def test_statuses_become_verdicts(status: int, verdict: Verdict) -> None:
    async with serving(answering(status, body=b"secret words of the receiver")) as server:
        answer = await send(receiver(server.url()))
    assert (answer.verdict, answer.status) == (verdict, status)
    assert f"HTTP {status}" in answer.detail
    assert "secret words" not in answer.detail


async def test_retry_after_is_read() -> None:
    async with serving(answering(429, "Retry-After: 120")) as server:
        answer = await send(receiver(server.url()))
    assert (answer.verdict, answer.retry_after_s) == (Verdict.SLOW_DOWN, 120.0)


async def test_formats_have_statuses_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAGER", "R0UT1NG")
    async with serving(answering(400)) as server:
        pager = PagerDuty(name="pager", type="pagerduty", url=server.url(), routing_key="env:PAGER", local=True)
        assert (await send(pager)).verdict is Verdict.NEVER
        assert (await send(Slack(name="slack", type="slack", url=server.url(), local=True))).verdict is Verdict.NEVER
        manager = Alertmanager(name="am", type="alertmanager", url=server.url(), bearer_token="env:PAGER", local=True)
        assert (await send(manager)).verdict is Verdict.RETRY
    assert server.got[-1].headers["authorization"] == "Bearer R0UT1NG"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_redirect_is_followed(status: int) -> None:
    async with serving(answering(200)) as trap:
        async with serving(answering(status, f"Location: {trap.url()}")) as server:
            answer = await send(receiver(server.url()))
        async with serving(answering(status, "Location: http://169.254.169.254/latest/meta-data/")) as server:
            await send(receiver(server.url()))
    assert trap.connections == 0
    assert answer.verdict is Verdict.RETRY
    assert "redirects are not followed" in answer.detail


async def test_proxy_variables_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(answering(200)) as proxy, serving(answering(204)) as server:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url())
            monkeypatch.setenv(name.lower(), proxy.url())
        assert (await send(receiver(server.url()))).status == 204
    assert proxy.connections == 0


async def test_an_answer_without_end_is_cut() -> None:
    sent = 0

    async def flood(_request: Request, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 X\r\nContent-Length: 1000000000\r\n\r\n")
        while True:
            writer.write(b"x" * 65_536)
            await writer.drain()
            sent += 65_536

    async with serving(flood) as server:
        answer = await send(receiver(server.url()))
    assert answer == Answer(Verdict.DELIVERED, 200)
    assert sent < 50_000_000  # what buffers of the kernel took before the connection was closed


async def test_headers_without_end_are_cut() -> None:
    async def flood(_request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 X\r\n")
        while True:
            writer.write(b"X-Filler: " + b"x" * 8_000 + b"\r\n")
            await writer.drain()

    async with serving(flood) as server:
        answer = await send(receiver(server.url()))
    assert answer.verdict is Verdict.RETRY
    assert "65536" in answer.detail


@pytest.mark.parametrize("behave", [hanging, "drip"])
async def test_a_slow_receiver_is_left_in_time(monkeypatch: pytest.MonkeyPatch, behave: Any) -> None:
    monkeypatch.setattr(http, "MOST_S", 0.2)

    async def drip(_request: Request, writer: asyncio.StreamWriter) -> None:
        for byte in b"HTTP/1.1 200 X\r\n" + b"X: y\r\n" * 1_000:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.02)

    async with serving(drip if behave == "drip" else behave) as server:
        answer = await send(receiver(server.url()))
    assert answer.verdict is Verdict.RETRY
    assert "within 0.2 s" in answer.detail


async def test_a_cut_connection_and_a_closed_port_are_failures() -> None:
    async with serving(cutting) as server:
        assert (await send(receiver(server.url()))).verdict is Verdict.RETRY
    answer = await send(receiver(server.url()))
    assert answer.verdict is Verdict.RETRY
    assert "cannot connect" in answer.detail


async def test_what_is_no_http_is_a_failure() -> None:
    async def babble(_request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\x00\xff not http\r\n\r\n")
        await writer.drain()

    async with serving(babble) as server:
        assert (await send(receiver(server.url()))).verdict is Verdict.RETRY


async def test_a_name_that_turns_private_is_not_connected() -> None:
    """Rebinding: fine when the rules were read, private when the connection is made."""
    async with serving(answering(200)) as server:
        names = Names(["127.0.0.1"])
        answer = await send(receiver(f"https://hooks.example.com:{server.port}/x", local=False), names)
    assert server.connections == 0
    assert answer.verdict is Verdict.RETRY
    assert "refused" in answer.detail
    assert "127.0.0.1" in answer.detail


@pytest.mark.parametrize("private", ["127.0.0.1", "169.254.169.254", "::1", "::ffff:10.0.0.1", "fd00:ec2::254"])
async def test_one_private_answer_among_public_ones_refuses_all(private: str) -> None:
    names = Names(["93.184.216.34", private])
    answer = await send(receiver("https://hooks.example.com/x", local=False), names)
    assert "refused" in answer.detail


async def test_the_checked_address_is_the_one_connected_to() -> None:
    """The name is resolved once for a connection: a second answer could be another."""
    async with serving(answering(200)) as server:
        names = Names(["127.0.0.1"], ["169.254.169.254"])
        assert (await send(receiver(server.url("hooks.example.com")), names)).status == 200
    assert names.asked == ["hooks.example.com"]
    assert server.got[0].headers["host"] == f"hooks.example.com:{server.port}"


async def test_another_address_is_tried_where_the_first_does_not_answer() -> None:
    async with serving(answering(200)) as server:
        names = Names(["127.0.0.2", "127.0.0.1"])
        assert (await send(receiver(server.url("hooks.example.com")), names)).status == 200


async def test_an_address_from_a_secret_is_checked_when_it_is_used(tmp_path: Path) -> None:
    place = tmp_path / "url"
    place.write_text("https://127.0.0.1/hidden")
    slack = Slack(name="slack", type="slack", url_from=f"file:{place}")
    answer = await send(slack)
    assert "refused" in answer.detail
    assert "hidden" not in answer.detail
    place.unlink()
    assert "cannot be read" in (await send(slack)).detail


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def server_tls(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return context


async def test_tls_verifies_the_name_at_the_checked_address(authority: trustme.CA, tmp_path: Path) -> None:
    trusted = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(trusted))
    names = Names(["127.0.0.1"])
    async with serving(answering(200), server_tls(authority, "hooks.example.com")) as server:
        url = server.url("hooks.example.com", "https")
        good = await send(receiver(url, ca_file=str(trusted)), names)
        untrusted = await send(receiver(url), names)
        other = await send(receiver(server.url("other.example.com", "https"), ca_file=str(trusted)), names)
    assert good == Answer(Verdict.DELIVERED, 200)
    assert len(server.got) == 1
    for answer in (untrusted, other):
        assert answer.verdict is Verdict.RETRY
        assert "TLS" in answer.detail
    assert "ca_file" in (await send(receiver(url, ca_file=str(tmp_path / "none.pem")), names)).detail


async def test_secrets_rotate_without_a_restart(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_text(SECRET)
    new.write_text("whsec_" + base64.b64encode(b"n" * 32).decode())
    both = (f"file:{new}", f"file:{old}")
    async with serving(answering(200)) as server:
        hook = Webhook(name="desk", type="webhook", url=server.url(), local=True, signing_secrets=both)
        sender = HttpSender(hook)
        await sender.send(make_call("a"), now_us())
        old.write_text("whsec_" + base64.b64encode(b"l" * 32).decode())
        await sender.send(make_call("a"), now_us())
        new.write_text("no secret")
        answer = await sender.send(make_call("a"), now_us())
        await sender.close()
    before, after = server.got
    standardwebhooks.Webhook(SECRET).verify(before.body, dict(before.headers))
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(SECRET).verify(after.body, dict(after.headers))
    assert answer.verdict is Verdict.RETRY
    assert "signing_secrets[0]" in answer.detail
    assert "no secret" not in answer.detail


async def test_bad_receivers_keep_no_good_one_waiting() -> None:
    """Every bad one at once; the good one gets all its calls while the others still fail."""
    store = MemoryStore()
    async with (
        serving(hanging) as hangs,
        serving(cutting) as cuts,
        serving(answering(500)) as errs,
        serving(answering(200)) as good,
    ):
        hooks = [
            receiver(server.url()).model_copy(update={"name": name})
            for name, server in (("hangs", hangs), ("cuts", cuts), ("errs", errs), ("good", good))
        ]
        dispatcher = Dispatcher(build_senders(hooks), store, limits=Limits(send_s=2, linger_s=0))
        calls = [make_call(f"c{number}", hook.name) for number in range(200) for hook in hooks]
        async with running(dispatcher):
            dispatcher.submit(calls)
            async with asyncio.timeout(60):
                while dispatcher.waiting()["good"]:
                    await asyncio.sleep(0.001)
            waiting = dispatcher.waiting()
    assert waiting["hangs"] == waiting["cuts"] == waiting["errs"] == 200
    assert sum(row.outcome is Outcome.DELIVERED for row in store.rows) == 200
    assert len({request.headers["webhook-id"] for request in good.got}) == len(good.got) == 200
    assert len(errs.got) < 50  # the circuit opened
