"""Errors by class, connections thrown away after them, retries, threads."""

from __future__ import annotations

import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from pydantic import SecretStr

from infra.clickhouse.client import ClickHouse, connect
from infra.clickhouse.errors import (
    LoginRefusedError,
    OverloadedError,
    StatementRefusedError,
    UnfitServerError,
    UnreachableError,
)
from infra.clickhouse.requirements import assert_settings
from infra.clickhouse.settings import ClickHouseSettings

pytestmark = pytest.mark.stack


def test_rows_and_columns(clickhouse: ClickHouse) -> None:
    assert clickhouse.query("SELECT number, %(name)s FROM numbers(2)", {"name": "o'x"}) == [(0, "o'x"), (1, "o'x")]
    columns = clickhouse.arrow("SELECT number AS n, toFixedString('a', 2) AS t FROM numbers(2)")
    assert columns.to_pydict() == {"n": [0, 1], "t": [b"a\0", b"a\0"]}
    assert clickhouse.arrow("SELECT number AS n FROM numbers(0)").column_names == ["n"]
    assert clickhouse.frame("SELECT number AS n, 'x' AS t FROM numbers(2)").rows() == [(0, "x"), (1, "x")]


def test_a_refused_statement_has_the_code_and_the_next_one_works(clickhouse: ClickHouse) -> None:
    for failing in (clickhouse.query, clickhouse.arrow, clickhouse.frame):
        with pytest.raises(StatementRefusedError) as caught:
            failing("SELECT no_such_column FROM numbers(1)")
        assert caught.value.code == 47
    assert clickhouse.query("SELECT 1") == [(1,)]
    assert clickhouse.arrow("SELECT 1 AS one").to_pydict() == {"one": [1]}


def test_a_time_limit_is_overload(clickhouse: ClickHouse) -> None:
    with pytest.raises(OverloadedError) as caught:
        clickhouse.query("SELECT count() FROM numbers(1000000000000)", settings={"max_execution_time": 1})
    assert caught.value.code == 159


def test_a_wrong_password_says_what_to_set(migrated: ClickHouseSettings) -> None:
    wrong = migrated.model_copy(update={"user": "nobody", "password": SecretStr("secret")})
    with connect(wrong) as client:
        for failing in (client.query, client.frame):
            with pytest.raises(LoginRefusedError, match="TOUCHSTONE_CLICKHOUSE_USER") as caught:
                failing("SELECT 1")
            assert "secret" not in str(caught.value)


def test_nobody_there(migrated: ClickHouseSettings) -> None:
    with connect(migrated.model_copy(update={"port": 1, "http_port": 1})) as client:
        for failing in (client.query, client.arrow, client.frame):
            with pytest.raises(UnreachableError, match="does not answer"):
                failing("SELECT 1")


def test_a_server_that_says_nothing_is_given_up_in_time(migrated: ClickHouseSettings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        hurried = migrated.model_copy(update={"port": port, "http_port": port, "timeout_s": 1, "connect_timeout_s": 1})
        with connect(hurried) as client:
            for failing in (client.query, client.frame):
                with pytest.raises(UnreachableError):
                    failing("SELECT 1")


def test_a_passing_fault_is_waited_out(migrated: ClickHouseSettings) -> None:
    """The first connection is cut; the retry reaches the server."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        attempts: list[int] = []

        def relay() -> None:
            while True:
                try:
                    here, _ = listening.accept()
                except OSError:
                    return
                attempts.append(1)
                if len(attempts) == 1:
                    here.close()
                    continue
                there = socket.create_connection((migrated.host, migrated.port))
                for source, target in ((here, there), (there, here)):
                    threading.Thread(target=copy, args=(source, target), daemon=True).start()

        def copy(source: socket.socket, target: socket.socket) -> None:
            with source:
                while data := source.recv(1 << 16):
                    target.sendall(data)
            target.close()

        threading.Thread(target=relay, daemon=True).start()
        patient = migrated.model_copy(update={"port": listening.getsockname()[1], "retry_s": 20})
        with connect(patient) as client:
            assert client.query("SELECT 7") == [(7,)]
        assert len(attempts) == 2


def test_threads_share_a_client(clickhouse: ClickHouse) -> None:
    def work(number: int) -> int:
        [[total]] = clickhouse.query(f"SELECT sum(number + {number}) FROM numbers(1000)")
        assert clickhouse.frame(f"SELECT {number} AS n").item() == number
        return int(total)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(20))) == [499_500 + 1000 * number for number in range(20)]


def test_the_embedded_server_is_fit(clickhouse: ClickHouse) -> None:
    assert_settings(clickhouse)


def test_a_newer_versions_column_is_no_harm(clickhouse: ClickHouse) -> None:
    clickhouse.query("ALTER TABLE touchstone.models ADD COLUMN other String COMMENT 'Another' AFTER version")
    try:
        assert_settings(clickhouse)
    finally:
        clickhouse.query("ALTER TABLE touchstone.models DROP COLUMN other")


@pytest.mark.parametrize(
    ("statement", "undo", "message"),
    [
        (
            "ALTER TABLE touchstone.touchpoints MODIFY SETTING non_replicated_deduplication_window = 5",
            "ALTER TABLE touchstone.touchpoints MODIFY SETTING non_replicated_deduplication_window = 10000",
            "touchpoints notices the repetition of 5 blocks",
        ),
        (
            "ALTER TABLE touchstone.models RENAME COLUMN report TO other",
            "ALTER TABLE touchstone.models RENAME COLUMN other TO report",
            r"models has not all columns that are needed, or of other types: \[\('report', 'String'\)\]",
        ),
        (
            "RENAME TABLE touchstone.models TO touchstone.elsewhere",
            "RENAME TABLE touchstone.elsewhere TO touchstone.models",
            "models does not exist",
        ),
    ],
)
def test_an_unfit_database_is_refused(clickhouse: ClickHouse, statement: str, undo: str, message: str) -> None:
    clickhouse.query(statement)
    try:
        with pytest.raises(UnfitServerError, match=message):
            assert_settings(clickhouse)
    finally:
        clickhouse.query(undo)
    assert_settings(clickhouse)
