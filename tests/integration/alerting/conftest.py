"""A ClickHouse engine of its own for what alerting asks the tables."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from infra.clickhouse.settings import ClickHouseSettings
from tests.servers import clickhouse_server


@pytest.fixture(scope="session")
def clickhouse_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseSettings]:
    """A running server without tables of ours."""
    with clickhouse_server(tmp_path_factory.mktemp("clickhouse")) as address:
        yield address
