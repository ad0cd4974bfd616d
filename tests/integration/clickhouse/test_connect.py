"""clickhouse-connect, unchanged, against the HTTP port."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import clickhouse_connect
import pyarrow as pa
import pytest
from clickhouse_connect.driver.exceptions import DatabaseError

pytestmark = pytest.mark.stack


@pytest.fixture
def client(server: Any) -> Iterator[Any]:
    made = clickhouse_connect.get_client(
        host="127.0.0.1", port=server.http_port, username="touchstone", password="own er's"
    )
    yield made
    made.close()


def test_queries_and_commands(client: Any) -> None:
    assert client.ping()
    assert client.command("SELECT 1") == 1
    assert client.query("SELECT number, toString(number) FROM numbers(3)").result_rows == [(0, "0"), (1, "1"), (2, "2")]
    assert client.query("SELECT {x:String} AS x", parameters={"x": "it's\n"}).result_rows == [("it's\n",)]
    assert client.query("SELECT 1 WHERE 0").result_rows == []
    with client.query_row_block_stream("SELECT number FROM numbers(200000)") as blocks:
        assert sum(len(block) for block in blocks) == 200_000
    assert client.query_arrow("SELECT number AS n FROM numbers(100000)").num_rows == 100_000
    with pytest.raises(DatabaseError, match="UNKNOWN_TABLE"):
        client.query("SELECT * FROM nowhere")
    assert client.command("SELECT 1") == 1


def test_inserts(client: Any, table: Any) -> None:
    name = table("a UInt64, s String, n Nullable(Float64), l LowCardinality(String)")
    rows = [[i, f"s{i}\n\n", None if i % 2 else i / 2, "x"] for i in range(5000)]
    client.insert(name, rows, column_names=["a", "s", "n", "l"])
    assert client.query(f"SELECT count(), sum(a), countIf(n IS NULL) FROM {name}").result_rows == [
        (5000, 12497500, 2500)
    ]
    client.insert_arrow(name, pa.table({"a": pa.array([1, 2], pa.uint64()), "s": ["x", "y"]}))
    client.raw_insert(name, ["a", "s"], b"3,z\n4,w\n", fmt="CSV")
    settings = {"insert_deduplication_token": "t1"}
    client.insert(name, [[9, "q"]], column_names=["a", "s"], settings=settings)
    assert client.query(f"SELECT count() FROM {name}").result_rows == [(5005,)]
    with pytest.raises(DatabaseError):
        client.insert_arrow(name, pa.table({"no_such_column": [1]}))


def test_reader(server: Any, table: Any) -> None:
    name = table("a UInt64")
    made = clickhouse_connect.get_client(host="127.0.0.1", port=server.http_port, username="analyst", password="read")
    assert made.query(f"SELECT count() FROM {name}").result_rows == [(0,)]
    with pytest.raises(DatabaseError, match="READONLY"):
        made.insert(name, [[1]], column_names=["a"])
    with pytest.raises(DatabaseError, match="READONLY"):
        made.command(f"DROP TABLE {name}")
    made.close()
