"""Each planted bug has its script, and what the scripts replace is still there."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from services.ingest.writer import Writer
from services.scoring import core
from services.scoring.cache import StateCache
from services.scoring.shell import Shell
from tests.faults import planted
from tests.faults.hunt import BUGS
from tests.faults.planted.plant import plant


def test_every_bug_has_a_script_and_every_script_a_bug() -> None:
    scripts = {path.stem for folder in planted.__path__ for path in Path(folder).glob("*.py")} - {"plant"}
    assert scripts == {bug.name for bug in BUGS}


# A library that scoring's main brings in reads files of its own the old way.
@pytest.mark.filterwarnings("ignore:(read|open)_text is deprecated:DeprecationWarning")
@pytest.mark.parametrize("name", [bug.name for bug in BUGS])
def test_a_script_does_nothing_until_it_is_run(name: str) -> None:
    before = (Shell.handle, StateCache.offset_of, Writer.write, vars(core)["candidates"], vars(core)["step"])
    importlib.import_module(f"tests.faults.planted.{name}")
    assert before == (Shell.handle, StateCache.offset_of, Writer.write, vars(core)["candidates"], vars(core)["step"])


def test_what_is_not_there_cannot_be_planted() -> None:
    with pytest.raises(AttributeError):
        plant(core, "no_such_function", None)
