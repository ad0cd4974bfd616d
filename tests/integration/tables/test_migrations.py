"""The database is what the files say, in every column and comment."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from infra.clickhouse.client import ClickHouse
from infra.clickhouse.errors import MigrationError
from infra.clickhouse.migrate import SqlFile, migrate, read_files
from infra.clickhouse.settings import ClickHouseSettings
from schemas.tables import DATABASE, TABLES

pytestmark = pytest.mark.stack


def test_a_second_run_applies_nothing(clickhouse: ClickHouse) -> None:
    assert migrate(clickhouse) == []


def test_the_engine_has_the_tables_of_the_contract(clickhouse: ClickHouse) -> None:
    rows = clickhouse.query(
        f"SELECT table, name, type, comment FROM system.columns WHERE database = '{DATABASE}' ORDER BY table, position"
    )
    for table in TABLES:
        found = [(name, type_name, comment) for owner, name, type_name, comment in rows if owner == table.name]
        columns = (*table.columns, *table.packed)
        assert found == [(column.name, column.type, column.comment) for column in columns]


@pytest.mark.parametrize("what", ["table, name FROM system.columns", "name FROM system.tables"])
def test_nothing_is_without_a_comment(clickhouse: ClickHouse, what: str) -> None:
    assert clickhouse.query(f"SELECT {what} WHERE database = '{DATABASE}' AND comment = ''") == []


def test_a_changed_migration_is_refused_and_nothing_done(clickhouse: ClickHouse) -> None:
    files = read_files()
    changed = [SqlFile(file.kind, file.name, file.text + "-- later\n") for file in files]
    with pytest.raises(MigrationError, match="was changed after it had been applied"):
        migrate(clickhouse, changed)
    assert migrate(clickhouse, files) == []


def test_a_changed_view_is_replaced(clickhouse: ClickHouse) -> None:
    files = read_files()
    shown = SqlFile(
        "view",
        "99_shown.sql",
        f"CREATE OR REPLACE VIEW {DATABASE}.shown (n UInt8 COMMENT 'A') AS SELECT 1 AS n COMMENT 'A'",
    )
    other = SqlFile("view", shown.name, shown.text.replace("SELECT 1", "SELECT 2"))
    try:
        assert migrate(clickhouse, [*files, shown]) == [shown.name]
        assert migrate(clickhouse, [*files, shown]) == []
        assert migrate(clickhouse, [*files, other]) == [shown.name]
        assert clickhouse.query(f"SELECT n FROM {DATABASE}.shown") == [(2,)]
    finally:
        clickhouse.query(f"DROP VIEW IF EXISTS {DATABASE}.shown")
        clickhouse.query(f"DELETE FROM {DATABASE}.schema_migrations WHERE name = '{shown.name}'")


def test_an_interrupted_migration_is_taken_up_again(clickhouse: ClickHouse) -> None:
    """All statements had run, their entry had not been written."""
    names = [file.name for file in read_files() if file.kind == "migration"]
    listed = ", ".join(f"'{name}'" for name in names)
    clickhouse.query(f"DELETE FROM {DATABASE}.schema_migrations WHERE name IN ({listed})")
    assert migrate(clickhouse) == names


def run(settings: ClickHouseSettings, **changed: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "TOUCHSTONE_CLICKHOUSE_PORT": str(settings.port),
        "TOUCHSTONE_CLICKHOUSE_HTTP_PORT": str(settings.http_port),
        "TOUCHSTONE_CLICKHOUSE_RETRY_S": "0",
        **changed,
    }
    command = [sys.executable, "-m", "infra.clickhouse.migrate"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_the_command(migrated: ClickHouseSettings) -> None:
    done = run(migrated)
    assert (done.returncode, done.stdout) == (0, "nothing to apply\n")
    wrong = run(migrated, TOUCHSTONE_CLICKHOUSE_PORT="none")
    assert wrong.returncode == 2
    assert "wrong settings" in wrong.stderr
    nobody = run(migrated, TOUCHSTONE_CLICKHOUSE_PORT="1")
    assert nobody.returncode == 3
    assert "does not answer" in nobody.stderr


def test_the_journey_comes_into_a_table_that_workers_of_before_are_writing_to(clickhouse: ClickHouse) -> None:
    """Migration 0004 takes nothing away: rows of before have the empty name, and so have those written without it."""
    [migration] = [file for file in read_files() if file.name == "0004_journey.sql"]
    # With the column gone, the database is as it was.
    clickhouse.query(f"ALTER TABLE {DATABASE}.touchpoints DROP COLUMN journey")
    try:
        clickhouse.query(f"INSERT INTO {DATABASE}.touchpoints (customer_id) VALUES ('before')")
    finally:
        for statement in migration.statements:
            clickhouse.query(statement)
            clickhouse.query(statement)  # what was interrupted is run again
    clickhouse.query(f"INSERT INTO {DATABASE}.touchpoints (customer_id) VALUES ('without')")
    clickhouse.query(f"INSERT INTO {DATABASE}.touchpoints (customer_id, journey) VALUES ('with', 'claim')")
    rows = clickhouse.query(f"SELECT customer_id, journey FROM {DATABASE}.touchpoints_once ORDER BY customer_id")
    assert rows == [("before", ""), ("with", "claim"), ("without", "")]
