"""The read-only login: what analysts' tools need works, everything else is refused."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clickhouse_driver import errors

pytestmark = pytest.mark.stack

ALLOWED = [
    "SELECT 1",
    "SELECT count() FROM {table} FINAL WHERE a > 0 -- comment",
    "WITH x AS (SELECT a FROM {table}) SELECT * FROM x",
    "(SELECT 1) UNION ALL (SELECT 2)",
    "SELECT 1 INTERSECT SELECT 1",
    "SELECT t.file FROM (SELECT 'column' AS file) AS t",
    "SELECT 'file(1)', 'INTO OUTFILE', 'a;b'",
    "SELECT * FROM numbers(3) AS a, generateSeries(1, 3) AS b, values('a UInt8', 1) AS c",
    "SELECT number FROM numbers(10) SETTINGS max_threads = 2, max_execution_time = 1",
    "SELECT a FROM {table} SETTINGS additional_table_filters = {'default.{table}': ' a = 1 AND \\'x\\' != \\'\\' '}",
    "SELECT 1 SETTINGS session_timezone = 'Asia/Tokyo', bool_true_representation = 'yes'",
    "SHOW DATABASES",
    "SHOW TABLES",
    "SHOW CREATE TABLE {table}",
    "SHOW COLUMNS FROM {table}",
    "SHOW SETTINGS LIKE 'max_block_size'",
    "SHOW FUNCTIONS LIKE 'abs'",
    "DESCRIBE TABLE {table}",
    "DESC (SELECT 1)",
    "EXISTS TABLE {table}",
    "EXPLAIN SELECT a FROM {table}",
    "EXPLAIN PIPELINE SELECT 1",
    "SET max_block_size = 100",
    "USE system",
    "SELECT version(), timezone()",
    "SELECT displayName(), version(), revision(), timezone()",
    "SELECT name, value, readonly FROM system.settings LIMIT 10000",
    "SELECT name, engine FROM system.tables WHERE database = currentDatabase()",
    "SELECT name, type, comment FROM system.columns LIMIT 10",
    "SELECT value = '1' FROM system.settings WHERE name = 'readonly'",
    "SELECT name, is_aggregate, alias_to FROM system.functions LIMIT 10000",
]
REFUSED = [
    "INSERT INTO {table} VALUES (1)",
    "INSERT INTO {table} SELECT 1",
    "INSERT INTO FUNCTION file('{out}', 'CSV', 'a UInt8') SELECT 1",
    "CREATE TABLE made (a UInt8) ENGINE = Memory",
    "CREATE TEMPORARY TABLE made (a UInt8)",
    "CREATE DATABASE made",
    "CREATE FUNCTION made AS x -> x",
    "ALTER TABLE {table} ADD COLUMN b UInt8",
    "DELETE FROM {table} WHERE 1",
    "ALTER TABLE {table} DELETE WHERE 1",
    "DROP TABLE {table}",
    "TRUNCATE TABLE {table}",
    "RENAME TABLE {table} TO other",
    "OPTIMIZE TABLE {table}",
    "DETACH TABLE {table}",
    "CHECK TABLE {table}",
    "KILL QUERY WHERE 1",
    "SYSTEM FLUSH LOGS",
    "SYSTEM STOP MERGES",
    "BACKUP TABLE {table} TO File('{out}')",
    "EXPLAIN AST DROP TABLE {table}",
    "SELECT 1; DROP TABLE {table}",
    "EXPLAIN AST SELECT 1; DROP TABLE {table}",
    "SELECT 1 INTO OUTFILE '{out}'",
    "SELECT 1 INTO OUTFILE '{out}' FORMAT CSV",
    "EXPLAIN SELECT 1 INTO OUTFILE '{out}'",
    "SELECT file('{secret}')",
    "SELECT `file`('{secret}')",
    "SELECT * APPLY file FROM (SELECT '{secret}' AS a)",
    "SELECT * APPLY (x -> file(x)) FROM (SELECT '{secret}' AS a)",
    "SELECT arrayMap(file, ['{secret}'])",
    "SELECT COLUMNS('a') APPLY(file) FROM (SELECT '{secret}' AS a)",
    "SELECT * FROM file('{secret}')",
    "SELECT * FROM File('{secret}', 'CSV')",
    "SELECT * FROM (SELECT * FROM file('{secret}'))",
    "WITH (SELECT * FROM file('{secret}') LIMIT 1) AS x SELECT x",
    "SELECT * FROM view(SELECT * FROM file('{secret}'))",
    "SELECT 1 WHERE 1 IN (SELECT * FROM file('{secret}'))",
    "DESCRIBE file('{secret}')",
    "DESCRIBE TABLE url('http://127.0.0.1:1/')",
    "EXPLAIN SELECT * FROM url('http://127.0.0.1:1/')",
    "SELECT * FROM url('http://127.0.0.1:1/', 'CSV', 'a String')",
    "SELECT * FROM remote('127.0.0.1:1', system.one)",
    "SELECT * FROM s3('http://127.0.0.1:1/x')",
    "SELECT * FROM mysql('127.0.0.1:1', 'a', 'b', 'c', 'd')",
    "SELECT * FROM sqlite('{out}', 'x')",
    "SELECT * FROM executable('id', 'CSV', 'a String')",
    "SELECT * FROM python(os)",
    "SELECT * FROM filesystem('/')",
    "SELECT * FROM merge('default', '.*')",
    'SELECT * FROM "{secret}"',
    'SELECT * FROM default."{secret}"',
    'DESCRIBE "{secret}"',
    "SELECT aiGenerate('x')",
    "SET readonly = 0",
    "SET max_memory_usage = 0",
    "SET max_execution_time = 1000",
    "SET log_comment = 'x'",
    "SELECT 1 SETTINGS readonly = 0",
    "SELECT 1 SETTINGS max_execution_time = 0",
    "SELECT 1 FROM (SELECT 1 SETTINGS max_result_rows = 0)",
    "SELECT 1 SETTINGS log_comment = 'mine'",
    "SELECT 1 AS a FORMAT Template SETTINGS format_template_resultset = '{secret}'",
    "SELECT 1 AS a FORMAT Template SETTINGS format_template_row = '{secret}'",
    "SELECT 1 AS a FORMAT Protobuf SETTINGS format_schema = '{secret}:x'",
    "SELECT 1 AS a FORMAT CapnProto SETTINGS output_format_schema = '{out}'",
    "SELECT dummy FROM system.one SETTINGS select = 'file(\\'{secret}\\')'",
    "SELECT dummy FROM system.one SETTINGS filter = 'file(\\'{secret}\\') != \\'\\''",
    "SELECT 1 SETTINGS additional_table_filters = {'system.one': 'file(\\'{secret}\\') != \\'\\''}",
    "SELECT 1 SETTINGS additional_table_filters = {'a': 'b', 'system.one': '(SELECT 1 FROM file(\\'{secret}\\'))'}",
    "SELECT 1 SETTINGS additional_table_filters = {'system.one': '`fi\\\\x6ce`(\\'{secret}\\')'}",
    "SET dialect = 'kusto'",
    "SET select = 'file(\\'{secret}\\')'",
    "SET profile = 'default'",
    "GRANT ALL ON *.* TO analyst",
    "file('{secret}')",
]


@pytest.fixture(scope="module")
def seeded(server: Any) -> Iterator[str]:
    server.run("CREATE TABLE seeded (a UInt64) ENGINE = ReplacingMergeTree ORDER BY a")
    server.run("INSERT INTO seeded VALUES (1)")
    yield "seeded"
    server.run("DROP TABLE seeded SYNC")


@pytest.mark.parametrize("statement", ALLOWED)
def test_reading_works(server: Any, seeded: str, statement: str) -> None:
    statement = statement.replace("{table}", seeded)
    server.client(reader=True).execute(statement)
    assert server.http(body=statement.encode(), reader=True).status_code == 200


@pytest.mark.parametrize("statement", REFUSED)
def test_everything_else_is_refused(server: Any, seeded: str, tmp_path: Path, statement: str) -> None:
    secret, out = tmp_path / "secret.csv", tmp_path / "out"
    secret.write_text("s3cr3t\n")
    for pattern, value in (("{table}", seeded), ("{secret}", str(secret)), ("{out}", str(out))):
        statement = statement.replace(pattern, value)
    response = server.http(body=statement.encode(), reader=True)
    assert response.status_code >= 400, response.text
    assert "s3cr3t" not in response.text
    if "SELECT 1 INTO OUTFILE" in statement:
        # Native clients write that file themselves: the server leaves the clause out.
        server.client(reader=True).execute(statement)
    else:
        with pytest.raises((errors.ServerException, EOFError)) as caught:
            server.client(reader=True).execute(statement)
        assert "s3cr3t" not in str(caught.value)
    assert not out.exists()
    left = (
        "SELECT (SELECT groupArray(a) FROM seeded), count() FROM system.tables WHERE name = 'made' OR database = 'made'"
    )
    assert server.run(left) == "[1]\t0\n"


def test_identifiers_by_parameter_are_judged_too(server: Any) -> None:
    query = "SELECT * FROM {d:Identifier}.{t:Identifier}"
    assert server.http(query, reader=True, param_d="system", param_t="one").text == "0\n"
    assert server.http(query, reader=True, param_d="default", param_t="/etc/hostname").status_code == 404


def test_external_tables(server: Any) -> None:
    client = server.client(reader=True)
    outside = {"name": "wanted", "structure": [("a", "Nullable(String)")], "data": [{"a": "x"}, {"a": None}]}
    assert client.execute("SELECT count(a) FROM wanted", external_tables=[outside]) == [(1,)]


def test_settings_that_drivers_send_unasked_do_not_fail(server: Any) -> None:
    sent = {"max_execution_time": 60, "max_result_rows": 0, "readonly": 1, "date_time_output_format": "iso"}
    ask = "SELECT getSetting('max_execution_time'), getSetting('readonly'), getSetting('date_time_output_format')"
    assert server.http(ask, reader=True, **sent).text == "2\t2\tiso\n"
    assert server.http(ask, reader=True, select="1").headers["X-ClickHouse-Exception-Code"] == "452"
    assert server.http(ask, reader=True, max_execution_time=1).text == "1\t2\tsimple\n"


@pytest.mark.parametrize(
    "query",
    [
        "SELECT sum(sipHash64(number)) FROM numbers(100000000000)",
        "SELECT number FROM numbers(100000) WHERE NOT ignore(sleepEachRow(0.01)) SETTINGS max_block_size = 100",
        "SELECT count() FROM numbers(10000000000) AS a, numbers(1000000) AS b WHERE cityHash64(a.number, b.number) = 1",
    ],
)
def test_the_time_limit_stops_queries(server: Any, query: str) -> None:
    started = time.monotonic()
    response = server.http(query + " FORMAT JSON", reader=True)
    assert response.headers["X-ClickHouse-Exception-Code"] in {"159", "394"}
    assert time.monotonic() - started < 12


def test_memory_and_results_are_capped(server: Any) -> None:
    hungry = "SELECT length(groupArray(toString(number))) FROM numbers(100000000)"
    assert server.http(hungry, reader=True).headers["X-ClickHouse-Exception-Code"] in {"241", "159"}
    many = "SELECT number FROM numbers(400000) FORMAT JSON"
    assert server.http(many, reader=True).headers["X-ClickHouse-Exception-Code"] == "396"


def test_readers_beyond_the_limit_wait_and_owners_do_not(server: Any) -> None:
    ask = "SELECT currentUser(), getSetting('readonly'), getSetting('max_threads')"
    assert server.http(ask, reader=True).text.endswith("\t2\t1\n")
    assert server.http(ask).text.split("\t")[1] == "0"
