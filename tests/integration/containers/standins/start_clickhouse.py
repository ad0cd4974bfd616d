"""Become the embedded server with the logins that the official image would make."""

from __future__ import annotations

import os
import sys

given = os.environ
told = {
    "TOUCHSTONE_CLICKHOUSE_HOST": "0.0.0.0",
    "TOUCHSTONE_CLICKHOUSE_USER": given["CLICKHOUSE_USER"],
    "TOUCHSTONE_CLICKHOUSE_PASSWORD": given["CLICKHOUSE_PASSWORD"],
    "TOUCHSTONE_CLICKHOUSE_READER": given.get("TOUCHSTONE_CLICKHOUSE_READER", "analyst"),
    "TOUCHSTONE_CLICKHOUSE_READER_PASSWORD": given.get("TOUCHSTONE_CLICKHOUSE_READER_PASSWORD", "read only"),
}
arguments = [sys.executable, "-m", "infra.embedded.clickhouse.main", "--data", "/var/lib/clickhouse/data"]
os.execve(sys.executable, arguments, {**given, **told})
