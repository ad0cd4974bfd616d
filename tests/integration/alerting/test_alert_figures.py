"""What `touchstone status` and the dashboard tell of alerting, over rows of every sort."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from infra.clickhouse.client import ClickHouse
from infra.clickhouse.settings import ClickHouseSettings
from services.cli.addresses import locate
from services.cli.figures import AlertFigures, read_alert_figures
from services.cli.settings import StackSettings
from tests.integration.alerting.case_rows import NOW, put_alerts, put_attempts, put_call
from tests.integration.tables.test_dashboard_sql import expanded, statements

pytestmark = pytest.mark.stack

A, B, C, D = "a" * 32, "b" * 32, "c" * 32, "d" * 32


@pytest.fixture
def told(clickhouse: ClickHouse) -> ClickHouse:
    put_alerts(
        clickhouse,
        {"alert_id": A},
        {"alert_id": B, "customer_id": "bob", "due_at": NOW + timedelta(days=30)},
        {"alert_id": C, "customer_id": "cyd", "fate": "waiting"},
        {"alert_id": D, "customer_id": "dee", "fate": "held_out"},
    )
    put_call(clickhouse, call_id="1" * 32, alert_ids=[A], receiver="desk")
    put_call(clickhouse, call_id="2" * 32, alert_ids=[B], receiver="desk")
    put_call(clickhouse, call_id="3" * 32, alert_ids=[A], receiver="pager")
    put_attempts(clickhouse, "1" * 32, ("failed", 503, "down"), ("delivered", 204, ""))
    put_attempts(clickhouse, "3" * 32, ("failed", 500, "broken"), ("dead", 413, "too large"), receiver="pager")
    return clickhouse


def test_status_counts_what_waits_what_died_and_what_is_overdue(
    told: ClickHouse, migrated: ClickHouseSettings, tmp_path: Path
) -> None:
    settings = StackSettings(
        _env_file=None,
        data_dir=tmp_path,
        clickhouse_host=migrated.host,
        clickhouse_port=migrated.port,
        clickhouse_http_port=migrated.http_port,
        clickhouse_user=migrated.user,
        clickhouse_password=migrated.password,
        clickhouse_reader_password=migrated.password,
    )
    assert read_alert_figures(settings, locate(settings), 7) == AlertFigures(
        signals=0,
        unread=7,
        alerts_waiting=1,
        calls_delivered=1,
        calls_waiting=1,
        calls_dead=1,
        cases_open=2,
        cases_overdue=1,
    )


@pytest.mark.parametrize(
    ("title", "rows"),
    [
        (
            "Alerts, by rule and fate",
            [("leaving", "called", 2, 1), ("leaving", "held_out", 1, 0), ("leaving", "waiting", 1, 0)],
        ),
        (
            "Deliveries, by receiver and state",
            [("desk", "delivered", 1, 2), ("desk", "waiting", 1, 0), ("pager", "dead", 1, 2)],
        ),
        ("Cases, open and overdue", [("leaving", "retention", 2, 0, 1)]),
    ],
)
def test_panels_show_them(told: ClickHouse, title: str, rows: list[tuple[object, ...]]) -> None:
    assert [row[:-1] for row in told.query(expanded(statements()[title]))] == rows
