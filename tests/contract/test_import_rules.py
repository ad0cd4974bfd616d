"""The import rules of `.importlinter` hold, and each is seen to fail when it is broken, also by a detour."""

from __future__ import annotations

import ast
import configparser
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PACKAGES = ("schemas", "services", "infra")
RULES = configparser.ConfigParser()
RULES.read(REPOSITORY / ".importlinter", encoding="utf-8")
CONTRACTS = [section.rsplit(":", 1)[1] for section in RULES.sections() if ":" in section]

Breach = dict[str, str]
"""Lines to add, by file; a file that is not there is made."""

BREACHES: list[tuple[str, str, Breach]] = [
    ("schemas-alone", "direct", {"schemas/kinds.py": "import services.scoring.decay"}),
    ("schemas-alone", "in a function", {"schemas/kinds.py": "def f() -> None:\n    from infra.kafka import errors"}),
    ("infra-below", "direct", {"infra/clickhouse/states.py": "from services.scoring import state"}),
    ("services-apart", "direct", {"services/scoring/fold.py": "from services.ingest import limits"}),
    ("services-apart", "over the command", {"services/simulator/life.py": "import services.cli.console"}),
    (
        "services-apart",
        "by a detour",
        {
            "services/importer/detour.py": "import services.ingest.admit",
            "services/importer/plan.py": "from services.importer import detour",
        },
    ),
    (
        "services-apart",
        "by a new service",
        {
            "services/fresh/__init__.py": "",
            "services/fresh/rules.py": "from services.scoring.score import score",
        },
    ),
    ("infra-by-roots", "direct", {"services/scoring/shell.py": "from infra.clickhouse import events"}),
    (
        "infra-by-roots",
        "in a function",
        {"services/importer/files.py": "def f() -> None:\n    import infra.kafka.errors"},
    ),
    ("roots-on-top", "by a detour to infra", {"services/scoring/shell.py": "from services.scoring import adapters"}),
    ("roots-on-top", "direct", {"services/ingest/app.py": "import services.ingest.main"}),
    ("pure", "clock", {"services/scoring/step.py": "import time"}),
    ("pure", "randomness", {"services/scoring/risk/words.py": "from random import random"}),
    ("pure", "a client's library", {"services/scoring/fold.py": "import clickhouse_driver"}),
    ("pure", "the loop, in a type check", {"services/scoring/judge.py": "import asyncio.events"}),
    (
        "pure",
        "by a detour",
        {
            "services/scoring/detour.py": "import os",
            "services/scoring/decay.py": "from services.scoring import detour",
        },
    ),
    ("pure", "by a detour in the contract", {"schemas/metrics.py": "import logging"}),
]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of our Python files with nothing planted."""
    folder = tmp_path_factory.mktemp("tree")
    for package in PACKAGES:
        for file in (REPOSITORY / package).rglob("*.py"):
            copy = folder / file.relative_to(REPOSITORY)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
    shutil.copyfile(REPOSITORY / ".importlinter", folder / ".importlinter")
    return folder


@pytest.fixture
def planted(tree: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """The copy with one breach in it."""
    breach: Breach = request.param
    before = {name: (tree / name).read_bytes() if (tree / name).exists() else None for name in breach}
    for name, lines in breach.items():
        (tree / name).parent.mkdir(exist_ok=True)
        with (tree / name).open("a", encoding="utf-8") as file:
            file.write(f"\n{lines}\n")
    yield tree
    for name, content in before.items():
        if content is None:
            (tree / name).unlink()
            if not any((tree / name).parent.iterdir()):
                (tree / name).parent.rmdir()
        else:
            (tree / name).write_bytes(content)


def lint(folder: Path, contract: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache", "--no-logo"]
    only = ["--contract", contract] if contract else []
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "200"}
    return subprocess.run([*command, *only], cwd=folder, env=environment, capture_output=True, text=True, timeout=60)


def test_the_rules_hold(tree: Path) -> None:
    result = lint(tree)
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"{len(CONTRACTS)} kept, 0 broken" in result.stdout


@pytest.mark.parametrize(
    ("contract", "planted"),
    [pytest.param(contract, breach, id=f"{contract}: {how}") for contract, how, breach in BREACHES],
    indirect=["planted"],
)
def test_a_planted_breach_fails(contract: str, planted: Path) -> None:
    result = lint(planted, contract)
    assert result.returncode == 1, result.stdout + result.stderr
    assert "0 kept, 1 broken" in result.stdout


def test_every_contract_is_broken_once() -> None:
    assert {contract for contract, _, _ in BREACHES} == set(CONTRACTS)


def pure_files() -> list[Path]:
    """The files of the contract that rules have no I/O. The simulator draws numbers, from a seed it is given."""
    files: list[Path] = []
    modules = RULES["importlinter:contract:pure"]["source_modules"].split()
    for module in (module for module in modules if module != "services.simulator"):
        path = REPOSITORY / module.replace(".", "/")
        files += sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]
    return files


IMPURE_CALLS = {"now", "utcnow", "today", "uuid1", "uuid4", "default_rng", "urandom", "open", "print", "input"}
"""What an import rule cannot see: clocks, randomness and I/O behind harmless modules."""


def impure_calls(source: str) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in IMPURE_CALLS:
                found.append(f"line {node.lineno}: {name}()")
        elif isinstance(node, ast.Attribute) and node.attr == "random":
            found.append(f"line {node.lineno}: .random")
    return found


@pytest.mark.parametrize("file", pure_files(), ids=lambda file: str(file.relative_to(REPOSITORY)))
def test_pure_files_call_no_clock_and_draw_no_numbers(file: Path) -> None:
    assert impure_calls(file.read_text("utf-8")) == []


@pytest.mark.parametrize(
    "breach",
    ["datetime.now(UTC)", "uuid4()", "uuid.uuid4()", "np.random.default_rng()", "np.random.rand()", "open('x')"],
)
def test_an_impure_call_is_seen(breach: str) -> None:
    assert impure_calls(f"def f():\n    return {breach}")


def test_nothing_connects_at_import() -> None:
    """Importing every module of ours but the entry points reaches for nobody."""
    modules = [
        ".".join(file.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")
        for package in PACKAGES
        for file in sorted((REPOSITORY / package).rglob("*.py"))
        if file.name != "__main__.py"
    ]
    script = (
        "import importlib, sys\n"
        "def refuse(event, args):\n"
        "    if event in ('socket.connect', 'socket.bind', 'socket.getaddrinfo'):\n"
        "        raise AssertionError(event)\n"
        "sys.addaudithook(refuse)\n"
        f"for name in {modules!r}:\n"
        "    importlib.import_module(name)\n"
    )
    result = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
