"""Texts and documents cut to what a receiver takes. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from services.alerting.document import Document, Told

JSON_HEADERS: Final = {"Content-Type": "application/json"}
SHORT_TEXT: Final = 300
"""Characters of each text in a document that is too large with one alert in it."""


@dataclass(frozen=True, slots=True)
class Payload:
    """What goes over the wire."""

    body: bytes
    headers: dict[str, str] = field(default_factory=lambda: dict(JSON_HEADERS))


def as_json(value: Any) -> bytes:
    """JSON, keys in the order given, UTF-8."""
    return orjson.dumps(value)


def clip(text: str, most: int) -> str:
    """At most ``most`` characters; the end shows that something is missing. Control characters become blanks."""
    clean = "".join(character if character.isprintable() else " " for character in text)
    return clean if len(clean) <= most else clean[: most - 1].rstrip() + "…"


def fitted(document: Document, render: Callable[[Document], bytes], most_bytes: int) -> bytes:
    """What ``render`` makes of as many of the document's alerts, the first ones, as fit into ``most_bytes``.

    A document whose first alert alone is too large gets its texts cut; ``alerts_total`` says how many there are.
    """
    body = render(document)
    if len(body) <= most_bytes:
        return body
    for shorter in (document, _cut(document)):
        fits, too_many = 0, len(shorter.alerts) + 1
        while too_many - fits > 1:
            middle = (fits + too_many) // 2
            if len(render(shorter.model_copy(update={"alerts": shorter.alerts[:middle]}))) <= most_bytes:
                fits = middle
            else:
                too_many = middle
        if fits:
            return render(shorter.model_copy(update={"alerts": shorter.alerts[:fits]}))
    return render(_cut(document).model_copy(update={"alerts": ()}))


def money(amount: float) -> str:
    """``12,345``."""
    return f"{amount:,.0f}"


def headline(document: Document) -> str:
    """One line that says it all: ``FIRING leaving-and-valuable: ...``."""
    return f"{document.status.upper()} {document.rule}: {document.summary}"


def facts(document: Document) -> list[tuple[str, str]]:
    """What is told of every call, as pairs of a name and a value."""
    return [
        ("Severity", document.severity),
        ("Owner", document.owner),
        ("Alerts", str(document.alerts_total)),
        ("Value at risk", money(document.value_at_risk_total)),
    ]


def of_alert(told: Told) -> str:
    """What is told of an alert, in a line."""
    parts = [told.subject or told.customer_id]
    if told.risk is not None:
        parts.append(f"risk {told.risk:.0%}")
    if told.value_at_risk is not None:
        parts.append(f"value at risk {money(told.value_at_risk)}")
    if told.due_at is not None:
        parts.append(f"due {told.due_at}")
    return f"{', '.join(parts)}: {told.summary}"


def of_reasons(told: Told) -> str:
    """Why, in a line; empty where no reason is known."""
    return "; ".join(f"{why.reason} ({why.log_odds:+.2f})" for why in told.reasons)


def not_shown(document: Document, shown: int) -> str:
    """How many alerts are not told one by one; empty where all are."""
    return f"and {document.alerts_total - shown} more" if document.alerts_total > shown else ""


def _cut(document: Document) -> Document:
    alerts = tuple(
        told.model_copy(
            update={
                "subject": clip(told.subject, SHORT_TEXT),
                "summary": clip(told.summary, SHORT_TEXT),
                "segment": clip(told.segment, SHORT_TEXT),
                "reasons": tuple(
                    why.model_copy(update={"reason": clip(why.reason, SHORT_TEXT)}) for why in told.reasons
                ),
            }
        )
        for told in document.alerts
    )
    return document.model_copy(
        update={
            "alerts": alerts,
            "summary": clip(document.summary, SHORT_TEXT),
            "rule_description": clip(document.rule_description, SHORT_TEXT),
        }
    )
