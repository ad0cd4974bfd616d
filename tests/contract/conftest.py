"""A ClickHouse engine with our tables and views, for contracts that hold SQL to the arrays."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from infra.clickhouse.client import ClickHouse, connect
from infra.clickhouse.migrate import migrate
from tests.servers import clickhouse_server


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouse]:
    """A client of a server of its own, tables empty."""
    with clickhouse_server(tmp_path_factory.mktemp("engine")) as address, connect(address) as client:
        migrate(client)
        yield client
