"""clickhouse-driver, unchanged, against the native port."""

from __future__ import annotations

import datetime as dt
import threading
import time
import uuid
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from clickhouse_driver import Client, errors

pytestmark = pytest.mark.stack
UTC = dt.UTC

COLUMNS: list[tuple[str, list[Any]]] = [
    ("UInt8", [0, 255, 7]),
    ("Int64", [-(1 << 63), 0, (1 << 63) - 1]),
    ("UInt256", [0, 1 << 255, 5]),
    ("Float32", [0.5, -2.0, 3.25]),
    ("Bool", [True, False, True]),
    ("String", ["", "é" * 200, "line\n\nbreak\x00"]),
    ("FixedString(3)", ["abc", "def", "gh "]),
    ("Nullable(String)", [None, "", "x" * 300]),
    ("LowCardinality(String)", ["a", "b", "a"]),
    ("LowCardinality(Nullable(String))", [None, "b", ""]),
    ("LowCardinality(FixedString(2))", ["ab", "cd", "ab"]),
    ("Nullable(Float64)", [None, 1.5, -0.0]),
    ("Array(String)", [[], ["a"], ["b", "", "c" * 130]]),
    ("Array(Array(Nullable(Int32)))", [[], [[]], [[1, None], [2]]]),
    ("Array(LowCardinality(String))", [[], ["x", "y"], ["x"]]),
    ("Map(String, UInt64)", [{}, {"a": 1}, {"b": 2, "c": 3}]),
    ("Map(LowCardinality(String), Array(UInt8))", [{}, {"a": [1, 2]}, {"b": []}]),
    ("Tuple(UInt8, String)", [(1, "a"), (2, ""), (3, "c")]),
    ("Enum8('bad' = -1, 'it''s, good' = 1)", ["bad", "it's, good", "bad"]),
    ("UUID", [uuid.UUID(int=0), uuid.UUID(int=1 << 100), uuid.UUID(int=9)]),
    ("Date", [dt.date(1970, 1, 1), dt.date(2026, 5, 6), dt.date(2100, 1, 1)]),
    ("Date32", [dt.date(1925, 1, 1), dt.date(2026, 5, 6), dt.date(2283, 11, 11)]),
    ("DateTime('UTC')", [dt.datetime(2026, 1, 2, 3, 4, s) for s in (0, 1, 59)]),
    ("DateTime64(6, 'UTC')", [dt.datetime(2026, 1, 2, 3, 4, 5, us, tzinfo=UTC) for us in (0, 1, 999_999)]),
    ("Decimal(9, 2)", [Decimal("0.01"), Decimal("-12.34"), Decimal("9999999.99")]),
    ("Decimal(38, 6)", [Decimal("0.000001"), Decimal("-5"), Decimal("123456789012.5")]),
    ("IPv4", ["0.0.0.0", "127.0.0.1", "255.255.255.255"]),
    ("SimpleAggregateFunction(max, UInt32)", [1, 2, 3]),
]


@pytest.fixture(params=[False, "lz4"], ids=["plain", "lz4"])
def client(server: Any, request: pytest.FixtureRequest) -> Any:
    return server.client(compression=request.param)


@pytest.mark.parametrize(("type_", "values"), COLUMNS, ids=[type_ for type_, _ in COLUMNS])
def test_values_come_back_as_sent(client: Client, table: Any, type_: str, values: list[Any]) -> None:
    name = table(f"k UInt8, v {type_}")
    assert client.execute(f"INSERT INTO {name} (k, v) VALUES", list(enumerate(values))) == len(values)
    got = [row[0] for row in client.execute(f"SELECT v FROM {name} ORDER BY k")]
    assert [str(value) if type_ == "IPv4" else value for value in got] == values


def test_all_types_in_one_block_and_by_columns(client: Client, table: Any) -> None:
    name = table(", ".join(f"c{i} {type_}" for i, (type_, _) in enumerate(COLUMNS)))
    columns = [values for _, values in COLUMNS]
    assert client.execute(f"INSERT INTO {name} VALUES", columns, columnar=True) == 3
    client.execute(
        f"INSERT INTO {name} VALUES",
        [dict(zip((f"c{i}" for i in range(len(columns))), row, strict=True)) for row in zip(*columns, strict=True)],
    )
    assert client.execute(f"SELECT count() FROM {name}") == [(6,)]
    got = client.execute(f"SELECT DISTINCT c5 FROM {name} ORDER BY c5")
    assert got == [("",), ("line\n\nbreak\x00",), ("é" * 200,)]


def test_ping_select_and_header_of_an_empty_result(client: Client) -> None:
    assert client.execute("SELECT 1") == [(1,)]
    assert client.connection.ping()
    rows, columns = client.execute("SELECT 1 AS a, 'x' AS b WHERE 0", with_column_types=True)
    assert (rows, columns) == ([], [("a", "UInt8"), ("b", "String")])
    rows, columns = client.execute("SELECT number AS n FROM numbers(2) FORMAT JSON", with_column_types=True)
    assert (rows, columns) == ([(0,), (1,)], [("n", "UInt64")])


def test_streaming_select_and_statements_that_do_not_stream(client: Client) -> None:
    assert sum(row[0] for row in client.execute_iter("SELECT number FROM numbers(200000)")) == 199999 * 100000
    assert ("system",) in client.execute("SHOW DATABASES")
    assert client.execute("EXPLAIN SELECT 1")
    assert client.execute("DESCRIBE TABLE system.one")[0][:2] == ("dummy", "UInt8")
    assert client.execute("EXISTS TABLE system.one") == [(1,)]
    # More rows than one block holds, in a statement that the engine answers in one piece.
    assert len(client.execute("SELECT * FROM (SELECT number FROM numbers(140000)) UNION ALL SELECT 1")) == 140001


def test_errors_carry_their_codes_and_the_connection_stays(client: Client) -> None:
    for statement, code in [
        ("SELECT * FROM nowhere", 60),
        ("SELEC 1 1", 62),
        ("USE nowhere", 81),
        ("SELECT 1; SELECT 2", 62),
        ("SELECT throwIf(number = 90000) FROM numbers(100000)", 395),
        ("INSERT INTO nowhere SELECT 1", 60),
    ]:
        with pytest.raises(errors.ServerException) as caught:
            client.execute(statement)
        assert caught.value.code == code, statement
        assert client.execute("SELECT 1") == [(1,)]
    with pytest.raises(errors.ServerException) as caught:
        client.execute("INSERT INTO nowhere (a) VALUES", [(1,)])
    assert caught.value.code == 60


def test_a_failed_insert_leaves_nothing_and_the_connection_stays(client: Client, table: Any) -> None:
    name = table("a UInt8, CONSTRAINT small CHECK a < 100")
    with pytest.raises(errors.ServerException) as caught:
        client.execute(f"INSERT INTO {name} VALUES", [(value,) for value in (1, 2, 200)])
    assert caught.value.code == 469
    assert client.execute(f"SELECT count() FROM {name}") == [(0,)]


def test_logins_that_fail_all_look_alike(server: Any) -> None:
    texts = []
    for login in [{"user": "nobody"}, {"password": "wrong"}, {"user": "nobody", "password": ""}]:
        with pytest.raises(errors.ServerException) as caught:
            server.client(**login).execute("SELECT 1")
        assert caught.value.code == 516
        texts.append(str(caught.value).replace("nobody", "touchstone"))
    assert len({*texts}) == 1
    with pytest.raises(errors.ServerException) as caught:
        server.client(database="nowhere").execute("SELECT 1")
    assert caught.value.code == 81


def test_settings_hold_for_one_query_and_set_for_the_connection(server: Any) -> None:
    client = server.client()
    ask = "SELECT value FROM system.settings WHERE name = 'max_block_size'"
    before = client.execute(ask)
    assert client.execute(ask, settings={"max_block_size": 77}) == [("77",)]
    assert client.execute(ask) == before
    client.execute("SET max_block_size = 99")
    assert client.execute(ask, settings={"max_block_size": 77}) == [("77",)]
    assert client.execute(ask) == [("99",)]
    assert server.client().execute(ask) == before


def test_parameters_inline_data_external_tables_temporary_tables(client: Client, table: Any) -> None:
    assert client.execute("SELECT %(text)s, %(number)s", {"text": "it's\n", "number": 5}) == [("it's\n", 5)]
    name = table("a UInt8, s String")
    client.execute(f"INSERT INTO {name} VALUES (1, 'x\n\ny'), (2, 'z')")
    client.execute(f'INSERT INTO {name} FORMAT JSONEachRow {{"a": 3}}\n\n{{"a": 4}}')
    client.execute(f"INSERT INTO {name} (a) SELECT 5")
    assert client.execute(f"SELECT a, s FROM {name} ORDER BY a") == [(1, "x\n\ny"), (2, "z"), (3, ""), (4, ""), (5, "")]
    outside = [{"name": "wanted", "structure": [("a", "UInt8")], "data": [{"a": 2}, {"a": 5}]}]
    found = client.execute(f"SELECT a FROM {name} WHERE a IN wanted ORDER BY a", external_tables=outside)
    assert found == [(2,), (5,)]
    with pytest.raises(errors.ServerException):
        client.execute("SELECT * FROM wanted")


def test_insert_columns_in_any_order_with_defaults(client: Client, table: Any) -> None:
    name = table("a UInt8, b String DEFAULT 'd', c UInt8 MATERIALIZED a + 1, e UInt8 ALIAS a + 2")
    client.execute(f"INSERT INTO {name} (b, a) VALUES", [("x", 1)])
    client.execute(f"INSERT INTO {name} (a) VALUES", [(2,)])
    client.execute(f"INSERT INTO {name} (* EXCEPT b) VALUES", [(3,)])
    client.execute(f"INSERT INTO {name} VALUES", [(4, "y")])
    assert client.execute(f"SELECT a, b, c, e FROM {name} ORDER BY a") == [
        (1, "x", 2, 3), (2, "d", 3, 4), (3, "d", 4, 5), (4, "y", 5, 6),
    ]  # fmt: skip


def test_inserts_know_of_a_table_that_somebody_changed(client: Client, server: Any, table: Any) -> None:
    name = table("n UInt8")
    other = server.client()
    for change, rows in (
        ("SELECT 1", [(1,)]),
        (f"ALTER TABLE {name} ADD COLUMN text String", [(2, "two")]),
        (f"ALTER TABLE {name} MODIFY COLUMN n Int64", [(-3, "three")]),
        (f"ALTER TABLE {name} DROP COLUMN text", [(-4,)]),
    ):
        other.execute(change)
        client.execute(f"INSERT INTO {name} VALUES", rows)
    assert client.execute(f"SELECT n FROM {name} ORDER BY n") == [(-4,), (-3,), (1,), (2,)]


def test_numpy_both_ways(server: Any, table: Any) -> None:
    client = server.client(settings={"use_numpy": True}, compression="lz4")
    name = table("a UInt64, f Float64, s String")
    rows = 70_000
    sent = [
        np.arange(rows, dtype=np.uint64),
        np.linspace(0, 1, rows),
        np.array([f"v{i % 900}" for i in range(rows)], dtype=object),
    ]
    client.execute(f"INSERT INTO {name} (a, f, s) VALUES", sent, columnar=True)
    got = client.execute(f"SELECT a, f, s FROM {name} ORDER BY a", columnar=True)
    for there, back in zip(sent, got, strict=True):
        assert (there == back).all()


def test_wide_block_of_fifty_thousand_rows(client: Client, table: Any) -> None:
    rows = 50_000
    name = table(", ".join([f"s{i} String" for i in range(12)] + [f"f{i} Float64" for i in range(33)]))
    texts = [f"customer-{i * 7919 % 100000}" if i % 100 else "long " * 40 + "\n" for i in range(rows)]
    numbers = [float(i) for i in range(rows)]
    client.execute(f"INSERT INTO {name} VALUES", [texts] * 12 + [numbers] * 33, columnar=True)
    found = client.execute(f"SELECT count(), sum(f32), sum(length(s0)), uniqExact(s11) FROM {name}")
    assert found == [(rows, sum(numbers), sum(map(len, texts)), len({*texts}))]


def test_twenty_thousand_keys_in_one_query(client: Client, table: Any) -> None:
    name = table("k String", "MergeTree ORDER BY k")
    client.execute(f"INSERT INTO {name} SELECT concat('customer-', toString(number)) FROM numbers(100000)")
    keys = ", ".join(f"'customer-{i * 5}'" for i in range(20_000))
    assert client.execute(f"SELECT count() FROM {name} WHERE k IN ({keys})") == [(20_000,)]
    big = ", ".join(f"'{'x' * 80}{i}'" for i in range(50_000))
    assert client.execute(f"SELECT count() FROM {name} WHERE k IN ({big})") == [(0,)]


SLOW = "SELECT sleepEachRow(0.1) FROM numbers(600) SETTINGS max_block_size = 1"


def test_cancel_stops_the_query(server: Any, until: Any) -> None:
    client = server.client()
    rows = client.execute_iter(SLOW)
    next(rows)
    client.cancel()
    until(
        lambda: server.run("SELECT count() FROM system.processes WHERE query LIKE 'SELECT sleepEachRow(0.1)%'") == "0\n"
    )
    assert client.execute("SELECT 1") == [(1,)]


def test_a_client_that_leaves_stops_its_query(server: Any, until: Any) -> None:
    client = server.client()
    failed: list[BaseException] = []

    def run() -> None:
        try:
            client.execute("SELECT sum(sleepEachRow(0.1)) FROM numbers(600) SETTINGS max_block_size = 1")
        except (errors.Error, EOFError, OSError) as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    running = "SELECT count() FROM system.processes WHERE query LIKE 'SELECT sum(sleepEachRow%'"
    until(lambda: server.run(running) == "1\n")
    client.connection.socket.shutdown(2)
    until(lambda: server.run(running) == "0\n")
    thread.join(10)
    assert failed


def test_many_connections_side_by_side(server: Any, table: Any) -> None:
    name = table("worker UInt8, n UInt64")
    problems: list[BaseException] = []

    def work(worker: int) -> None:
        try:
            own = server.client(compression="lz4" if worker % 2 else False)
            for batch in range(5):
                own.execute(f"INSERT INTO {name} VALUES", [(worker, batch * 1000 + i) for i in range(1000)])
                assert own.execute("SELECT count() FROM " + name + f" WHERE worker = {worker}") == [
                    ((batch + 1) * 1000,)
                ]
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not problems
    assert server.run(f"SELECT count(), uniqExact(worker, n) FROM {name}") == "40000\t40000\n"


def test_a_slow_reader_does_not_hold_up_inserts(server: Any, table: Any) -> None:
    name = table("a UInt64")
    reader, writer = server.client(reader=True), server.client()
    failed: list[errors.ServerException] = []

    def read() -> None:
        try:
            reader.execute("SELECT sum(sipHash64(number, n2)) FROM numbers(1000000000) AS a, (SELECT 1 AS n2) AS b")
        except errors.ServerException as error:
            failed.append(error)

    thread = threading.Thread(target=read)
    started = time.monotonic()
    thread.start()
    inserted = 0
    while thread.is_alive():
        writer.execute(f"INSERT INTO {name} VALUES", [(1,)] * 1000)
        inserted += 1
    seconds = time.monotonic() - started
    assert failed
    assert failed[0].code == 159
    assert seconds < 15
    assert inserted >= 5
