"""The webhook payload of Prometheus Alertmanager, version 4: for everything that already takes it. Pure."""

from __future__ import annotations

from typing import Final

from services.alerting.alert import stable_id
from services.alerting.delivery.formats.fitting import Payload, as_json, fitted
from services.alerting.document import Document, Told

NEVER: Final = "0001-01-01T00:00:00Z"
"""Go's zero time: the alert has not ended."""
MOST_BYTES: Final = 1_000_000


def render(document: Document, receiver: str) -> Payload:
    """``receiver``: its name in the rules file, as Alertmanager gives its own."""
    return Payload(fitted(document, lambda shown: _body(shown, receiver), MOST_BYTES))


def fingerprint(rule: str, told: Told) -> str:
    """16 hexadecimal digits, the same as long as the rule and the customer are."""
    return stable_id("fingerprint", rule, told.customer_id or told.subject)[:16]


def _labels(document: Document, told: Told) -> dict[str, str]:
    labels = {
        "alertname": document.rule,
        "severity": document.severity,
        "owner": document.owner,
        "customer_id": told.customer_id,
        "band": told.band or "",
        "segment": told.segment,
    }
    if not told.customer_id:
        labels["subject"] = told.subject
    # An empty label is no label, as Prometheus sees it.
    return {name: value for name, value in labels.items() if value}


def _annotations(document: Document, told: Told) -> dict[str, str]:
    numbers = {"risk": told.risk, "score": told.score, "value_at_risk": told.value_at_risk}
    annotations = {"summary": told.summary, "description": document.rule_description, "alert_id": told.alert_id}
    annotations |= {name: f"{number:g}" for name, number in numbers.items() if number is not None}
    annotations["reasons"] = "; ".join(why.reason for why in told.reasons)
    annotations["due_at"] = told.due_at or ""
    annotations["acknowledge_url"] = told.acknowledge_url or ""
    return {name: value for name, value in annotations.items() if value}


def _common(maps: list[dict[str, str]]) -> dict[str, str]:
    if not maps:
        return {}
    return dict(item for item in maps[0].items() if all(item in other.items() for other in maps[1:]))


def _body(document: Document, receiver: str) -> bytes:
    labels = [_labels(document, told) for told in document.alerts]
    annotations = [_annotations(document, told) for told in document.alerts]
    alerts = [
        {
            "status": told.status,
            "labels": labels[index],
            "annotations": annotations[index],
            "startsAt": told.fired_at,
            "endsAt": (told.resolved_at or document.made_at) if told.status == "resolved" else NEVER,
            "generatorURL": document.url or "",
            "fingerprint": fingerprint(document.rule, told),
        }
        for index, told in enumerate(document.alerts)
    ]
    group = {"alertname": document.rule}
    return as_json(
        {
            "version": "4",
            # The same for a firing call and for the notice that its alerts have resolved.
            "groupKey": f'{{}}:{{alertname="{document.rule}"}}:{document.about or document.call_id}',
            "truncatedAlerts": max(document.alerts_total - len(alerts), 0),
            "status": document.status,
            "receiver": receiver,
            "groupLabels": group,
            "commonLabels": _common(labels) or group,
            "commonAnnotations": _common(annotations),
            "externalURL": document.url or "",
            "alerts": alerts,
        }
    )
