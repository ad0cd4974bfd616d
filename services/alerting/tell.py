"""Planned calls to what receivers are told: a document, the costliest customers first, small whatever the names are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

from services.alerting import alert as kept
from services.alerting.alert import Alert, Call, Turn, stable_id
from services.alerting.document import MOST_REASONS, MOST_SHOWN, Document, Severity, Told, Why
from services.alerting.plan import PlannedCall, costliest_first
from services.alerting.rules.fields import printable
from services.alerting.rules.model import Focus, Rule, RuleSet

MOST_BYTES: Final = 20_000
"""Of a document as JSON: formats that escape it once more stay far below what receivers take (24 to 512 KiB)."""
LONGEST_TEXT: Final = 300
LONGEST_ID: Final = 255
"""Characters of a customer's name, which the edge takes no longer."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def calls(planned: PlannedCall, rules: RuleSet, told: kept.Told | None = None) -> list[Call]:
    """A call for each receiver of a planned one. The same plan gives the same ids."""
    planned = replace(planned, alerts=tuple(costliest_first(planned.alerts)))
    rule = rules.by_name.get(planned.rule)
    severity = rule.severity if rule is not None else planned.alerts[0].severity
    ids = tuple(sorted(alert.alert_id for alert in planned.alerts))
    made = []
    for receiver in planned.receivers:
        call_id = stable_id("call", planned.turn, planned.rule, receiver, *ids)
        about = planned.about.get(receiver, "")
        text = document_json(planned, rule, call_id, about, told or kept.Told())
        made.append(Call(call_id, planned.turn, about, planned.rule, severity, receiver, planned.made_us, 0, ids, text))
    return made


def document_json(planned: PlannedCall, rule: Rule | Focus | None, call_id: str, about: str, told: kept.Told) -> str:
    """`document.Document` as JSON of at most `MOST_BYTES`: reasons give way first, then the cheapest alerts."""
    shown, reasons = min(len(planned.alerts), MOST_SHOWN), MOST_REASONS
    while True:
        made = document(planned, rule, call_id, about, told, planned.alerts[:shown], reasons)
        text = made.model_dump_json()
        if len(text.encode()) <= MOST_BYTES or shown == 0:
            return text
        if reasons:
            reasons = reasons // 2
        else:
            shown = shown // 2


def document(
    planned: PlannedCall,
    rule: Rule | Focus | None,
    call_id: str,
    about: str,
    told: kept.Told,
    shown: Sequence[Alert],
    most_reasons: int = MOST_REASONS,
) -> Document:
    """What a call says, with the alerts ``shown`` told one by one."""
    first = planned.alerts[0]
    severity: Severity = rule.severity if rule is not None else _severity(first.severity)
    return Document(
        call_id=call_id,
        about=about,
        status=planned.turn.value,
        rule=planned.rule,
        rule_description=printable(rule.description, LONGEST_TEXT) if rule is not None else "",
        severity=severity,
        owner=printable(rule.owner if rule is not None else first.owner, 100),
        summary=summary(planned),
        made_at=iso(planned.made_us),
        over_budget=planned.notice,
        alerts_total=len(planned.alerts),
        value_at_risk_total=round(sum(_number(alert.facts, "value_at_risk") or 0.0 for alert in planned.alerts), 2),
        alerts=tuple(_told(alert, told, most_reasons) for alert in shown),
        url=told.base_url or None,
    )


def summary(planned: PlannedCall) -> str:
    """A call in a sentence or two."""
    count = len(planned.alerts)
    first = planned.alerts[0]
    if planned.turn is Turn.RESOLVED:
        return f"Resolved: {printable(first.subject)}." if count == 1 else f"Resolved: all {count:,} alerts."
    if count == 1 and not planned.notice:
        return printable(first.summary, LONGEST_TEXT)
    costs = sum(_number(alert.facts, "value_at_risk") or 0.0 for alert in planned.alerts)
    if planned.notice:
        alerts = "1 alert was" if count == 1 else f"{count:,} alerts were"
        return (
            f"{alerts} not called: the budget of rule {planned.rule} is used up. "
            f"Value at risk {costs:,.2f}. Raise the budget or narrow the rule."
        )
    customers = sum(1 for alert in planned.alerts if alert.customer_id)
    who = f"{count:,} customers at once" if customers == count else f"{count:,} alerts at once"
    worst = _commonest([str(alert.facts.get("worst_touchpoint", "")) for alert in planned.alerts])
    where = f" Worst moment most often: {printable(worst)}." if worst else ""
    return f"{who}, value at risk {costs:,.2f} together; the costliest: {printable(first.subject)}.{where}"


def iso(at_us: int) -> str:
    """ISO 8601 with microseconds, UTC."""
    return (_EPOCH + timedelta(microseconds=at_us)).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _told(alert: Alert, told: kept.Told, most_reasons: int) -> Told:
    facts = alert.facts
    return Told(
        alert_id=alert.alert_id,
        status=alert.turn.value,
        customer_id=_cut(alert.customer_id, LONGEST_ID),
        subject=printable(alert.subject, LONGEST_ID),
        summary=printable(alert.summary, LONGEST_TEXT),
        fired_at=iso(alert.fired_us),
        resolved_at=iso(alert.at_us) if alert.turn is Turn.RESOLVED else None,
        due_at=iso(alert.due_us) if alert.due_us else None,
        risk=_number(facts, "risk"),
        band=printable(str(facts["band"])) if facts.get("band") else None,
        score=_number(facts, "score"),
        value_at_risk=_number(facts, "value_at_risk"),
        segment=printable(str(facts.get("segment", ""))),
        reasons=tuple(
            Why(reason=printable(reason, LONGEST_TEXT), log_odds=round(log_odds, 4))
            for reason, log_odds in list(alert.reasons)[:most_reasons]
        ),
        acknowledge_url=told.links.get(alert.alert_id),
    )


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _number(facts: Mapping[str, float | str], name: str) -> float | None:
    value = facts.get(name)
    return round(float(value), 4) if isinstance(value, int | float) else None


def _severity(severity: str) -> Severity:
    """Of a rule that is no longer in the file, as it was."""
    match severity:
        case "critical" | "error" | "warning":
            return severity
        case _:
            return "info"


def _commonest(names: Sequence[str]) -> str:
    counted: dict[str, int] = {}
    for name in names:
        if name:
            counted[name] = counted.get(name, 0) + 1
    return min(counted, key=lambda name: (-counted[name], name), default="")
