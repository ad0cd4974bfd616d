"""ClickHouse with the login that may only read, for commands that ask it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from infra.clickhouse.client import ClickHouse, connect
from services.cli.addresses import locate
from services.cli.figures import clickhouse_settings
from services.cli.settings import StackSettings


def quiet_driver() -> None:
    """The driver logs faults with their stack before it raises them; a command says them once, in its own words."""
    logging.getLogger("clickhouse_driver").setLevel(logging.CRITICAL)


@contextmanager
def reader(settings: StackSettings) -> Iterator[ClickHouse]:
    """The server that the settings and the running stack name. Faults are those of infra.clickhouse."""
    quiet_driver()
    with connect(clickhouse_settings(settings, locate(settings), reader=True)) as client:
        yield client
