"""A ClickHouse engine of its own for the commands that learn."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.clickhouse.client import ClickHouse
from infra.clickhouse.settings import ClickHouseSettings
from services.cli.main import main
from tests.integration.learning.shops import Deployment, Done
from tests.servers import clickhouse_server


@pytest.fixture(scope="session")
def clickhouse_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseSettings]:
    """A running server without tables of ours."""
    with clickhouse_server(tmp_path_factory.mktemp("clickhouse")) as address:
        yield address


@pytest.fixture
def deployment(
    clickhouse: ClickHouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Deployment:
    """Empty tables; commands run in a folder of their own, in this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOUCHSTONE_CLICKHOUSE_PORT", str(clickhouse.settings.port))
    monkeypatch.setenv("TOUCHSTONE_CLICKHOUSE_HTTP_PORT", str(clickhouse.settings.http_port))

    def run(*arguments: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["touchstone", *arguments])
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        return Done(code, *capsys.readouterr())

    return Deployment(clickhouse, tmp_path, run)
