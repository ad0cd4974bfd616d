"""One machine on which versions change: its tables begin as they were before schema version 2."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from infra.clickhouse.migrate import SqlFile, read_files
from infra.kafka.runtime import runtime_from_environment
from infra.kafka.startup_cache import with_startup_cache
from tests.e2e.scoring.parts import Machine, machine

NEW = ("0004_journey.sql", "20_felt_journeys.sql")
LATER = tuple(f.name for f in read_files() if f.kind == "migration" and f.name > NEW[0])
_LINE = re.compile(r"^    journey\b.*\n", re.MULTILINE)


def files_of_before() -> list[SqlFile]:
    """Migrations and views without the column, and without the migrations since."""
    now = read_files()
    kept = [
        SqlFile(file.kind, file.name, _LINE.sub("", file.text) if file.kind == "view" else file.text)
        for file in now
        if file.name not in (*NEW, *LATER)
    ]
    assert len(kept) == len(now) - len(NEW) - len(LATER)
    assert not any(re.search(r"\bjourney\b(?! it is)", statement) for file in kept for statement in file.statements)
    return kept


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    folder = tmp_path_factory.mktemp("upgrade")
    with machine(with_startup_cache(runtime_from_environment()), folder, files_of_before()) as made:
        # Workers play the older version with the code of now, which has these tables.
        with made.client() as client:
            for file in read_files():
                for statement in file.statements if file.name in LATER else ():
                    client.query(statement)
        yield made
