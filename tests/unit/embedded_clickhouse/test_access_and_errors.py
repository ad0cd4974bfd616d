"""Logins, error texts, HTTP requests and bodies: all without an engine."""

from __future__ import annotations

import base64
import gzip
import zlib
from typing import Any

import lz4.frame
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from infra.embedded.clickhouse import bodies, compression, request
from infra.embedded.clickhouse.access import Users
from infra.embedded.clickhouse.errors import AccessError, ClickHouseError, EngineError, http_status
from infra.embedded.clickhouse.settings import ClickHouseServerSettings

USERS = Users("touchstone", "secret", "analyst", "")


def test_logins() -> None:
    assert not USERS.login("touchstone", "secret").reader
    assert USERS.login("analyst", "").reader
    for user, password in [
        ("touchstone", ""),
        ("analyst", "secret"),
        ("", ""),
        ("default", "secret"),
        ("\udcff", "\n"),
    ]:
        with pytest.raises(AccessError) as caught:
            USERS.login(user, password)
        assert caught.value.code == 516
        assert "secret" not in caught.value.message
        assert "\n" not in caught.value.message


TEXTS = [
    ("Code: 60. DB::Exception: No table x. (UNKNOWN_TABLE)", 60, "No table x", "UNKNOWN_TABLE"),
    ("Streaming query failed: Code: 395. DB::Exception: Bad: (x). (FUNCTION_THROW)", 395, "Bad: (x)", "FUNCTION_THROW"),
    ("Code: 33. DB::Exception: Cannot: While. (NO_READ) (version 26.9.2.1)", 33, "Cannot: While", "NO_READ"),
    ("Code: 62. DB::Exception: Two\nlines. (SYNTAX_ERROR)", 62, "Two\nlines", "SYNTAX_ERROR"),
    ("Code: 1. DB::Exception: Code: 1. DB::Exception: In. (A_B) (version 1.2): out. (A_B)", 1, "In: out", "A_B"),
    ("something else", 1002, "something else", "UNKNOWN_EXCEPTION"),
]


@pytest.mark.parametrize(("raised", "code", "message", "name"), TEXTS)
def test_engine_errors_are_read(raised: str, code: int, message: str, name: str) -> None:
    error = EngineError.parse(RuntimeError(raised))
    assert (error.code, error.message, error.name) == (code, message, name)
    assert error.text("1.2") == f"Code: {code}. DB::Exception: {message}. ({name}) (version 1.2)"


def test_http_statuses() -> None:
    expected = {516: 403, 60: 404, 62: 400, 81: 404, 159: 408, 164: 500, 202: 503, 48: 501, 99999: 500}
    assert {code: http_status(code) for code in expected} == expected


def basic(text: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(text.encode()).decode()}


def test_requests_are_read() -> None:
    asked = request.read(
        "POST", b"query=SELECT%201&param_x=a%20b&max_threads=2&database=d&session_timeout=7", basic("u:p:q")
    )
    assert (asked.user, asked.password, asked.database) == ("u", "p:q", "d")
    assert asked.parameters["query"] == "SELECT 1"
    assert (asked.query_parameters, asked.settings) == ({"x": "a b"}, {"max_threads": "2"})
    assert asked.session_timeout_s == 7
    assert asked.format == "TabSeparated"
    plain = request.read("GET", b"user=u&password=p", {})
    assert (plain.user, plain.password) == ("u", "p")
    assert request.read("GET", b"", {}).user == "default"
    assert "\n" not in request.read("GET", b"query_id=a%0Ab", {}).query_id
    with pytest.raises(AccessError):
        request.read("GET", b"user=other", basic("u:p"))
    with pytest.raises(ClickHouseError):
        _ = request.read("GET", b"session_timeout=x", {}).session_timeout_s


def test_forms() -> None:
    body = b'--b\r\nContent-Disposition: form-data; name="query"\r\n\r\nSELECT 1\r\n--b--\r\n'
    assert request.form_fields("multipart/form-data; boundary=b", body) == [("query", "SELECT 1")]
    file = b'--b\r\nContent-Disposition: form-data; name="x"; filename="f"\r\n\r\n1\r\n--b--\r\n'
    for content_type, data in [("multipart/form-data", body), ("multipart/form-data; boundary=b", file)]:
        with pytest.raises(ClickHouseError):
            request.form_fields(content_type, data)


PACK = {
    "": lambda data: data,
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "lz4": lz4.frame.compress,
    "zstd": zstandard.ZstdCompressor().compress,
}


@given(
    st.sampled_from([*PACK]),
    st.booleans(),
    st.one_of(st.binary(max_size=500), st.builds(lambda n: b"zeros" * n, st.integers(0, 100_000))),
    st.lists(st.integers(1, 3000), max_size=6),
)
def test_bodies_in_any_pieces(encoding: str, frames: bool, data: bytes, steps: list[int]) -> None:
    packed = PACK[encoding](compression.compress(data) if frames else data)
    unpack = bodies.decoder(encoding, frames)
    got: list[bytes] = []
    for step in steps:
        got += unpack.feed(packed[:step])
        packed = packed[step:]
    got += unpack.feed(packed)
    unpack.end()
    assert b"".join(got) == data


def unpacked(encoding: str, data: bytes) -> bytes:
    unpack = bodies.decoder(encoding, False)
    plain = b"".join(unpack.feed(data))
    unpack.end()
    return plain


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "lz4", "zstd"])
def test_damaged_and_short_bodies(encoding: str) -> None:
    packed = PACK[encoding](bytes(range(256)) * 50)
    for damaged in (packed[:-4], b"nonsense" * 10, packed[: len(packed) // 2]):
        with pytest.raises(ClickHouseError) as caught:
            unpacked(encoding, damaged)
        assert caught.value.code == 271
    with pytest.raises(ClickHouseError):
        bodies.decoder("br", False)


@pytest.mark.parametrize("encoding", ["gzip", "lz4"])
def test_a_bomb_comes_out_in_small_steps(encoding: str) -> None:
    packed = PACK[encoding](bytes(64 << 20))
    sizes = [len(piece) for piece in bodies.decoder(encoding, False).feed(packed)]
    assert sum(sizes) == 64 << 20
    assert max(sizes) <= bodies.STEP_BYTES


@pytest.mark.parametrize("accepted", ["gzip", "deflate", "lz4", "zstd", "br"])
def test_answers_are_packed_as_accepted(accepted: str) -> None:
    packer, name = bodies.encoder(f"br, {accepted};q=1", allowed=True, frames=False)
    packed = packer.pack(b"one") + packer.pack(b"two") + packer.finish()
    assert name == ("" if accepted == "br" else accepted)
    unpack = bodies.decoder(name, False)
    assert b"".join(unpack.feed(packed)) == b"onetwo"
    assert bodies.encoder(accepted, allowed=False, frames=False)[1] == ""


@pytest.mark.parametrize(
    "wrong",
    [
        {"clickhouse_port": 70000},
        {"clickhouse_reader": "touchstone"},
        {"clickhouse_host": "0.0.0.0"},
        {"clickhouse_host": "0.0.0.0", "clickhouse_password": "x"},
        {"clickhouse_reader_max_seconds": 0},
    ],
)
def test_wrong_settings_stop_the_start(wrong: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in wrong.items():
        monkeypatch.setenv(f"TOUCHSTONE_{name.upper()}", str(value))
    with pytest.raises(ValidationError, match=r"(?i)clickhouse"):
        ClickHouseServerSettings()


def test_default_settings_listen_on_loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOUCHSTONE_CLICKHOUSE_HOST", raising=False)
    settings = ClickHouseServerSettings()
    assert settings.clickhouse_host == "127.0.0.1"
    assert settings.limits.settings()["max_execution_time"] == "30"


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("Unknown table 'anna@example.com'", "Unknown table '...'"),
        ("Cannot parse 'it\\'s anna' as \"Float64\" at 'end", "Cannot parse '...' as '...' at '...'"),
        (
            "Empty marks file '/data/store/a/data.cmrk4': 0\nsecond 'line'",
            "Empty marks file '/data/store/a/data.cmrk4': 0",
        ),
        ("Cannot open '/data-of-anna'", "Cannot open '...'"),
        ("x" * 600, "x" * 500),
    ],
)
def test_a_log_has_the_words_without_what_is_quoted(message: str, expected: str) -> None:
    assert EngineError(1, message).without_values("/data") == expected
