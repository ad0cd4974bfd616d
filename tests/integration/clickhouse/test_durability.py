"""Start, end, and sudden end of the server."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import chdb
import httpx
import pytest
from clickhouse_driver import errors

from infra.embedded.clickhouse.main import main

pytestmark = pytest.mark.stack


def test_kill_keeps_every_acknowledged_insert(start: Any, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    acknowledged: set[int] = set()
    for round_ in range(2):
        server = start(folder)
        window = "MergeTree ORDER BY n SETTINGS non_replicated_deduplication_window = 1000"
        server.run(f"CREATE TABLE IF NOT EXISTS kept (n UInt64, s String) ENGINE = {window}")
        found = server.run("SELECT n FROM kept ORDER BY n").split()
        assert acknowledged <= {int(value) for value in found}
        assert len(found) == len({*found})
        enough = threading.Event()

        def write(worker: int, server: Any = server, round_: int = round_, enough: Any = enough) -> None:
            client = server.client()
            for batch in range(100_000):
                first = ((round_ * 10 + worker) * 100_000 + batch) * 10
                rows = [(first + i, "x" * 100) for i in range(10)]
                try:
                    client.execute("INSERT INTO kept VALUES", rows, settings={"insert_deduplication_token": str(first)})
                except (errors.Error, EOFError, OSError):
                    return
                acknowledged.update(n for n, _ in rows)
                if batch == 20:
                    enough.set()

        writers = [threading.Thread(target=write, args=(worker,)) for worker in range(2)]
        for thread in writers:
            thread.start()
        assert enough.wait(60)
        server.process.send_signal(signal.SIGKILL)
        server.process.wait(10)
        for thread in writers:
            thread.join(30)
    server = start(folder)
    found = {int(value) for value in server.run("SELECT n FROM kept").split()}
    assert acknowledged <= found
    # The token of an insert that was written is known after the kill, too.
    first = min(acknowledged)
    client = server.client()
    before = client.execute("SELECT count() FROM kept")
    client.execute(
        "INSERT INTO kept VALUES",
        [(first + i, "x" * 100) for i in range(10)],
        settings={"insert_deduplication_token": str(first)},
    )
    assert client.execute("SELECT count() FROM kept") == before


def test_clean_end_and_start_with_and_without_tables_in_default(start: Any, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    both = "SELECT (SELECT a FROM default.first), (SELECT count() FROM system.databases WHERE name = 'touchstone')"
    rounds: list[list[tuple[str, str]]] = [
        [("SELECT 1", "1\n"), ("CREATE DATABASE touchstone", "")],
        [
            ("CREATE TABLE default.first (a UInt8) ENGINE = MergeTree ORDER BY a", ""),
            ("INSERT INTO first VALUES (5)", ""),
        ],
        [(both, "5\t1\n")],
    ]
    for statements in rounds:
        server = start(folder)
        for statement, expected in statements:
            assert server.run(statement) == expected
        assert server.run("SELECT engine FROM system.databases WHERE name = 'default'") == "Atomic\n"
        client = server.client()
        assert client.execute("SELECT 1") == [(1,)]
        # An open connection does not hold up the end.
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(15) == 0


def test_a_folder_of_the_bare_engine_is_taken_over(start: Any, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    make = (
        f"import chdb; c = chdb.connect({str(folder)!r});"
        "c.query('CREATE TABLE default.old (a UInt8) ENGINE = MergeTree ORDER BY a');"
        "c.query('INSERT INTO default.old VALUES (7)'); c.close()"
    )
    subprocess.run([sys.executable, "-c", make], check=True, capture_output=True, timeout=60)
    assert start(folder).run("SELECT a FROM default.old") == "7\n"


def test_one_server_a_folder_and_one_a_port(
    server: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TOUCHSTONE_CLICKHOUSE_PASSWORD", raising=False)
    free, other = ["--native-port", "0", "--http-port", "0"], ["--data", str(tmp_path / "other")]
    taken = ["--native-port", str(server.native_port), "--http-port", "0"]
    for arguments, code, said in [
        ([*free, "--data", str(server.folder)], 3, "another server"),
        ([*taken, *other], 3, "choose others"),
        (["--native-port", "99999", *other], 2, "clickhouse_port"),
        ([*free, "--host", "0.0.0.0", *other], 2, "TOUCHSTONE_CLICKHOUSE_PASSWORD"),
    ]:
        assert main(arguments) == code
        assert said in capsys.readouterr().err


def test_kafka_tables_are_refused(server: Any) -> None:
    settings = "SETTINGS kafka_broker_list = 'x', kafka_topic_list = 'x', kafka_group_name = 'x', kafka_format = 'CSV'"
    for engine in ("Kafka", "`Kafka`", "/* */ Kafka"):
        query = f"CREATE TABLE k (a UInt8) ENGINE = {engine} {settings}"
        response = server.http(body=query.encode())
        assert response.headers["X-ClickHouse-Exception-Code"] == "48"
        with pytest.raises(errors.ServerException):
            server.client().execute(query)
    assert server.run("SELECT 'ENGINE = Kafka'") == "ENGINE = Kafka\n"


def test_another_server_of_the_engine_reads_and_writes_through_remote(server: Any, table: Any) -> None:
    name = table("a UInt64, s String")
    server.run(f"INSERT INTO {name} SELECT number, toString(number) FROM numbers(1000)")
    place = f"remote('127.0.0.1:{server.native_port}', default.{name}, 'touchstone', 'own er\\'s')"
    connect: Callable[[str], Any] = chdb.connect
    other = connect(":memory:")
    try:
        assert bytes(other.query(f"SELECT count(), sum(a) FROM {place}", "TSV").bytes()) == b"1000\t499500\n"
        other.query(f"INSERT INTO FUNCTION {place} SELECT 1000, 'x'")
        found = other.query(f"SELECT s, count() FROM {place} WHERE a IN (1, 1000) GROUP BY s ORDER BY s", "TSV")
        assert bytes(found.bytes()) == b"1\t1\nx\t1\n"
    finally:
        other.close()


def test_a_server_that_ends_lets_running_queries_finish(start: Any) -> None:
    server = start()
    answers: list[httpx.Response] = []
    slow = "SELECT sleepEachRow(0.1) FROM numbers(20) SETTINGS max_block_size = 1 FORMAT JSON"
    thread = threading.Thread(target=lambda: answers.append(server.http(slow)))
    thread.start()
    while server.run("SELECT count() FROM system.processes WHERE query LIKE 'SELECT sleepEachRow%'") != "1\n":
        assert thread.is_alive()
    server.process.send_signal(signal.SIGTERM)
    thread.join(20)
    assert answers[0].json()["rows"] == 20
    assert server.process.wait(15) == 0
