from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from infra.clickhouse.errors import StatementRefusedError, UnreachableError
from infra.embedded.errors import PortTakenError, StartFailedError
from infra.kafka.errors import ClusterUnreachableError, TopicMismatchError
from services.cli import doctor
from services.cli.console import CommandError, ExitCode, is_plain, paint, print_table, reported
from services.cli.main import COMMANDS
from services.cli.status import _span

ROOT = Path(__file__).parents[3]


def run(cwd: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("TOUCHSTONE_")}
    return subprocess.run(
        [sys.executable, "-m", "services.cli.main", *arguments],
        cwd=cwd,
        env={**env, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_of_the_table_is_there(name: str) -> None:
    entry = COMMANDS[name]
    assert callable(getattr(importlib.import_module(entry.module), entry.function))
    assert entry.help.endswith(".")


def test_the_list_of_commands_loads_none_of_them(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "sys.argv = ['touchstone', '--help']\n"
        "from services.cli.main import main\n"
        "try: main()\n"
        "finally: print(sorted(m for m in sys.modules if m.split('.')[0] in ('pydantic', 'rich', 'polars', 'infra')))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines()[-1] == "[]", done.stderr
    assert all(f"  {name} " in done.stdout for name in COMMANDS)


def test_help_of_a_command_tells_its_options(tmp_path: Path) -> None:
    done = run(tmp_path, "up", "-h")
    assert done.returncode == 0
    assert "Usage: touchstone up" in done.stdout
    assert "--free-ports" in done.stdout


@pytest.mark.parametrize("arguments", [("nope",), ("up", "--nope"), ("down", "surplus")])
def test_wrong_use_is_2_and_on_stderr(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = run(tmp_path, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Usage: touchstone" in done.stderr


def test_wrong_settings_are_2(tmp_path: Path) -> None:
    done = run(tmp_path, "status", TOUCHSTONE_KAFKA_PROT="1")
    assert (done.returncode, done.stdout) == (2, "")
    assert "did you mean TOUCHSTONE_KAFKA_PORT" in done.stderr


def test_up_refuses_a_kafka_elsewhere(tmp_path: Path) -> None:
    done = run(tmp_path, "up", TOUCHSTONE_KAFKA_BOOTSTRAP="kafka:9092")
    assert done.returncode == 2
    assert "unset it" in done.stderr


def test_nothing_running_is_told_and_leaves_no_trace(tmp_path: Path) -> None:
    status, down, as_json = run(tmp_path, "status"), run(tmp_path, "down"), run(tmp_path, "status", "--json")
    assert (status.returncode, status.stdout) == (1, "")
    assert "touchstone up" in status.stderr
    assert (down.returncode, down.stdout) == (0, "")
    assert as_json.returncode == 1
    assert json.loads(as_json.stdout)["running"] is False
    assert list(tmp_path.iterdir()) == []


def test_doctor_speaks_without_a_stack(tmp_path: Path) -> None:
    ports = {f"TOUCHSTONE_{name}_PORT": str(31990 + at) for at, name in enumerate(("KAFKA", "INGEST"))}
    done = run(tmp_path, "doctor", "--json", **ports)
    findings = {finding["check"]: finding for finding in json.loads(done.stdout)}
    assert {"python", "packages", "settings", "java", "disk", "memory", "clock", "stack", "ports"} <= set(findings)
    assert findings["python"]["level"] == "ok"
    assert done.returncode == (1 if any(finding["level"] == "fail" for finding in findings.values()) else 0)


def test_doctor_stops_at_wrong_settings(tmp_path: Path) -> None:
    done = run(tmp_path, "doctor", TOUCHSTONE_PARTITIONS="x")
    assert done.returncode == 1
    assert "fail  settings" in done.stdout
    assert "TOUCHSTONE_PARTITIONS=x" in done.stdout


def test_doctor_knows_a_clock_that_cannot_be() -> None:
    assert doctor.check_clock(lambda: 0.0).level == "fail"
    assert doctor.check_clock().level == "ok"


@pytest.mark.parametrize(("free", "level"), [(100 * 1024**3, "ok"), (3 * 1024**3, "warn"), (1024, "fail")])
def test_doctor_knows_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, level: str) -> None:
    class Usage:
        def __init__(self, _path: Path) -> None:
            self.free = free

    monkeypatch.setattr("shutil.disk_usage", Usage)
    assert doctor.check_disk(tmp_path / "not" / "yet").level == level


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ClusterUnreachableError("x"), ExitCode.UNREACHABLE),
        (UnreachableError("x"), ExitCode.UNREACHABLE),
        (TopicMismatchError("x"), ExitCode.NO),
        (StatementRefusedError("x"), ExitCode.NO),
        (StartFailedError("x"), ExitCode.NO),
        (PortTakenError("x"), ExitCode.WRONG_USE),
    ],
)
def test_faults_of_our_packages_have_a_code(error: Exception, code: ExitCode) -> None:
    with pytest.raises(CommandError, match="x") as caught, reported():
        raise error
    assert caught.value.code is code


def test_other_faults_stay_themselves() -> None:
    with pytest.raises(ZeroDivisionError), reported():
        raise ZeroDivisionError


def test_no_colour_where_it_is_unwanted(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal:
        def isatty(self) -> bool:
            return True

    terminal: Any = Terminal()
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert not is_plain(terminal)
    monkeypatch.setenv("TERM", "dumb")
    assert is_plain(terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    assert is_plain(terminal)
    assert paint("x", "red") == "x"


def test_tables_align(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["part", "n"], [["kafka", "1"], ["b", "1,234"]])
    assert capsys.readouterr().out == "part       n\nkafka      1\nb      1,234\n"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (0, "0 s"), (61, "1 min 1 s"), (3660, "1 h 1 min"), (90_000, "1 d 1 h")],
)
def test_spans(seconds: int | None, text: str) -> None:
    assert _span(seconds) == text
