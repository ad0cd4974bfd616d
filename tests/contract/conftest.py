"""A ClickHouse engine with our tables and views, for contracts that hold SQL to the arrays."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.clickhouse.client import ClickHouse, connect
from infra.clickhouse.migrate import migrate
from infra.clickhouse.settings import ClickHouseSettings

START_S = 30
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouse]:
    """A client of a server of its own, tables empty."""
    folder = tmp_path_factory.mktemp("engine")
    command = [sys.executable, "-m", "infra.embedded.clickhouse.main", "--data", str(folder / "data")]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            [*command, "--native-port", "0", "--http-port", "0"],
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
        settings = ClickHouseSettings(port=int(words[2]), http_port=int(words[4]), retry_s=0, timeout_s=60)
        with connect(settings) as client:
            migrate(client)
            yield client
    finally:
        server.terminate()
        server.wait(START_S)
        if server.stdout is not None:
            server.stdout.close()
