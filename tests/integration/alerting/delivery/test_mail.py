"""Mail to a real SMTP server."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from email import message_from_bytes
from email.policy import default
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from services.alerting.delivery.addresses import Address
from services.alerting.delivery.receivers import Email
from services.alerting.delivery.retry import Answer, Verdict
from services.alerting.delivery.senders import EmailSender
from tests.integration.alerting.delivery.bad_servers import hanging, serving
from tests.unit.alerting.delivery.world import START_US, make_call

HOST = "smtp.example.com"


class Post:
    """Notes mails; refuses what it is told to."""

    def __init__(self) -> None:
        self.mails: list[Envelope] = []
        self.rcpt = {"gone@shop.example": "550 no such mailbox"}
        self.data = "250 OK"

    async def handle_RCPT(  # noqa: N802 - the name aiosmtpd looks for
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        if address in self.rcpt:
            return self.rcpt[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        if self.data.startswith("250"):
            self.mails.append(envelope)
        return self.data


def login(_server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, data: Any) -> AuthResult:
    return AuthResult(success=isinstance(data, LoginPassword) and data.password == b"right", handled=False)


@asynccontextmanager
async def mail_server(post: Post, implicit: ssl.SSLContext | None = None, **settings: Any) -> AsyncIterator[int]:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SMTP(post, hostname="test", loop=loop, **settings), "127.0.0.1", 0, ssl=implicit
    )
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def resolve(_host: str, _port: int) -> Sequence[Address]:
    return [ip_address("127.0.0.1")]


def receiver(port: int, **more: Any) -> Email:
    settings: dict[str, Any] = {"tls": "none", "local": True, "to": ("desk@shop.example",)} | more
    return Email(name="mail", type="email", host=HOST, port=port, sender="Touchstone <cx@shop.example>", **settings)


async def send(mail: Email, times: int = 1) -> Answer:
    sender = EmailSender(mail, resolve=resolve)
    try:
        for _ in range(times):
            answer = await sender.send(make_call("a"), START_US)
        return answer
    finally:
        await sender.close()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def trusted(authority: trustme.CA, tmp_path: Path) -> str:
    place = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(place))
    return str(place)


def tls(authority: trustme.CA, name: str = HOST) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


async def test_a_mail_arrives_and_a_repeat_is_the_same() -> None:
    post = Post()
    async with mail_server(post) as port:
        assert (await send(receiver(port, to=("desk@shop.example", "two@shop.example")), times=2)).status == 250
    first, second = post.mails
    assert first.content == second.content
    assert first.mail_from == "cx@shop.example"
    assert first.rcpt_tos == ["desk@shop.example", "two@shop.example"]
    assert isinstance(first.content, bytes)
    read = message_from_bytes(first.content, policy=default)
    assert read["Message-ID"] == f"<{make_call('a').call_id}@shop.example>"


async def test_starttls_and_login(authority: trustme.CA, trusted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    post = Post()
    with_login: dict[str, Any] = {"tls": "starttls", "ca_file": trusted, "user": "cx", "password": "env:MAIL_PASSWORD"}
    settings: dict[str, Any] = {"require_starttls": True, "authenticator": login, "auth_required": True}
    async with mail_server(post, tls_context=tls(authority), **settings) as port:
        monkeypatch.setenv("MAIL_PASSWORD", "right")
        assert (await send(receiver(port, **with_login))).verdict is Verdict.DELIVERED
        monkeypatch.setenv("MAIL_PASSWORD", "stale-password")
        answer = await send(receiver(port, **with_login))
        monkeypatch.delenv("MAIL_PASSWORD")
        unset = await send(receiver(port, **with_login))
    assert (answer.verdict, answer.status) == (Verdict.RETRY, 535)
    assert "stale-password" not in answer.detail
    assert "env:MAIL_PASSWORD" in unset.detail
    assert len(post.mails) == 1


async def test_implicit_tls_verifies_the_name(authority: trustme.CA, trusted: str) -> None:
    post = Post()
    async with mail_server(post, implicit=tls(authority)) as port:
        assert (await send(receiver(port, tls="implicit", ca_file=trusted))).verdict is Verdict.DELIVERED
        unknown = await send(receiver(port, tls="implicit"))
    async with mail_server(post, implicit=tls(authority, "other.example.com")) as port:
        other = await send(receiver(port, tls="implicit", ca_file=trusted))
    for answer in (unknown, other):
        assert answer.verdict is Verdict.RETRY
        assert "TLS" in answer.detail
    assert len(post.mails) == 1


async def test_no_mail_goes_out_in_the_clear_where_tls_is_wanted() -> None:
    post = Post()
    async with mail_server(post) as port:
        answer = await send(receiver(port, tls="starttls"))
    assert answer.verdict is Verdict.RETRY
    assert "STARTTLS" in answer.detail
    assert post.mails == []


async def test_a_private_mail_server_is_not_connected() -> None:
    async with mail_server(post := Post()) as port:
        answer = await send(receiver(port, tls="starttls", local=False))
    assert "refused" in answer.detail
    assert "127.0.0.1" in answer.detail
    assert post.mails == []


@pytest.mark.parametrize(
    ("reply", "verdict", "status"),
    [
        ("552 message too large", Verdict.NEVER, 552),
        ("451 try later", Verdict.RETRY, 451),
        ("554 secret policy", Verdict.RETRY, 554),
    ],
)
async def test_refusals_of_a_mail(reply: str, verdict: Verdict, status: int) -> None:
    post = Post()
    post.data = reply
    async with mail_server(post) as port:
        answer = await send(receiver(port))
    assert (answer.verdict, answer.status) == (verdict, status)
    assert "secret policy" not in answer.detail


async def test_some_recipients_refused_is_delivered_and_told() -> None:
    post = Post()
    async with mail_server(post) as port:
        some = await send(receiver(port, to=("desk@shop.example", "gone@shop.example")))
        none = await send(receiver(port, to=("gone@shop.example",)))
    assert some == Answer(Verdict.DELIVERED, 250, "1 of 2 recipients are refused; mend `to`")
    assert (none.verdict, none.status) == (Verdict.RETRY, 550)


async def test_a_server_that_hangs_is_left_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.alerting.delivery.smtp.MOST_S", 0.2)
    async with serving(hanging) as server:
        answer = await send(receiver(server.port))
    assert answer.verdict is Verdict.RETRY
    refused = await send(receiver(server.port))
    assert "cannot connect" in refused.detail
