"""The rules file: read once, and again when it has changed."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from services.alerting.rules.read import RulesError
from services.alerting.rules_file import NO_RULES, RulesFile

RIGHT = """version: 1
receivers: [{name: desk, type: file, path: "-"}]
rules: [{name: leaving, when: band = 'high', owner: retention, receivers: [desk]}]
"""
OTHER = RIGHT.replace("'high'", "'elevated'")
WRONG = RIGHT.replace("'high'", "'hgh'")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "rules.yaml"
    path.write_text(RIGHT)
    return path


def replaced(path: Path, text: str) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    fresh.replace(path)


def test_no_file_is_no_rules() -> None:
    file = RulesFile(None)
    assert file.rules is NO_RULES
    assert not file.look()


def test_a_wrong_file_at_the_start_is_an_error_with_its_line(path: Path) -> None:
    path.write_text(WRONG)
    with pytest.raises(RulesError, match=f"{path}:3"):
        RulesFile(path)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        RulesFile(path)


def test_a_changed_file_holds_from_the_next_look(path: Path) -> None:
    file = RulesFile(path)
    assert not file.look()
    before = file.rules.rules_version
    replaced(path, OTHER)
    assert file.look()
    assert file.rules.rules_version != before
    assert not file.look()


def test_another_layout_of_the_same_rules_is_no_change(path: Path) -> None:
    file = RulesFile(path)
    replaced(path, "# the desk's rules\n" + RIGHT)
    assert not file.look()


def test_a_wrong_file_later_is_told_once_and_changes_nothing(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = RulesFile(path)
    before = file.rules
    with caplog.at_level(logging.ERROR):
        replaced(path, WRONG)
        assert not file.look()
        assert not file.look()
    assert file.wrong
    assert file.rules is before
    assert len(caplog.records) == 1
    replaced(path, RIGHT)
    assert not file.look()
    assert not file.wrong


def test_a_file_that_is_gone_leaves_the_rules_in_force(path: Path) -> None:
    file = RulesFile(path)
    before = file.rules
    path.unlink()
    assert not file.look()
    assert file.wrong
    assert file.rules is before
    replaced(path, OTHER)
    assert file.look()
