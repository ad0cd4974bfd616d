"""Debian's clickhouse-client: an old release, so it also tests old revisions."""

from __future__ import annotations

import shutil
import subprocess
from typing import Any

import pytest

pytestmark = [
    pytest.mark.stack,
    pytest.mark.skipif(
        shutil.which("clickhouse-client") is None,
        reason="clickhouse-client is not installed (apt-get install clickhouse-client)",
    ),
]


def ask(server: Any, query: str, data: bytes = b"", *options: str) -> subprocess.CompletedProcess[bytes]:
    command = ["clickhouse-client", "--host", "127.0.0.1", "--port", str(server.native_port)]
    login = ["--user", "touchstone", "--password", "own er's"]
    return subprocess.run([*command, *login, *options, "--query", query], input=data, capture_output=True, timeout=60)


@pytest.mark.parametrize("compression", ["0", "1"])
def test_reads_and_writes(server: Any, table: Any, compression: str) -> None:
    name = table("a UInt64, s String, n Nullable(Float64)")
    option = f"--compression={compression}"
    assert ask(server, "SELECT 1, 'x'", b"", option).stdout == b"1\tx\n"
    rows = b"".join(b"%d\tv%d\t\\N\n" % (i, i % 1000) for i in range(100_000))
    done = ask(server, f"INSERT INTO {name} FORMAT TSV", rows, option)
    assert (done.returncode, done.stderr) == (0, b"")
    assert ask(server, f"SELECT count(), sum(a), countIf(n IS NULL) FROM {name}", b"", option).stdout == (
        b"100000\t4999950000\t100000\n"
    )
    assert ask(server, f"SELECT * FROM {name} ORDER BY a", b"", option).stdout == rows
    assert ask(server, f"INSERT INTO {name} VALUES (1, 'inline', 2.5)", b"", option).returncode == 0
    found = ask(server, f"SELECT * FROM {name} WHERE s = 'inline' FORMAT JSONEachRow", b"", option)
    assert found.stdout.strip() == b'{"a":"1","s":"inline","n":2.5}'


def test_errors_and_settings(server: Any) -> None:
    failed = ask(server, "SELECT * FROM nowhere")
    assert failed.returncode == 60
    assert b"UNKNOWN_TABLE" in failed.stderr
    assert ask(server, "SELECT getSetting('max_block_size')", b"", "--max_block_size=77").stdout == b"77\n"
    assert ask(server, "SELECT 1", b"", "--password", "wrong").returncode != 0
