from __future__ import annotations

import importlib
import inspect
import json
import stat
from pathlib import Path

import pytest
from pydantic_settings import BaseSettings

from services.cli.addresses import locate
from services.cli.console import CommandError, ExitCode
from services.cli.setting_names import OTHERS
from services.cli.settings import (
    PREFIX,
    StackSettings,
    credentials_path,
    known_names,
    load_settings,
    names_of,
    unknown_settings,
)

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def _clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working folder of its own, and no setting from outside."""
    import os

    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)


def refusal() -> str:
    with pytest.raises(CommandError) as caught:
        load_settings()
    assert caught.value.code is ExitCode.WRONG_USE
    return str(caught.value)


def test_the_defaults_are_the_documented_names(tmp_path: Path) -> None:
    settings = load_settings()
    assert settings.data_dir == tmp_path / ".touchstone"
    where = locate(settings)
    assert (where.ingest_url, where.kafka_bootstrap) == ("http://127.0.0.1:8080", "127.0.0.1:9092")
    assert (where.clickhouse_port, where.clickhouse_http_url) == (9000, "http://127.0.0.1:8123")


def test_the_environment_wins_over_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("TOUCHSTONE_KAFKA_PORT=1001\nTOUCHSTONE_INGEST_PORT=1002\nOTHER=x\n")
    monkeypatch.setenv("TOUCHSTONE_INGEST_PORT", "1003")
    settings = load_settings()
    assert (settings.kafka_port, settings.ingest_port) == (1001, 1003)
    assert settings.is_set("kafka_port")
    assert not settings.is_set("clickhouse_port")


def test_an_unknown_variable_stops_and_names_what_is_near(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOUCHSTONE_KAFKA_PROT", "1")
    Path(".env").write_text("TOUCHSTONE_DATADIR=/x\nTOUCHSTONE_ZZZ=1\n")
    message = refusal()
    assert "TOUCHSTONE_KAFKA_PROT is no setting of Touchstone: did you mean TOUCHSTONE_KAFKA_PORT" in message
    assert "TOUCHSTONE_DATADIR is no setting of Touchstone: did you mean TOUCHSTONE_DATA_DIR" in message
    assert "TOUCHSTONE_ZZZ is no setting of Touchstone: docs/settings.md" in message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TOUCHSTONE_KAFKA_PORT", "0"),
        ("TOUCHSTONE_KAFKA_PORT", "70000"),
        ("TOUCHSTONE_PARTITIONS", "four"),
        ("TOUCHSTONE_SCORING_WORKERS", "-1"),
        ("TOUCHSTONE_KAFKA_HEAP_MIB", "1"),
    ],
)
def test_a_wrong_value_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    assert f"{name}={value}: " in refusal()


def test_more_workers_than_partitions_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOUCHSTONE_SCORING_WORKERS", "5")
    assert "TOUCHSTONE_SCORING_WORKERS=5 is more than TOUCHSTONE_PARTITIONS=4" in refusal()


def test_one_name_for_both_logins_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOUCHSTONE_CLICKHOUSE_READER", "touchstone")
    assert "must differ" in refusal()


def test_names_of_other_programs_are_theirs() -> None:
    assert unknown_settings(["PATH", "TOUCHSTONES"], known_names()) == []


def test_passwords_are_made_once_and_kept_from_others() -> None:
    settings = load_settings()
    assert settings.credentials().owner == ""
    made = settings.credentials(create=True)
    assert len(made.owner) > 20
    assert made.owner != made.reader
    assert load_settings().credentials(create=True) == load_settings().credentials() == made
    path = credentials_path(settings.data_dir)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert made.owner not in repr(made)
    assert [found.name for found in path.parent.iterdir()] == ["credentials.json"]


def test_set_passwords_are_used_and_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOUCHSTONE_CLICKHOUSE_PASSWORD", "o")
    monkeypatch.setenv("TOUCHSTONE_CLICKHOUSE_READER_PASSWORD", "r")
    settings = load_settings()
    credentials = settings.credentials(create=True)
    assert (credentials.owner, credentials.reader) == ("o", "r")
    assert not settings.data_dir.exists()
    assert "'o'" not in repr(settings)


@pytest.mark.parametrize("content", ["", "{}", "[]", json.dumps({"clickhouse_password": "x"})])
def test_a_damaged_password_file_is_named(content: str) -> None:
    settings = load_settings()
    settings.data_dir.mkdir()
    credentials_path(settings.data_dir).write_text(content)
    with pytest.raises(CommandError, match=r"credentials\.json cannot be read"):
        settings.credentials()


def settings_classes() -> list[type[BaseSettings]]:
    modules = [path.relative_to(ROOT) for part in ("infra", "services") for path in (ROOT / part).rglob("settings.py")]
    found = []
    for path in modules:
        module = importlib.import_module(".".join(path.with_suffix("").parts))
        found += [
            thing
            for _, thing in inspect.getmembers(module, inspect.isclass)
            if issubclass(thing, BaseSettings) and thing.__module__ == module.__name__
        ]
    return found


@pytest.mark.parametrize("settings", settings_classes(), ids=lambda settings: settings.__name__)
def test_every_setting_of_every_part_is_known(settings: type[BaseSettings]) -> None:
    """Else `touchstone up` would refuse a variable that a part reads: add it to setting_names.py."""
    assert names_of(settings) <= known_names()


def test_no_known_name_is_left_over() -> None:
    read = frozenset[str]().union(*(names_of(settings) for settings in settings_classes()))
    assert read >= OTHERS
    assert not OTHERS & names_of(StackSettings)
