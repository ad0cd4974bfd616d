"""The dashboard's statements, as Grafana's plugin sends them, on the engine with all tables and views."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from infra.clickhouse.client import ClickHouse
from infra.clickhouse.errors import StatementRefusedError

pytestmark = pytest.mark.stack

BOARD = Path(__file__).parents[3] / "infra" / "grafana" / "dashboards" / "touchstone-operations.json"
COLUMNS = {
    "Events stored, by kind": ["time", "kind", "events"],
    "Rejected and refused, by reason": ["stage", "reason", "events", "latest"],
    "Signals, by band": ["time", "to_band", "signals"],
    "Customers, by risk band": ["risk_band", "customers", "score", "value_at_risk"],
    "Latest record of each partition": ["log_partition", "log_offset", "latest", "seconds_ago"],
    "Repeated events, by conflict": ["conflict", "events", "ids", "latest"],
    "Alerts, by rule and fate": ["rule", "fate", "alerts", "reached", "latest"],
    "Deliveries, by receiver and state": ["receiver", "state", "calls", "tried", "latest"],
    "Cases, open and overdue": ["rule", "owner", "open", "taken_on", "overdue", "oldest"],
}


def statements() -> dict[str, str]:
    panels: list[dict[str, Any]] = json.loads(BOARD.read_text("utf-8"))["panels"]
    return {
        panel["title"]: target["rawSql"]
        for panel in panels
        for target in panel.get("targets", ())
        if "rawSql" in target
    }


def expanded(sql: str) -> str:
    """The plugin's macros; one that is not known here stays, and the engine refuses it."""
    sql = re.sub(r"\$__timeInterval\((\w+)\)", r"toStartOfInterval(toDateTime(\1), INTERVAL 60 second)", sql)
    return re.sub(r"\$__timeFilter\((\w+)\)", r"\1 >= toDateTime(1) AND \1 <= toDateTime(4000000000)", sql)


def test_every_statement_is_known_here() -> None:
    assert statements().keys() == COLUMNS.keys()


@pytest.mark.parametrize("title", COLUMNS)
def test_a_statement_runs_and_gives_its_columns(clickhouse: ClickHouse, title: str) -> None:
    described = clickhouse.query(f"DESCRIBE ({expanded(statements()[title])})")
    assert [row[0] for row in described] == COLUMNS[title]
    assert clickhouse.query(expanded(statements()[title])) == []


def test_a_wrong_column_would_be_found(clickhouse: ClickHouse) -> None:
    with pytest.raises(StatementRefusedError):
        clickhouse.query("SELECT no_such_column FROM touchstone.rejections")
