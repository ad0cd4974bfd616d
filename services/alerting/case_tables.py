"""Alerts, cases and survey facts as the views have them: `case_ports.CaseReader` over any ClickHouse client."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

from schemas.tables import DATABASE
from services.alerting.case_ports import MOST_ROWS, Asked, StepTaken
from services.alerting.cases import Case, CaseState
from services.alerting.permission import SurveyFacts

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

ALERT_COLUMNS: Final = (
    "alert_id",
    "rule",
    "customer_id",
    "subject",
    "severity",
    "owner",
    "fired_at",
    "resolved_at",
    "due_at",
    "fate",
    "calls",
    "delivered",
    "delivered_at",
    "summary",
    "risk",
    "band",
    "score",
    "value_at_risk",
    "segment",
    "reasons",
)
_CASE_COLUMNS: Final = (
    "case_id",
    "customer_id",
    "rule",
    "severity",
    "owner",
    "state",
    "opened_at",
    "due_at",
    "overdue",
    "acknowledged_at",
    "acknowledged_by",
    "closed_at",
    "closed_by",
    "outcome",
    "notes",
    "assignments",
    "resolved_at",
    "summary",
    "risk",
    "band",
    "score",
    "value_at_risk",
    "segment",
)
"""In the order of the fields of `Case`."""
ALERT_FILTERS: Final = ("rule", "customer_id", "fate", "severity", "owner")
CASE_FILTERS: Final = ("state", "owner", "rule", "customer_id", "severity")

_STEPS: Final = f"""
SELECT occurred_at, attributes['step'], attributes['by'], attributes['owner'], attributes['outcome'], attributes['note']
FROM {DATABASE}.touchpoints FINAL
WHERE customer_id = %(customer)s AND kind = 'case_step' AND case_id = %(case)s
ORDER BY log_offset
"""
# As view survey_permission, reading one customer's rows alone.
_FACTS: Final = f"""
SELECT last_feedback_at, last_follow_up_at, open_complaints,
    (
        SELECT max(occurred_at) FROM {DATABASE}.touchpoints
        WHERE customer_id = %(customer)s AND kind IN ('survey_sent', 'outreach')
    ) AS asked_at
FROM {DATABASE}.customer_state FINAL
WHERE customer_id = %(customer)s
"""


class Client(Protocol):
    """A ClickHouse client, as far as it is needed: ``%(name)s`` are replaced by quoted parameters."""

    def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> Sequence[tuple[Any, ...]]: ...


class CaseTables:
    """`CaseReader` by the views. Raises as the client does."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def alerts(self, asked: Asked) -> list[dict[str, Any]]:
        """`CaseReader.alerts`."""
        rows = self._page("alerts", ALERT_COLUMNS, ALERT_FILTERS, "fired_at", "alert_id", asked)
        return [dict(zip(ALERT_COLUMNS, map(_plain, row), strict=True)) for row in rows]

    def cases(self, asked: Asked) -> list[Case]:
        """`CaseReader.cases`."""
        return [_case(row) for row in self._page("cases", _CASE_COLUMNS, CASE_FILTERS, "opened_at", "case_id", asked)]

    def case(self, case_id: str) -> Case | None:
        """`CaseReader.case`."""
        rows = self._client.query(
            f"SELECT {', '.join(_CASE_COLUMNS)} FROM {DATABASE}.cases WHERE case_id = %(case)s", {"case": case_id}
        )
        return _case(rows[0]) if rows else None

    def steps(self, case: Case) -> list[StepTaken]:
        """`CaseReader.steps`."""
        rows = self._client.query(_STEPS, {"customer": case.customer_id, "case": case.case_id})
        return [StepTaken(us(at), *said) for at, *said in rows]

    def survey_facts(self, customer_id: str) -> SurveyFacts | None:
        """`CaseReader.survey_facts`."""
        rows = self._client.query(_FACTS, {"customer": customer_id})
        if not rows:
            return None
        feedback, follow_up, complaints, asked = rows[0]
        return SurveyFacts(us(feedback), us(follow_up), int(complaints), us(asked) if asked else 0)

    def ready(self) -> None:
        """`CaseReader.ready`."""
        self._client.query(f"SELECT case_id FROM {DATABASE}.cases LIMIT 0")

    def _page(
        self, view: str, columns: Sequence[str], filters: Sequence[str], moment: str, key: str, asked: Asked
    ) -> Sequence[tuple[Any, ...]]:
        if unknown := set(asked.equal) - set(filters):
            raise ValueError(f"{view} cannot be chosen by {', '.join(sorted(unknown))}")
        wanted = [f"{name} = %({name})s" for name in asked.equal]
        values: dict[str, Any] = {**asked.equal, "limit": max(1, min(asked.limit, MOST_ROWS)), "since": asked.since_us}
        wanted.append(f"{moment} >= fromUnixTimestamp64Micro(toInt64(%(since)s), 'UTC')")
        if asked.overdue:
            wanted.append("overdue")
        if asked.after is not None:
            values["after"], values["after_id"] = asked.after
            wanted.append(f"({moment}, {key}) < (fromUnixTimestamp64Micro(toInt64(%(after)s), 'UTC'), %(after_id)s)")
        return self._client.query(
            f"SELECT {', '.join(columns)} FROM {DATABASE}.{view} WHERE {' AND '.join(wanted)} "
            f"ORDER BY {moment} DESC, {key} DESC LIMIT %(limit)s",
            values,
        )


def us(moment: datetime) -> int:
    """UTC microseconds."""
    return (moment.replace(tzinfo=moment.tzinfo or UTC) - _EPOCH) // timedelta(microseconds=1)


def _plain(value: Any) -> Any:
    return us(value) if isinstance(value, datetime) else value


def _case(row: Sequence[Any]) -> Case:
    named: dict[str, Any] = dict(zip(_CASE_COLUMNS, map(_plain, row), strict=True))
    named["state"], named["overdue"] = CaseState(named["state"]), bool(named["overdue"])
    return Case(*named.values())
