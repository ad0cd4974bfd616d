"""One mail to a server, over a socket that is connected to a checked address."""

from __future__ import annotations

import asyncio
import ssl
from email.message import EmailMessage
from typing import Final

import aiosmtplib

from services.alerting.delivery.addresses import AddressRefusedError
from services.alerting.delivery.connect import Resolve, Resolver, connected_socket, tls_context
from services.alerting.delivery.http import describe
from services.alerting.delivery.receivers import Email
from services.alerting.delivery.retry import Answer, Verdict

MOST_S: Final = 15.0
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
        try:
            async with asyncio.timeout(MOST_S):
                refused = await self._send(mail, password)
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
        except aiosmtplib.SMTPNotSupported:
            return Answer(
                Verdict.RETRY, detail="the server offers no STARTTLS or no login that we know; see tls and user"
            )
        except (aiosmtplib.SMTPException, OSError) as error:
            return Answer(Verdict.RETRY, detail=describe(error))
        some = f"{refused} of {len(self._receiver.to)} recipients are refused; mend `to`" if refused else ""
        return Answer(Verdict.DELIVERED, 250, some)

    async def close(self) -> None:
        if self._resolver is not None:
            self._resolver.close()

    async def _send(self, mail: EmailMessage, password: str) -> int:
        receiver = self._receiver
        if self._context is None:
            self._context = tls_context(receiver.ca_file)
        connection = await connected_socket(receiver.host, receiver.port, receiver.local, self._resolve)
        client = aiosmtplib.SMTP(
            hostname=receiver.host.rstrip("."),
            sock=connection,
            local_hostname=HELLO,
            use_tls=receiver.tls == "implicit",
            start_tls=receiver.tls == "starttls",
            tls_context=None if receiver.tls == "none" else self._context,
            timeout=MOST_S,
        )
        try:
            await client.connect()
            if receiver.user:
                await client.login(receiver.user, password)
            refused, _ = await client.send_message(mail)
            return len(refused)
        finally:
            client.close()
            connection.close()


def _refusal(code: int, what: str) -> Answer:
    verdict = Verdict.NEVER if 500 <= code <= 599 and code not in MENDABLE else Verdict.RETRY
    return Answer(verdict, code, f"SMTP {code}: {what}")
