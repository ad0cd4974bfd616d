"""Secrets by reference."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.alerting.delivery.secret import SecretUnreadableError, read_secret


def test_a_file_is_read_each_time(tmp_path: Path) -> None:
    place = tmp_path / "secret"
    place.write_text("one\n")
    assert read_secret(f"file:{place}", "field") == "one"
    place.write_text("two")
    assert read_secret(f"file:{place}", "field") == "two"


def test_the_environment_is_read_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DESK_SECRET", "one")
    assert read_secret("env:DESK_SECRET", "field") == "one"
    monkeypatch.delenv("DESK_SECRET")
    with pytest.raises(SecretUnreadableError, match=r"signing_secrets\[0\]: env:DESK_SECRET"):
        read_secret("env:DESK_SECRET", "signing_secrets[0]")


@pytest.mark.parametrize("content", [b"", b" \n", b"a\nb", b"a\r\nX: y", b"\xff\xfe", "ä".encode(), b"x" * 20_000])
def test_what_is_no_secret_is_refused_and_not_quoted(tmp_path: Path, content: bytes) -> None:
    place = tmp_path / "secret"
    place.write_bytes(content)
    with pytest.raises(SecretUnreadableError, match="field"):
        read_secret(f"file:{place}", "field")


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(SecretUnreadableError, match="No such file"):
        read_secret(f"file:{tmp_path}/none", "field")
