"""From receivers in the rules file to ways of reaching them."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Final, assert_never

from services.alerting.alert import Call
from services.alerting.delivery.connect import Resolve
from services.alerting.delivery.formats import alertmanager, email, pagerduty, slack, teams, webhook
from services.alerting.delivery.formats.fitting import Payload
from services.alerting.delivery.http import HttpClient, Reply
from services.alerting.delivery.long_tail import LongTail
from services.alerting.delivery.ports import Sender
from services.alerting.delivery.receivers import (
    Alertmanager,
    Apprise,
    Email,
    File,
    PagerDuty,
    Receiver,
    Slack,
    Teams,
    Webhook,
)
from services.alerting.delivery.retry import Answer, Verdict, verdict_of
from services.alerting.delivery.secret import SecretUnreadableError, read_secret
from services.alerting.delivery.smtp import Mailer
from services.alerting.document import Document

_HttpReceiver = Webhook | Alertmanager | Slack | Teams | PagerDuty

REMEDIES: Final = {
    400: "the receiver does not understand it; see that its type is right",
    401: "mend the secret",
    403: "mend the secret, or what the receiver allows",
    404: "mend the address",
    410: "the receiver is gone; mend its address and send again",
    413: "too large for the receiver",
    429: "the receiver wants fewer calls",
}
NEVER_STATUSES: Final[dict[str, frozenset[int]]] = {
    "pagerduty": pagerduty.NEVER_STATUSES,
    "slack": frozenset({400}),  # invalid_payload, invalid_blocks: the body is at fault
}
"""By type of receiver: statuses by which a body is refused for good, besides `retry.NEVER_STATUSES`."""


def build_senders(receivers: Iterable[Receiver], *, resolve: Resolve | None = None) -> dict[str, Sender]:
    """A sender for each receiver, by name. Connects to nothing. ``resolve`` replaces the machine's resolver.

    Raises `long_tail.ExtraMissingError` where a receiver needs an extra that is not installed.
    """
    return {receiver.name: _sender(receiver, resolve) for receiver in receivers}


def _sender(receiver: Receiver, resolve: Resolve | None) -> Sender:
    match receiver:
        case Email():
            return EmailSender(receiver, resolve=resolve)
        case File():
            return FileSender(receiver)
        case Apprise():
            return AppriseSender(receiver)
        case Webhook() | Alertmanager() | Slack() | Teams() | PagerDuty():
            return HttpSender(receiver, resolve=resolve)
        case _:
            assert_never(receiver)


class HttpSender:
    """Posts calls in the receiver's format."""

    def __init__(self, receiver: _HttpReceiver, *, resolve: Resolve | None = None) -> None:
        self._receiver = receiver
        self._client = HttpClient(local=receiver.local, ca_file=receiver.ca_file, resolve=resolve)
        self._never = NEVER_STATUSES.get(receiver.type, frozenset())

    async def send(self, call: Call, now_us: int) -> Answer:
        document = Document.model_validate_json(call.document)
        receiver = self._receiver
        try:
            url = receiver.url if receiver.url_from is None else read_secret(receiver.url_from, "url_from")
            payload = _payload(receiver, document, call.call_id, now_us)
        except (SecretUnreadableError, webhook.SigningSecretError) as error:
            return Answer(Verdict.RETRY, detail=f"not sent: {error}")
        reply = await self._client.post(url, payload.headers, payload.body, now_us)
        return reply if isinstance(reply, Answer) else self._judged(reply)

    async def close(self) -> None:
        await self._client.close()

    def _judged(self, reply: Reply) -> Answer:
        verdict = verdict_of(reply.status, self._never)
        if verdict is Verdict.DELIVERED:
            return Answer(verdict, reply.status)
        if 300 <= reply.status <= 399:
            remedy = "redirects are not followed; give the address it leads to"
        else:
            remedy = REMEDIES.get(reply.status, "see the receiver's log")
        return Answer(verdict, reply.status, f"HTTP {reply.status}: {remedy}", reply.retry_after_s)


def _payload(receiver: _HttpReceiver, document: Document, call_id: str, now_us: int) -> Payload:
    match receiver:
        case Webhook():
            payload = webhook.render(document)
            secrets = _secrets(receiver.signing_secrets)
            signed = webhook.signed(secrets, call_id, now_us, payload.body)
            return Payload(payload.body, {**receiver.headers, **payload.headers, **signed})
        case Alertmanager():
            payload = alertmanager.render(document, receiver.name)
            if receiver.bearer_token is None:
                return payload
            token = read_secret(receiver.bearer_token, "bearer_token")
            return Payload(payload.body, payload.headers | {"Authorization": f"Bearer {token}"})
        case Slack():
            return slack.render(document)
        case Teams():
            return teams.render(document)
        case PagerDuty():
            return pagerduty.render(document, read_secret(receiver.routing_key, "routing_key"))


def _secrets(references: Sequence[str]) -> list[str]:
    return [read_secret(reference, f"signing_secrets[{place}]") for place, reference in enumerate(references)]


class EmailSender:
    """Mails calls."""

    def __init__(self, receiver: Email, *, resolve: Resolve | None = None) -> None:
        self._receiver = receiver
        self._mailer = Mailer(receiver, resolve=resolve)

    async def send(self, call: Call, now_us: int) -> Answer:
        receiver = self._receiver
        try:
            password = "" if receiver.password is None else read_secret(receiver.password, "password")
        except SecretUnreadableError as error:
            return Answer(Verdict.RETRY, detail=f"not sent: {error}")
        document = Document.model_validate_json(call.document)
        return await self._mailer.send(email.message(document, receiver.sender, receiver.to), password)

    async def close(self) -> None:
        await self._mailer.close()


class FileSender:
    """Appends the body of a webhook as a line, to a file that only its owner reads, or to stdout."""

    def __init__(self, receiver: File) -> None:
        self._path = receiver.path

    async def send(self, call: Call, now_us: int) -> Answer:
        line = webhook.render(Document.model_validate_json(call.document)).body + b"\n"
        try:
            if self._path == "-":
                sys.stdout.write(line.decode())
                sys.stdout.flush()
            else:
                # Not blocking: a pipe that nobody reads is an error, not a wait.
                flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK
                descriptor = os.open(self._path, flags, 0o600)
                try:
                    if os.write(descriptor, line) < len(line):
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                finally:
                    os.close(descriptor)
        except OSError as error:
            return Answer(Verdict.RETRY, detail=f"path: cannot be written: {error.strerror}")
        return Answer(Verdict.DELIVERED)

    async def close(self) -> None:
        return


class AppriseSender:
    """Sends calls through Apprise."""

    def __init__(self, receiver: Apprise) -> None:
        self._receiver = receiver
        self._service = LongTail(local=receiver.local)

    async def send(self, call: Call, now_us: int) -> Answer:
        try:
            url = read_secret(self._receiver.url_from, "url_from")
        except SecretUnreadableError as error:
            return Answer(Verdict.RETRY, detail=f"not sent: {error}")
        return await self._service.send(url, Document.model_validate_json(call.document))

    async def close(self) -> None:
        await self._service.close()
