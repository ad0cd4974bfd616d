"""A case in each of its states."""

from __future__ import annotations

from dataclasses import replace

from services.alerting.cases import Case, CaseState
from services.alerting.permission import DAY_US

NOW_US = 1_772_443_245_000_000
OPEN = Case(
    case_id="a" * 32,
    customer_id="ada",
    rule="leaving",
    severity="error",
    owner="retention",
    state=CaseState.OPEN,
    opened_us=NOW_US - DAY_US,
    due_us=NOW_US,
    overdue=False,
    acknowledged_us=0,
    acknowledged_by="",
    closed_us=0,
    closed_by="",
    outcome="",
    notes=0,
    assignments=0,
    resolved_us=0,
    summary="ada is about to leave",
    risk=0.8,
    band="high",
    score=41.0,
    value_at_risk=120.0,
    segment="gold",
)
TAKEN = replace(OPEN, state=CaseState.ACKNOWLEDGED, acknowledged_us=NOW_US - 5, acknowledged_by="lee")
CLOSED = replace(OPEN, state=CaseState.CLOSED, closed_us=NOW_US - 7, closed_by="lee", outcome="failed")
