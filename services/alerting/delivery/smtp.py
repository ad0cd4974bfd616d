"""One mail to a server, over a socket that is connected to a checked address."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from email.message import EmailMessage
from typing import Final

import aiosmtplib

from services.alerting.delivery.addresses import AddressRefusedError
from services.alerting.delivery.connect import Resolve, Resolver, connected_socket, tls_context
from services.alerting.delivery.http import describe
from services.alerting.delivery.receivers import Email
from services.alerting.delivery.retry import Answer, Verdict

MOST_S: Final = 15.0
LEAVE_S: Final = 1.0
HELLO: Final = "touchstone"
"""How we call ourselves: the machine's name is nobody's concern."""
MENDABLE: Final = frozenset({530, 534, 535, 538, 550, 551, 553, 554})
"""Permanent to SMTP, and yet mended in days: credentials, a mailbox, a policy. Other 5xx refuse the mail itself."""


class Mailer:
    """Sends mails to the server of one receiver; a connection for each."""

    def __init__(self, receiver: Email, *, resolve: Resolve | None = None) -> None:
        self._receiver = receiver
        self._resolver = None if resolve else Resolver()
        self._resolve: Resolve = resolve or self._resolver or Resolver()
        self._context: ssl.SSLContext | None = None

    async def send(self, mail: EmailMessage, password: str) -> Answer:
        """Try once. A mail that some recipients get counts as delivered: a repeat would reach them again."""
        client = aiosmtplib.SMTP()
        try:
            async with asyncio.timeout(MOST_S):
                client = await self._opened(password)
                refused, _ = await client.send_message(mail)
        except AddressRefusedError as error:
            return Answer(Verdict.RETRY, detail=f"refused: {error}")
        except TimeoutError:
            return Answer(Verdict.RETRY, detail=f"no whole answer within {MOST_S:g} s")
        except aiosmtplib.SMTPRecipientsRefused as error:
            return _refusal(max(recipient.code for recipient in error.recipients), "every recipient is refused")
        except aiosmtplib.SMTPAuthenticationError as error:
            return _refusal(error.code, "user or password is refused")
        except aiosmtplib.SMTPResponseException as error:
            return _refusal(error.code, "the server refuses")
        except (aiosmtplib.SMTPException, OSError) as error:
            if type(error) in (aiosmtplib.SMTPException, aiosmtplib.SMTPNotSupported):
                return Answer(
                    Verdict.RETRY, detail="the server offers no STARTTLS, or no login that we know; see tls, user"
                )
            return Answer(Verdict.RETRY, detail=describe(error))
        finally:
            await _leave(client)
        some = f"{len(refused)} of {len(self._receiver.to)} recipients are refused; mend `to`" if refused else ""
        return Answer(Verdict.DELIVERED, 250, some)

    async def close(self) -> None:
        if self._resolver is not None:
            self._resolver.close()

    async def _opened(self, password: str) -> aiosmtplib.SMTP:
        receiver = self._receiver
        context = None
        if receiver.tls != "none":
            context = self._context = self._context or await asyncio.to_thread(tls_context, receiver.ca_file)
        client = aiosmtplib.SMTP(
            hostname=receiver.host.rstrip("."),
            sock=await connected_socket(receiver.host, receiver.port, receiver.local, self._resolve),
            local_hostname=HELLO,
            use_tls=receiver.tls == "implicit",
            start_tls=receiver.tls == "starttls",
            tls_context=context,
            timeout=MOST_S,
        )
        try:
            await client.connect()  # from here on the socket is the client's
            if receiver.user:
                await client.login(receiver.user, password)
        except BaseException:
            _abort(client)
            raise
        return client


async def _leave(client: aiosmtplib.SMTP) -> None:
    """Take leave, shortly: the mail has been answered for, so how this goes changes nothing."""
    if client.is_connected:
        with suppress(aiosmtplib.SMTPException, OSError):
            await client.quit(timeout=LEAVE_S)
    _abort(client)


def _abort(client: aiosmtplib.SMTP) -> None:
    if isinstance(client.transport, asyncio.WriteTransport):
        client.transport.abort()


def _refusal(code: int, what: str) -> Answer:
    verdict = Verdict.NEVER if 500 <= code <= 599 and code not in MENDABLE else Verdict.RETRY
    return Answer(verdict, code, f"SMTP {code}: {what}")
