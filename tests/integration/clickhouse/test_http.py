"""The HTTP interface as curl and the drivers use it."""

from __future__ import annotations

import gzip
import io
import json
import shutil
import socket
import subprocess
import zlib
from typing import Any

import httpx
import lz4.frame
import pyarrow as pa
import pytest
import zstandard

from infra.embedded.clickhouse import compression
from infra.embedded.clickhouse.blocks import BLOCK_INFO
from infra.embedded.clickhouse.wire import ByteReader

pytestmark = pytest.mark.stack


def arrow_stream(**columns: Any) -> bytes:
    data = pa.table(columns)
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, data.schema) as writer:
        writer.write_table(data)
    return sink.getvalue()


def test_ping_and_root_need_no_login(server: Any) -> None:
    for path in ("/ping", "/", "/replicas_status"):
        response = httpx.get(f"http://127.0.0.1:{server.http_port}{path}")
        assert (response.status_code, response.text) == (200, "Ok.\n")
    assert httpx.get(f"http://127.0.0.1:{server.http_port}/nothing").status_code == 404
    assert httpx.put(f"http://127.0.0.1:{server.http_port}/").status_code == 405


def test_query_in_url_in_body_or_in_both(server: Any) -> None:
    assert server.http("SELECT 1", method="GET").text == "1\n"
    assert server.http("SELECT 1 AS", b"a FORMAT TSVWithNames").text == "a\n1\n"
    response = server.http(body=b"SELECT 'caf\xc3\xa9' AS t FORMAT JSONEachRow -- the end")
    assert response.json() == {"t": "café"}
    assert server.http(body=b"  ").status_code == 400
    form = {"query": (None, "SELECT {x:UInt8} + 1"), "param_x": (None, "4")}
    address = f"http://127.0.0.1:{server.http_port}/"
    assert httpx.post(address, files=form, auth=("touchstone", "own er's")).text == "5\n"


def test_logins_in_all_their_places(server: Any) -> None:
    address = f"http://127.0.0.1:{server.http_port}/?query=SELECT+currentUser()"
    right: list[dict[str, Any]] = [
        {"headers": {"X-ClickHouse-User": "touchstone", "X-ClickHouse-Key": "own er's"}},
        {"params": {"query": "SELECT 1", "user": "touchstone", "password": "own er's"}},
    ]
    for options in right:
        assert httpx.get(address, **options).status_code == 200
    wrong: list[dict[str, Any]] = [
        {},
        {"auth": ("touchstone", "wrong")},
        {"headers": {"Authorization": "Basic ???"}},
        {"headers": {"Authorization": "Bearer x"}},
        {"auth": ("touchstone", "own er's"), "headers": {"X-ClickHouse-User": "analyst"}},
    ]
    for options in wrong:
        response = httpx.get(address, **options)
        assert response.status_code == 403
        assert response.headers["X-ClickHouse-Exception-Code"] == "516"
        assert response.text.startswith("Code: 516. DB::Exception: ")
        assert "AUTHENTICATION_FAILED" in response.text
        assert "own er" not in response.text


def test_formats_parameters_settings_and_headers(server: Any) -> None:
    response = server.http("SELECT {x:String} AS x", param_x="it's", default_format="JSONCompact", query_id="q-1")
    assert response.json()["data"] == [["it's"]]
    assert response.headers["X-ClickHouse-Query-Id"] == "q-1"
    assert response.headers["X-ClickHouse-Format"] == "JSONCompact"
    assert response.headers["X-ClickHouse-Timezone"]
    assert json.loads(response.headers["X-ClickHouse-Summary"])["result_rows"] == "1"
    assert response.headers["Content-Type"].startswith("application/json")
    response = server.http("SELECT 1", headers={"X-ClickHouse-Format": "CSV", "X-ClickHouse-Database": "system"})
    assert response.text == "1\n"
    assert server.http("SELECT currentDatabase()", database="system").text == "system\n"
    assert server.http("SELECT getSetting('max_block_size')", max_block_size=99).text == "99\n"
    assert server.http("SELECT 1", no_such_setting=1).headers["X-ClickHouse-Exception-Code"] == "115"
    assert server.http("SELECT number FROM numbers(3) FORMAT JSON").json()["rows"] == 3
    assert server.http("SELECT 1 FORMAT Null").content == b""
    assert server.http("SELECT 1 WHERE 0 FORMAT CSVWithNames").text == '"1"\n'


def test_errors_have_status_code_and_text(server: Any) -> None:
    for query, status, code, name in [
        ("SELECT * FROM nowhere", 404, 60, "UNKNOWN_TABLE"),
        ("SELEC 1 1", 400, 62, "SYNTAX_ERROR"),
        ("SELECT 1; SELECT 2", 400, 62, "SYNTAX_ERROR"),
        ("SELECT no_such_function()", 404, 46, "UNKNOWN_FUNCTION"),
        ("SELECT throwIf(1)", 500, 395, "FUNCTION_THROW_IF_VALUE_IS_NON_ZERO"),
        ("SELECT 1 INTO OUTFILE '/tmp/x'", 500, 164, "READONLY"),
    ]:
        response = server.http(query)
        assert (response.status_code, response.headers["X-ClickHouse-Exception-Code"]) == (status, str(code)), query
        assert response.text.startswith(f"Code: {code}. DB::Exception: ")
        assert f"({name}) (version " in response.text
    assert server.http("SELECT 1", database="nowhere").headers["X-ClickHouse-Exception-Code"] == "81"


def test_get_only_reads(server: Any, table: Any) -> None:
    name = table("a UInt8")
    for query in (f"INSERT INTO {name} VALUES (1)", f"DROP TABLE {name}", f"INSERT INTO {name} SELECT 1"):
        assert server.http(query, method="GET").headers["X-ClickHouse-Exception-Code"] == "164"
    assert server.run(f"SELECT count() FROM {name}") == "0\n"


def test_large_results_stream_and_late_errors_break_off(server: Any) -> None:
    assert server.http("SELECT number FROM numbers(1000000)").text.count("\n") == 1_000_000
    late = "SELECT throwIf(number = 2900000) FROM numbers(3000000)"
    with pytest.raises(httpx.RemoteProtocolError):
        server.http(late)
    assert server.http(late, wait_end_of_query=1).headers["X-ClickHouse-Exception-Code"] == "395"


def test_compressed_answers(server: Any) -> None:
    query = "SELECT number FROM numbers(300000)"
    plain = server.http(query).content
    framed = server.http(query, compress=1).content
    reader, parts = ByteReader.of(framed), []
    while not reader.at_end():
        parts.append(compression.read_frame(reader))
    assert b"".join(parts) == plain
    unpack = {
        "gzip": gzip.decompress,
        "deflate": zlib.decompress,
        "lz4": lz4.frame.decompress,
        "zstd": lambda data: zstandard.ZstdDecompressor().decompressobj().decompress(data),
    }
    for encoding, decode in unpack.items():
        with httpx.stream(
            "POST",
            f"http://127.0.0.1:{server.http_port}/?enable_http_compression=1",
            content=query,
            auth=("touchstone", "own er's"),
            headers={"Accept-Encoding": encoding},
        ) as response:
            assert response.headers["Content-Encoding"] == encoding
            assert decode(b"".join(response.iter_raw())) == plain
    assert "Content-Encoding" not in server.http(query, headers={"Accept-Encoding": "gzip"}).headers


@pytest.mark.parametrize("where", ["url", "body"])
@pytest.mark.parametrize("encoding", ["", "gzip", "deflate", "lz4", "zstd", "frames"])
def test_inserts_in_every_encoding(server: Any, table: Any, encoding: str, where: str) -> None:
    name = table("a UInt64, s String")
    rows = 120_000
    data = arrow_stream(a=pa.array(range(rows), pa.uint64()), s=[f"v{i}\n\n" for i in range(rows)])
    query = f"INSERT INTO {name} (a, s) FORMAT ArrowStream"
    body = data if where == "url" else query.encode() + b"\n" + data
    pack = {
        "": lambda raw: raw,
        "gzip": gzip.compress,
        "deflate": zlib.compress,
        "lz4": lz4.frame.compress,
        "zstd": zstandard.ZstdCompressor().compress,
        "frames": compression.compress,
    }[encoding]
    options: dict[str, Any] = {"decompress": 1} if encoding == "frames" else {}
    headers = {"Content-Encoding": encoding} if encoding not in {"", "frames"} else {}
    response = server.http(query if where == "url" else None, pack(body), headers=headers, **options)
    assert response.status_code == 200, response.text
    assert json.loads(response.headers["X-ClickHouse-Summary"])["written_rows"] == str(rows)
    assert (
        server.run(f"SELECT count(), sum(a), uniqExact(s) FROM {name}") == f"{rows}\t{rows * (rows - 1) // 2}\t{rows}\n"
    )


@pytest.mark.parametrize(
    ("format_", "data"),
    [
        ("VALUES", b"(1, 'x\n\ny'), (2, 'z')"),
        ("FORMAT Values", b"(1, 'x\n\ny'), (2, 'z')"),
        ("FORMAT CSV", b'1,"x\n\ny"\n2,z\n'),
        ("FORMAT TSV", b"1\tx\\n\\ny\n2\tz\n"),
        ("FORMAT JSONEachRow", b'{"a":1,"s":"x\\n\\ny"}\n\n{"a":2,"s":"z"}\n'),
        ("FORMAT Native", None),
        ("FORMAT RowBinary", b"\x01\x04x\n\ny\x02\x01z"),
        ("FORMAT Parquet", None),
    ],
)
def test_inserts_in_every_format(server: Any, table: Any, format_: str, data: bytes | None) -> None:
    name = table("a UInt8, s String, d String DEFAULT concat(s, '!')")
    if data is None:
        rows = "SELECT 1::UInt8 AS a, 'x\\n\\ny' AS s UNION ALL SELECT 2, 'z'"
        data = server.http(f"SELECT * FROM ({rows}) {format_}").content
    assert server.http(f"INSERT INTO {name} (a, s) {format_}", data).status_code == 200
    expected = "1\tx\\n\\ny\tx\\n\\ny!\n2\tz\tz!\n"
    assert server.run(f"SELECT * FROM {name} ORDER BY a") == expected
    assert server.http(body=f"INSERT INTO {name} (a, s) {format_}\n".encode() + data).status_code == 200
    assert server.run(f"SELECT count(), uniqExact(s) FROM {name}") == "4\t2\n"


def test_failed_inserts_say_so_and_leave_nothing(server: Any, table: Any) -> None:
    checked = table("a UInt8, CONSTRAINT small CHECK a < 100")
    parted = table("a UInt64", "MergeTree PARTITION BY a ORDER BY a")
    for query, data, code in [
        (f"INSERT INTO {checked} FORMAT CSV", b"1\n200\n", "469"),
        (f"INSERT INTO {parted} FORMAT CSV", b"1\n2\n3\n4\n5\n6\n", "252"),
        (f"INSERT INTO {checked} FORMAT CSV", b"1\nnonsense\n", "117"),
        (f"INSERT INTO {checked} FORMAT Native", b"\x01\x02\x01a\x05UInt8\x01", "33"),
        ("INSERT INTO nowhere FORMAT CSV", b"1\n" * 2_000_000, "60"),
        (f"INSERT INTO {checked} FORMAT Nonsense", b"1\n", "73"),
    ]:
        response = server.http(query, data, max_partitions_per_insert_block=3)
        assert response.headers.get("X-ClickHouse-Exception-Code") == code, (query, response.text)
        assert response.status_code >= 400
    assert server.run(f"SELECT count() FROM {checked}") == "0\n"
    assert server.run(f"SELECT count() FROM {parted}") == "0\n"
    assert server.http("INSERT INTO t FORMAT CSV", b"\x00", headers={"Content-Encoding": "br"}).status_code == 400
    bad = server.http(f"INSERT INTO {checked} FORMAT CSV", b"not gzip", headers={"Content-Encoding": "gzip"})
    assert bad.headers["X-ClickHouse-Exception-Code"] == "271"


def test_an_insert_that_stops_in_the_middle_writes_nothing(server: Any, table: Any, until: Any) -> None:
    name = table("a UInt64")
    with socket.create_connection(("127.0.0.1", server.http_port)) as peer:
        head = (
            f"POST /?query=INSERT+INTO+{name}+FORMAT+CSV HTTP/1.1\r\nHost: x\r\nX-ClickHouse-User: touchstone\r\n"
            "X-ClickHouse-Key: own er's\r\nContent-Length: 1000000\r\n\r\n"
        )
        peer.sendall(head.encode() + b"1\n" * 1000)
        running = "SELECT count() FROM system.processes WHERE query LIKE 'INSERT INTO t0_%'"
        until(lambda: server.run(running) == "1\n")
    until(lambda: server.run(running) == "0\n")
    assert server.run(f"SELECT count() FROM {name}") == "0\n"


def test_deduplication_by_token(server: Any, table: Any) -> None:
    name = table("a UInt8", "MergeTree ORDER BY a SETTINGS non_replicated_deduplication_window = 100")
    native = server.http("SELECT 1::UInt8 AS a FORMAT Native").content
    plain = {"insert_deduplication_token": "one"}

    def insert(**settings: str) -> int:
        response = server.http(f"INSERT INTO {name} FORMAT Native", native, **settings)
        assert response.status_code == 200
        return int(server.run(f"SELECT count() FROM {name}"))

    assert insert(**plain) == 1
    assert insert(**plain) == 1
    assert insert(insert_deduplication_token="two") == 2
    assert insert(insert_deduplication_token="two", session_id="dedup") == 2
    # Within one session the token holds for its own request alone.
    assert insert(insert_deduplication_token="three", session_id="dedup") == 3
    assert insert(insert_deduplication_token="four", session_id="dedup") == 4
    inline = f"INSERT INTO {name} SETTINGS insert_deduplication_token = 'one' VALUES (1)"
    server.run(inline)
    assert server.run(f"SELECT count() FROM {name}") == "4\n"
    client = server.client()
    for token, count in (("one", 4), ("five", 5), ("five", 5)):
        client.execute(f"INSERT INTO {name} VALUES", [(1,)], settings={"insert_deduplication_token": token})
        assert client.execute(f"SELECT count() FROM {name}") == [(count,)]


def test_sessions_keep_their_state_until_their_timeout(server: Any, until: Any) -> None:
    session = {"session_id": "s1", "session_timeout": 1}
    server.run("CREATE TEMPORARY TABLE mine (a UInt8)", **session)
    server.run("INSERT INTO mine VALUES (7)", **session)
    server.run("SET max_block_size = 98", **session)
    assert server.run("SELECT a, getSetting('max_block_size') FROM mine", **session) == "7\t98\n"
    assert server.http("SELECT * FROM mine").headers["X-ClickHouse-Exception-Code"] == "60"
    assert server.http("SELECT 1", session_id="s2", session_check=1).headers["X-ClickHouse-Exception-Code"] == "372"
    check = {"session_id": "s1", "session_check": 1, "session_timeout": 1}
    assert server.http("SELECT 1", **check).status_code == 200


def test_a_session_serves_one_request_at_a_time(server: Any, until: Any) -> None:
    address = f"http://127.0.0.1:{server.http_port}/"
    slow = {
        "session_id": "busy",
        "query": "SELECT sleepEachRow(0.1) FROM numbers(20) SETTINGS max_block_size = 1 FORMAT JSON",
    }
    with socket.create_connection(("127.0.0.1", server.http_port)) as peer:
        request = httpx.Request("GET", address, params=slow)
        peer.sendall(
            f"GET {request.url.raw_path.decode()} HTTP/1.1\r\nHost: x\r\nX-ClickHouse-User: touchstone\r\n"
            "X-ClickHouse-Key: own er's\r\n\r\n".encode()
        )
        running = "SELECT count() FROM system.processes WHERE query LIKE 'SELECT sleepEachRow(0.1) FROM numbers(20)%'"
        until(lambda: server.run(running) == "1\n")
        assert server.http("SELECT 1", session_id="busy").headers["X-ClickHouse-Exception-Code"] == "373"
    # Its client has left: the query stops long before its end.
    until(lambda: server.run(running) == "0\n")


def test_native_for_newer_revisions(server: Any) -> None:
    query = "SELECT number AS n, toString(number) AS s FROM numbers(3) FORMAT Native"
    plain = server.http(query).content
    assert plain == server.http(query, client_protocol_version=54405).content
    newer = server.http(query, client_protocol_version=54460).content
    first = b"\x02\x03\x01n\x06UInt64"
    assert plain.startswith(first)
    assert newer.startswith(BLOCK_INFO + first + b"\x00")
    assert b"\x01s\x06String\x00\x010\x011\x012" in newer
    assert len(newer) == len(plain) + len(BLOCK_INFO) + 2


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl(server: Any, table: Any) -> None:
    name = table("a UInt8")
    address = f"http://127.0.0.1:{server.http_port}/"

    def curl(*options: str, data: bytes = b"") -> str:
        command = ["curl", "-sS", "--user", "touchstone:own er's", *options]
        return subprocess.run(command, input=data, capture_output=True, check=True, timeout=30).stdout.decode()

    assert curl(f"{address}?query=SELECT%201") == "1\n"
    assert curl(f"{address}?query=INSERT%20INTO%20{name}%20FORMAT%20CSV", "--data-binary", "@-", data=b"1\n2\n") == ""
    assert curl(address, "-d", f"SELECT sum(a) FROM {name}") == "3\n"
    big = b"3\n" * 3_000_000
    options = ["-H", "Transfer-Encoding: chunked", "-T", "-", "-X", "POST"]
    assert curl(f"{address}?query=INSERT%20INTO%20{name}%20FORMAT%20CSV", *options, data=big) == ""
    assert curl(f"{address}?query=SELECT%20count()%20FROM%20{name}") == "3000002\n"
    assert curl("-I", f"{address}ping").startswith("HTTP/1.1 200")
