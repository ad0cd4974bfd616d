"""`touchstone alerts check`: for people, for scripts, by exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from services.cli.alerting.app import alerts
from services.cli.alerting.check import check
from services.cli.console import CommandError, ExitCode
from services.cli.main import COMMANDS

EXAMPLE = Path(__file__).parents[3] / "docs" / "alerting" / "rules.example.yml"


def test_a_good_file_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    check(EXAMPLE)
    out, err = capsys.readouterr()
    assert "leaving-and-valuable" in out
    assert "band = 'high' AND value_at_risk >= 100" in out
    assert "can be used: version" in err


def test_a_good_file_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    check(EXAMPLE, as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert (told["usable"], told["errors"], told["focus"]) == (True, [], ["checkout-felt-worse"])
    assert len(told["rules_version"]) == 32


@pytest.mark.parametrize("as_json", [False, True])
def test_a_bad_file_is_the_answer_no(tmp_path: Path, capsys: pytest.CaptureFixture[str], as_json: bool) -> None:
    path = tmp_path / "rules.yml"
    path.write_text("version: 1\nruls: []\nreceivers: 5\n", "utf-8")
    with pytest.raises(CommandError, match="2 errors") as caught:
        check(path, as_json=as_json)
    assert caught.value.code is ExitCode.NO
    out = capsys.readouterr().out
    if as_json:
        assert [error["line"] for error in json.loads(out)["errors"]] == [2, 3]
    else:
        assert f"{path}:2:1: ruls: there is no such key; did you mean rules?" in out


def test_no_such_file_is_wrong_use(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="give the path of a rules file") as caught:
        check(tmp_path / "none.yml")
    assert caught.value.code is ExitCode.WRONG_USE


def test_it_is_a_command() -> None:
    assert COMMANDS["alerts"].module == "services.cli.alerting.app"
    assert [command.name for command in alerts.registered_commands][:1] == ["check"]
