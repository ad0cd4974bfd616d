"""Documents for tests of formats."""

from __future__ import annotations

from services.alerting.alert import stable_id
from services.alerting.document import Document, Told, Why

HOSTILE = "<script>alert(1)</script> & <!channel> *b* [x](http://evil)\r\nBcc: all@example.com \u202e\x1b[31m=cmd|"


def told(number: int = 0, *, resolved: bool = False, text: str = "Left unanswered for 30 hours", wide: int = 1) -> Told:
    return Told(
        alert_id=stable_id("alert", str(number)),
        status="resolved" if resolved else "firing",
        customer_id=f"c-{number}",
        subject=f"c-{number}",
        summary=text * wide,
        fired_at="2026-09-21T14:13:20Z",
        resolved_at="2026-09-22T14:13:20Z" if resolved else None,
        due_at="2026-09-22T14:13:20Z",
        risk=0.812,
        band="high",
        score=31.5,
        value_at_risk=240.0,
        segment="gold",
        reasons=tuple(Why(reason=f"{text} {place}" * wide, log_odds=1.25 - place) for place in range(5)),
        acknowledge_url="https://cx.example.com/ack?token=a&b=c|d",
    )


def document(
    alerts: int = 1, *, total: int | None = None, resolved: bool = False, text: str = "Leaving", wide: int = 1
) -> Document:
    return Document(
        call_id=stable_id("call", str(alerts), str(resolved)),
        about=stable_id("call", str(alerts), "False") if resolved else "",
        status="resolved" if resolved else "firing",
        rule="leaving-and-valuable",
        rule_description=f"{text}, and worth it",
        severity="error",
        owner="retention",
        summary=text * wide,
        made_at="2026-09-21T14:13:20.123456Z",
        alerts_total=alerts if total is None else total,
        value_at_risk_total=1_234.5,
        alerts=tuple(told(number, resolved=resolved, text=text, wide=wide) for number in range(alerts)),
        url="https://cx.example.com/cases?rule=x&y=z",
    )
