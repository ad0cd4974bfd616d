"""29: statements that are huge or deep are refused in time, and the next one is answered."""

from __future__ import annotations

import time
from typing import Any

import pytest

pytestmark = pytest.mark.stack


@pytest.mark.parametrize(
    "statement",
    [
        b"SELECT 1 /* " + b"x" * (5 << 20) + b" */",
        b"SELECT " + b"(" * 50_000 + b"1" + b")" * 50_000,
        b"SELECT " + b"(-" * 20_000 + b"1" + b")" * 20_000,
        b"SELECT " + b"[" * 30_000 + b"]" * 30_000,
        b"SELECT " + b"1," * 125_000 + b"1",
        b"SELECT * FROM " + b"(SELECT * FROM " * 5_000 + b"system.one" + b")" * 5_000,
        b"SELECT '" + b"a" * (1 << 20),
        b"SELECT repeat('x', 100000000000)",
        b"SELECT groupArray(number) FROM numbers(100000000000)",
    ],
    ids=[
        "longer than allowed", "brackets", "minus", "arrays", "columns", "subqueries", "open string",
        "long string", "large array",
    ],
)  # fmt: skip
def test_29_huge_statements_are_refused_in_time(server: Any, statement: bytes) -> None:
    started = time.monotonic()
    response = server.http(body=statement, reader=True)
    assert response.status_code >= 400, response.text[:200]
    assert response.headers["X-ClickHouse-Exception-Code"]
    assert time.monotonic() - started < 30
    assert server.process.poll() is None
    assert server.http(body=b"SELECT 1", reader=True).text == "1\n"
