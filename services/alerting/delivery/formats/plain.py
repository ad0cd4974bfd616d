"""A title and some lines of text, for services that take no more. Pure."""

from __future__ import annotations

from typing import Final, Literal

from services.alerting.delivery.formats.fitting import clip, headline, not_shown, of_alert
from services.alerting.document import Document

MOST_TITLE: Final = 150
MOST_ALERTS: Final = 10
LINE: Final = 500

Kind = Literal["failure", "warning", "info", "success"]
_KINDS: Final[dict[str, Kind]] = {"critical": "failure", "error": "failure", "warning": "warning", "info": "info"}


def title(document: Document) -> str:
    return clip(headline(document), MOST_TITLE)


def text(document: Document) -> str:
    shown = document.alerts[:MOST_ALERTS]
    lines = [document.summary, *(of_alert(told) for told in shown), not_shown(document, len(shown)), document.url or ""]
    return "\n".join(clip(line, LINE) for line in lines if line)


def kind(document: Document) -> Kind:
    """As Apprise sorts notices."""
    return "success" if document.status == "resolved" else _KINDS[document.severity]
