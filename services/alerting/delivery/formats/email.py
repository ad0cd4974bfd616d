"""Mail in text and HTML. Pure: the same document gives the same bytes, so a repeat is known by its Message-ID."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, parseaddr
from html import escape
from typing import Final

from services.alerting.delivery.formats.fitting import clip, facts, headline, not_shown, of_alert, of_reasons
from services.alerting.document import Document

MOST_SUBJECT: Final = 150


def message(document: Document, sender: str, to: Sequence[str]) -> EmailMessage:
    """A mail from ``sender`` to ``to``, addresses as `address_of` takes them."""
    mail = EmailMessage(policy=SMTP)
    origin = address_of(sender)
    mail["Subject"] = clip(headline(document), MOST_SUBJECT)
    mail["From"] = origin
    mail["To"] = [address_of(recipient) for recipient in to]
    mail["Date"] = format_datetime(datetime.fromisoformat(document.made_at))
    mail["Message-ID"] = f"<{document.call_id}@{origin.domain}>"
    if document.about:
        mail["In-Reply-To"] = mail["References"] = f"<{document.about}@{origin.domain}>"
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(_text(document))
    mail.add_alternative(_html(document), subtype="html")
    mail.set_boundary(f"=_{document.call_id}")
    return mail


def address_of(text: str) -> Address:
    """``name@host`` or ``Some Name <name@host>`` in ASCII; raises ValueError."""
    name, spec = parseaddr(text)
    if not text.isascii() or not text.isprintable() or set(",;") & set(text) or spec.count("@") != 1:
        raise ValueError("give one address in plain ASCII: name@host or Some Name <name@host>")
    return Address(display_name=name, addr_spec=spec)


def _text(document: Document) -> str:
    lines = [_line(document.summary), ""]
    if document.rule_description:
        lines += [_line(document.rule_description), ""]
    lines += [f"{name}: {_line(value)}" for name, value in facts(document)] + [""]
    for told in document.alerts:
        lines.append(f"- {_line(of_alert(told))}")
        if told.reasons:
            lines.append(f"  {_line(of_reasons(told))}")
        if told.acknowledge_url:
            lines.append(f"  Acknowledge: {_line(told.acknowledge_url)}")
    if rest := not_shown(document, len(document.alerts)):
        lines.append(rest)
    if document.url:
        lines += ["", _line(document.url)]
    return "\n".join(lines) + "\n"


def _html(document: Document) -> str:
    rows = "".join(f"<tr><th align=left>{name}</th><td>{_safe(value)}</td></tr>" for name, value in facts(document))
    items = []
    for told in document.alerts:
        reasons = f"<br><small>{_safe(of_reasons(told))}</small>" if told.reasons else ""
        link = _link(told.acknowledge_url, "Acknowledge")
        items.append(f"<li>{_safe(of_alert(told))}{reasons}{f'<br>{link}' if link else ''}</li>")
    rest = not_shown(document, len(document.alerts))
    return (
        f"<p><b>{_safe(document.summary)}</b></p><p>{_safe(document.rule_description)}</p><table>{rows}</table>"
        f"<ul>{''.join(items)}</ul><p>{_safe(rest)} {_link(document.url, 'Look further')}</p>\n"
    )


def _line(text: str) -> str:
    return clip(text, 2_000)


def _safe(text: str) -> str:
    return escape(_line(text))


def _link(url: str | None, words: str) -> str:
    return f'<a href="{_safe(url)}">{words}</a>' if url and url.startswith(("https://", "http://")) else ""
