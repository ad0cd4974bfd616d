"""Settings stop the start with words."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.ingest.limits import Limits
from services.ingest.settings import IngestSettings, SettingsError, is_loopback, load

KEY = "0123456789abcdef"


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [*IngestSettings.model_fields]:
        monkeypatch.delenv(f"TOUCHSTONE_INGEST_{name.upper()}", raising=False)
    for name in ("TOUCHSTONE_KAFKA_BOOTSTRAP", "TOUCHSTONE_API_KEYS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def test_defaults_are_those_of_the_limits() -> None:
    settings = load({})
    assert settings.limits == Limits()
    assert (settings.host, settings.port, settings.kafka_bootstrap) == ("127.0.0.1", 8080, "127.0.0.1:9092")
    assert settings.keys() == ()


def test_environment_and_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("TOUCHSTONE_INGEST_PORT=9999\nTOUCHSTONE_DATA_DIR=elsewhere\n")
    monkeypatch.setenv("TOUCHSTONE_KAFKA_BOOTSTRAP", "kafka-1:9092,kafka-2:9092")
    settings = load({})
    assert (settings.port, settings.kafka_bootstrap) == (9999, "kafka-1:9092,kafka-2:9092")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TOUCHSTONE_INGEST_PORT", "eighty"),
        ("TOUCHSTONE_INGEST_PORT", "70000"),
        ("TOUCHSTONE_INGEST_MAX_BATCH_EVENTS", "0"),
        ("TOUCHSTONE_INGEST_RECEIVE_TIMEOUT_S", "-1"),
        ("TOUCHSTONE_INGEST_LOG_LEVEL", "loud"),
        ("TOUCHSTONE_KAFKA_BOOTSTRAP", ""),
    ],
)
def test_a_wrong_value_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=name):
        load({})


def test_an_unknown_setting_is_named() -> None:
    with pytest.raises(SettingsError, match=r"TOUCHSTONE_INGEST_PROT.*TOUCHSTONE_INGEST_PORT"):
        load({"TOUCHSTONE_INGEST_PROT": "1", "TOUCHSTONE_OTHER": "2"})


def test_listening_elsewhere_needs_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOUCHSTONE_INGEST_HOST", "0.0.0.0")
    with pytest.raises(SettingsError, match="TOUCHSTONE_API_KEYS"):
        load({})
    monkeypatch.setenv("TOUCHSTONE_API_KEYS", KEY)
    assert load({}).keys() == (KEY,)


def test_keys_from_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(f"{KEY}\n\n{KEY}-2\n")
    monkeypatch.setenv("TOUCHSTONE_API_KEYS", f"@{path}")
    settings = load({})
    assert settings.keys() == (KEY, f"{KEY}-2")
    assert KEY not in repr(settings)
    path.unlink()
    with pytest.raises(SettingsError, match="cannot be read"):
        settings.keys()


@pytest.mark.parametrize("keys", ["short", f"{KEY},x", "ключ-ключ-ключ-ключ", "with\ttab-0123456789"])
def test_weak_keys_are_refused(monkeypatch: pytest.MonkeyPatch, keys: str) -> None:
    monkeypatch.setenv("TOUCHSTONE_API_KEYS", keys)
    with pytest.raises(SettingsError, match="at least 16"):
        load({})


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("example.org", False),
    ],
)
def test_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected
