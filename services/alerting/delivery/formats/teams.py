"""A message for a workflow of Microsoft Teams: an adaptive card 1.4. Pure.

Only rich text blocks carry what others wrote: a text block would read it as Markdown, links included. An answer 202
says that the workflow has started, not that the card was posted.
"""

from __future__ import annotations

from typing import Any, Final

from services.alerting.delivery.formats.fitting import (
    Payload,
    as_json,
    clip,
    facts,
    fitted,
    headline,
    not_shown,
    of_alert,
    of_reasons,
)
from services.alerting.document import Document

MOST_BYTES: Final = 24_000
"""Teams refuses messages above 28 kB."""
MOST_ALERTS: Final = 10
TEXT: Final = 1_000
_COLOURS: Final = {"critical": "attention", "error": "attention", "warning": "warning", "info": "accent"}


def render(document: Document) -> Payload:
    """A headline, the facts, some alerts, links to look further and to acknowledge the first."""
    return Payload(fitted(document, _body, MOST_BYTES))


def _line(text: str, **style: Any) -> dict[str, Any]:
    run = {"type": "TextRun", "text": clip(text, TEXT), **style}
    return {"type": "RichTextBlock", "inlines": [run]}


def _body(document: Document) -> bytes:
    shown = document.alerts[:MOST_ALERTS]
    colour = "good" if document.status == "resolved" else _COLOURS[document.severity]
    blocks = [
        _line(headline(document), weight="bolder", size="medium", color=colour),
        _line(" · ".join(f"{name}: {value}" for name, value in facts(document))),
    ]
    for told in shown:
        blocks.append(_line(of_alert(told)) | {"separator": True})
        if told.reasons:
            blocks.append(_line(of_reasons(told), isSubtle=True))
    if rest := not_shown(document, len(shown)):
        blocks.append(_line(rest, isSubtle=True))
    links = [("Look further", document.url)]
    if len(shown) == 1:
        links.append(("Acknowledge", shown[0].acknowledge_url))
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "fallbackText": clip(headline(document), TEXT),
        "body": blocks,
        "actions": [{"type": "Action.OpenUrl", "title": words, "url": url} for words, url in links if url],
    }
    attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": None, "content": card}
    return as_json({"type": "message", "attachments": [attachment]})
