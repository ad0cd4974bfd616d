"""A machine of its own for commands that look for damage: tests here do damage."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest
import typer

from infra.clickhouse.client import ClickHouse
from infra.kafka.runtime import runtime_from_environment
from infra.kafka.startup_cache import with_startup_cache
from tests.e2e.scoring.parts import Machine, machine

Command = Callable[..., tuple[int, Any]]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with machine(with_startup_cache(runtime_from_environment()), tmp_path_factory.mktemp("operations")) as made:
        yield made


@pytest.fixture(scope="module")
def tables(stage: Machine) -> Iterator[ClickHouse]:
    with stage.client() as client:
        yield client


@pytest.fixture
def command(stage: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a command in this process, with JSON as its output: its exit code and what it printed."""
    monkeypatch.chdir(stage.folder)
    for name, value in stage.environment().items():
        monkeypatch.setenv(name, value)

    def run(function: Callable[..., None], **options: Any) -> tuple[int, Any]:
        capsys.readouterr()
        code = 0
        try:
            function(**options)
        except typer.Exit as ended:
            code = int(ended.exit_code)
        out = capsys.readouterr().out
        # The machine tells on stdout what it waits for; a document begins a line.
        start = out.find("{\n")
        return code, orjson.loads(out[start:]) if start >= 0 else out

    return run
