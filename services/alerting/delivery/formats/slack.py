"""A Slack message of at most ten blocks, built and validated by Slack's own models. Pure."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from slack_sdk.models.blocks import Block, ContextBlock, HeaderBlock, MarkdownTextObject, PlainTextObject, SectionBlock

from services.alerting.delivery.formats.fitting import (
    Payload,
    as_json,
    clip,
    facts,
    headline,
    not_shown,
    of_alert,
    of_reasons,
)
from services.alerting.document import Document, Told

MOST_BLOCKS: Final = 10
MOST_ALERTS: Final = 6
HEADER_TEXT: Final = 150
SUMMARY_TEXT: Final = 2_500
ALERT_TEXT: Final = 1_000
FIELD_TEXT: Final = 300
"""All texts together stay below 13,200 characters, from where on Slack refuses a message (``msg_blocks_too_long``)."""
URL_TEXT: Final = 1_000
URL_SIGNS: Final = ":/?#[]@!$&()*+,;=%~-._"
"""What stays as it is in a link; a bar or an angle bracket would end it."""


def render(document: Document) -> Payload:
    """A header, the summary with its facts, some alerts, and how many are not shown."""
    shown = document.alerts[:MOST_ALERTS]
    blocks: list[Block] = [
        HeaderBlock(text=PlainTextObject(text=escaped(f"{document.status.upper()} {document.rule}", HEADER_TEXT))),
        SectionBlock(
            text=_text(escaped(document.summary, SUMMARY_TEXT)),
            fields=[_text(f"*{name}*\n{escaped(value, FIELD_TEXT)}") for name, value in facts(document)],
        ),
    ]
    blocks += [SectionBlock(text=_text(_alert(told))) for told in shown]
    foot = [_text(part) for part in (not_shown(document, len(shown)), _link(document.url, "Look further")) if part]
    if foot:
        blocks.append(ContextBlock(elements=foot))
    return Payload(
        as_json(
            {
                "text": escaped(headline(document), SUMMARY_TEXT),
                "blocks": [block.to_dict() for block in blocks],
                # Slack would open the links by itself, those that acknowledge among them.
                "unfurl_links": False,
                "unfurl_media": False,
            }
        )
    )


def escaped(text: str, most: int) -> str:
    """``& < >`` as Slack wants them, at most ``most`` characters afterwards, no entity cut in two."""
    clean = clip(text, most)
    whole = _escape(clean)
    while len(whole) > most:
        clean = clip(clean, len(clean) - 1 - (len(whole) - most) // 5)
        whole = _escape(clean)
    return whole


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _text(text: str) -> MarkdownTextObject:
    # Verbatim: what stands in the text makes no link and calls nobody.
    return MarkdownTextObject(text=text or " ", verbatim=True)


def _link(url: str | None, words: str) -> str:
    if not url or len(url) > URL_TEXT:
        return ""
    address = quote(url, safe=URL_SIGNS).replace("&", "&amp;")
    return f"<{address}|{words}>"


def _alert(told: Told) -> str:
    parts = [escaped(of_alert(told), ALERT_TEXT // 2)]
    if told.reasons:
        parts.append(escaped(of_reasons(told), ALERT_TEXT // 2))
    parts.append(_link(told.acknowledge_url, "Acknowledge"))
    return "\n".join(part for part in parts if part)
