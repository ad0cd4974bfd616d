"""PagerDuty Events API v2: a firing call triggers, a resolved one resolves. Pure."""

from __future__ import annotations

from typing import Final

from services.alerting.alert import stable_id
from services.alerting.delivery.formats.fitting import Payload, as_json, clip, fitted
from services.alerting.document import Document

MOST_BYTES: Final = 400_000
"""PagerDuty refuses events above 512 kB."""
MOST_SUMMARY: Final = 1_024
MOST_KEY: Final = 255
MOST_LINKS: Final = 10
NEVER_STATUSES: Final = frozenset({400})
"""PagerDuty's documentation: an event it calls invalid is not to be sent again."""


def render(document: Document, routing_key: str) -> Payload:
    """An event; ``routing_key`` is a secret and stands in the body."""
    return Payload(fitted(document, lambda shown: _body(shown, routing_key), MOST_BYTES))


def dedup_key(document: Document) -> str:
    """By which PagerDuty knows that trigger and resolve are about the same.

    ``rule:customer`` of a call about one; of a call about several, the id of the firing call.
    """
    if document.alerts_total == 1 and document.alerts:
        key = f"{document.rule}:{document.alerts[0].customer_id or document.alerts[0].subject}"
        if len(key) <= MOST_KEY and key.isprintable():
            return key
        return f"{document.rule}:{stable_id('dedup', key)}"
    return document.about or document.call_id


def _body(document: Document, routing_key: str) -> bytes:
    links = [
        {"href": told.acknowledge_url, "text": clip(f"Acknowledge {told.subject or told.customer_id}", 100)}
        for told in document.alerts[:MOST_LINKS]
        if told.acknowledge_url
    ]
    return as_json(
        {
            "routing_key": routing_key,
            "event_action": "trigger" if document.status == "firing" else "resolve",
            "dedup_key": dedup_key(document),
            "client": "Touchstone",
            **({"client_url": document.url} if document.url else {}),
            "links": links,
            "payload": {
                "summary": clip(f"{document.rule}: {document.summary}", MOST_SUMMARY),
                "severity": document.severity,
                "source": "touchstone",
                "timestamp": document.made_at,
                "class": document.rule,
                "group": document.owner,
                "custom_details": document.model_dump(mode="json", exclude={"url"}),
            },
        }
    )
