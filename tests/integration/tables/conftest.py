"""A ClickHouse engine of its own for the tests of tables, on free ports."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.clickhouse.client import ClickHouse, connect
from infra.clickhouse.migrate import migrate
from infra.clickhouse.settings import ClickHouseSettings
from schemas.tables import DATABASE, TABLES

START_S = 30
REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def clickhouse_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseSettings]:
    """A running server without tables of ours."""
    folder = tmp_path_factory.mktemp("clickhouse")
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            [
                *(sys.executable, "-m", "infra.embedded.clickhouse.main"),
                *("--data", str(folder / "data"), "--native-port", "0", "--http-port", "0"),
            ],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            cwd=REPOSITORY,
        )
    try:
        assert server.stdout is not None
        # "ready: native PORT, http PORT", or end of file when it could not start.
        words = server.stdout.readline().replace(",", "").split()
        assert words[:1] == ["ready:"], (folder / "log").read_text()
        yield ClickHouseSettings(port=int(words[2]), http_port=int(words[4]), retry_s=0, timeout_s=20)
    finally:
        server.terminate()
        server.wait(START_S)
        if server.stdout is not None:
            server.stdout.close()


@pytest.fixture(scope="session")
def migrated(clickhouse_address: ClickHouseSettings) -> ClickHouseSettings:
    """The same server with all tables and views."""
    with connect(clickhouse_address) as client:
        migrate(client)
    return clickhouse_address


@pytest.fixture
def clickhouse(migrated: ClickHouseSettings) -> Iterator[ClickHouse]:
    """A client of a server whose tables are empty."""
    with connect(migrated) as client:
        for table in TABLES:
            client.query(f"TRUNCATE TABLE {DATABASE}.{table.name}")
        yield client
