"""What a call says, whatever the format: a frozen document that every payload is made from."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

MOST_SHOWN: Final = 25
"""Alerts that are told one by one; the rest is counted. Keeps a payload below 20 kB."""
MOST_REASONS: Final = 5

Severity = Literal["critical", "error", "warning", "info"]


class _Closed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Why(_Closed):
    """A signed contribution to the risk, in the customer's words."""

    reason: str
    log_odds: float


class Told(_Closed):
    """One alert as it is told. Times are ISO 8601, UTC."""

    alert_id: str
    status: Literal["firing", "resolved"]
    customer_id: str = Field(description="Empty where the alert is about a part of the company.")
    subject: str
    summary: str
    fired_at: str
    resolved_at: str | None = None
    due_at: str | None = None
    risk: float | None = None
    band: str | None = None
    score: float | None = None
    value_at_risk: float | None = None
    segment: str = ""
    reasons: tuple[Why, ...] = ()
    acknowledge_url: str | None = None


class Document(_Closed):
    """What one call says."""

    version: Literal[1] = 1
    call_id: str
    about: str = Field("", description="Of a resolved notice: the call whose alerts have resolved.")
    status: Literal["firing", "resolved"]
    rule: str
    rule_description: str = ""
    severity: Severity
    owner: str
    summary: str
    made_at: str
    over_budget: bool = Field(
        False, description="A notice: its alerts were not called one by one since the rule's budget is used up."
    )
    alerts_total: int
    value_at_risk_total: float
    alerts: tuple[Told, ...] = Field(description="The costliest first, some of them where there are many.")
    url: str | None = Field(None, description="Where people look further.")
