"""A small question to ClickHouse over HTTP, for commands that should answer at once.

The full client (infra.clickhouse.client) loads column libraries for over a second; a count needs none of them.
"""

from __future__ import annotations

import http.client
import json
import ssl
from typing import Any

from infra.clickhouse.errors import UnreachableError, of_code
from infra.clickhouse.settings import ClickHouseSettings


def ask(settings: ClickHouseSettings, sql: str, *, timeout_s: float | None = None) -> list[list[Any]]:
    """Rows of a SELECT (numbers as int or float, all else as str). Raises ClickHouseError; never tries twice."""
    timeout_s = timeout_s or float(settings.connect_timeout_s)
    where = f"ClickHouse at {settings.host}:{settings.http_port}"
    connection = (
        http.client.HTTPSConnection(
            settings.host, settings.http_port, timeout=timeout_s, context=ssl.create_default_context()
        )
        if settings.secure
        else http.client.HTTPConnection(settings.host, settings.http_port, timeout=timeout_s)
    )
    headers = {
        "X-ClickHouse-User": settings.user,
        "X-ClickHouse-Key": settings.password.get_secret_value(),
        "X-ClickHouse-Format": "JSONCompact",
    }
    try:
        # Numbers of 64 bits as numbers: Python's do not lose digits.
        path = "/?output_format_json_quote_64bit_integers=0&default_format=JSONCompact"
        connection.request("POST", path, sql.encode(), headers)
        response = connection.getresponse()
        body = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise UnreachableError(f"{where} does not answer: {error or type(error).__name__}") from error
    finally:
        connection.close()
    if response.status != http.client.OK:
        code = response.getheader("X-ClickHouse-Exception-Code")
        text = body[:500].decode("utf-8", errors="replace").strip()
        if code is None:
            raise UnreachableError(f"{where} answers HTTP {response.status}, not as ClickHouse does: {text}")
        raise of_code(int(code), text, where)
    try:
        rows: list[list[Any]] = json.loads(body)["data"]
    except (ValueError, KeyError, TypeError) as error:
        raise UnreachableError(f"{where} does not answer as ClickHouse does: {body[:200]!r}") from error
    return rows
