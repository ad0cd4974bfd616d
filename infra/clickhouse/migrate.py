"""Brings a database to what the SQL files here say: numbered migrations once, views whenever their file changed.

`migrations/NNNN_name.sql` are applied in order, each exactly once, and never change after that. `views/NN_name.sql`
hold CREATE OR REPLACE VIEW statements and are applied again when they differ from what was applied last. ClickHouse
has no transactions over statements, so every statement of a migration must bear being repeated (IF NOT EXISTS).

`python -m infra.clickhouse.migrate` applies what is missing; exit code 0 done, 1 the files do not fit the database,
2 wrong settings, 3 the server cannot be reached.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from infra.clickhouse.client import ClickHouse, connect
from infra.clickhouse.errors import ClickHouseError, MigrationError, TransientError
from infra.clickhouse.settings import ClickHouseSettings
from schemas.tables import DATABASE

MIGRATIONS: Final = Path(__file__).parent / "migrations"
VIEWS: Final = Path(__file__).parent / "views"
LEDGER: Final = "schema_migrations"

_MIGRATION_NAME: Final = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")
_VIEW_NAME: Final = re.compile(r"\d{2}_[a-z0-9_]+\.sql")
# What may hold a semicolon that ends no statement: comments, strings, quoted names.
_PIECES: Final = re.compile(r"--[^\n]*|/\*.*?\*/|'(?:\\.|''|[^'\\])*'|`[^`]*`|\"[^\"]*\"|;|[^-/'`\";]+|.", re.DOTALL)

_CREATE_DATABASE: Final = (
    f"CREATE DATABASE IF NOT EXISTS {DATABASE} ENGINE = Atomic COMMENT 'Touchstone: customers, events, scores, risk'"
)
_CREATE_LEDGER: Final = f"""
CREATE TABLE IF NOT EXISTS {DATABASE}.{LEDGER}
(
    kind LowCardinality(String) COMMENT 'migration or view',
    name String COMMENT 'File name',
    checksum FixedString(64) COMMENT 'SHA-256 of the file as applied, in hexadecimal digits',
    applied_at DateTime64(6, 'UTC') DEFAULT now64(6) COMMENT 'When it was applied last'
)
ENGINE = ReplacingMergeTree(applied_at)
ORDER BY (kind, name)
COMMENT 'SQL files applied to this database'
"""


@dataclass(frozen=True, slots=True)
class SqlFile:
    """A file of statements; ``kind`` is ``migration`` or ``view``."""

    kind: str
    name: str
    text: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the text, in hexadecimal digits."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def statements(self) -> list[str]:
        """The statements without comments."""
        return split(self.text)


def split(text: str) -> list[str]:
    """Statements of a file: what stands between semicolons, comments left out."""
    statements = [""]
    for piece in _PIECES.findall(text):
        if piece == ";":
            statements.append("")
        elif not piece.startswith(("--", "/*")):
            statements[-1] += piece
    return [stripped for statement in statements if (stripped := statement.strip())]


def read_files(migrations: Path = MIGRATIONS, views: Path = VIEWS) -> list[SqlFile]:
    """Migrations, then views, in order. Raises MigrationError for a wrong name, a gap or a repeated number."""
    found = sorted(path for path in migrations.iterdir() if path.suffix == ".sql")
    for expected, path in enumerate(found, start=1):
        match = _MIGRATION_NAME.fullmatch(path.name)
        if match is None:
            raise MigrationError(f"migration {path.name} must be named NNNN_name.sql in small letters")
        if int(match[1]) != expected:
            raise MigrationError(f"migration {path.name} should have number {expected:04d}: none missing, none twice")
    shown = sorted(path for path in views.iterdir() if path.suffix == ".sql")
    for path in shown:
        if _VIEW_NAME.fullmatch(path.name) is None:
            raise MigrationError(f"view file {path.name} must be named NN_name.sql in small letters")
    return [SqlFile("migration", path.name, path.read_text(encoding="utf-8")) for path in found] + [
        SqlFile("view", path.name, path.read_text(encoding="utf-8")) for path in shown
    ]


def pending(files: Sequence[SqlFile], applied: dict[tuple[str, str], str]) -> list[SqlFile]:
    """The files to apply, in order. ``applied``: checksums by kind and name.

    Raises MigrationError when an applied migration's file was changed or is missing, or a new one comes before it.
    """
    known = {(file.kind, file.name) for file in files}
    for kind, name in sorted(applied):
        if kind == "migration" and (kind, name) not in known:
            raise MigrationError(
                f"migration {name} was applied to this database, but there is no such file: "
                "the database was made by a newer version of Touchstone; use that version or a later one"
            )
    missing: list[SqlFile] = []
    for file in files:
        checksum = applied.get((file.kind, file.name))
        if file.kind == "view":
            if checksum != file.checksum:
                missing.append(file)
        elif checksum is None:
            missing.append(file)
        elif checksum != file.checksum:
            raise MigrationError(
                f"migration {file.name} was changed after it had been applied (applied {checksum[:12]}, "
                f"file {file.checksum[:12]}): restore the file and put the change into a new migration"
            )
        elif any(earlier.kind == "migration" for earlier in missing):
            raise MigrationError(
                f"migration {missing[0].name} is not applied, but the later {file.name} is: give it the next number"
            )
    return missing


def migrate(client: ClickHouse, files: Sequence[SqlFile] | None = None) -> list[str]:
    """Apply what is missing; returns the names applied. Raises ClickHouseError, MigrationError before any change."""
    files = read_files() if files is None else files
    client.query(_CREATE_DATABASE)
    client.query(_CREATE_LEDGER)
    rows = client.query(f"SELECT kind, name, checksum FROM {DATABASE}.{LEDGER} FINAL")
    todo = pending(files, {(kind, name): checksum for kind, name, checksum in rows})
    for file in todo:
        for statement in file.statements:
            client.query(statement)
        client.insert_rows(LEDGER, ("kind", "name", "checksum"), [(file.kind, file.name, file.checksum)])
    return [file.name for file in todo]


def main() -> int:
    """Apply what is missing to the server that the environment names; returns the exit code."""
    try:
        settings = ClickHouseSettings()
    except ValidationError as error:
        print(f"wrong settings: {error}", file=sys.stderr)
        return 2
    try:
        with connect(settings) as client:
            applied = migrate(client)
    except ClickHouseError as error:
        print(error, file=sys.stderr)
        return 3 if isinstance(error, TransientError) else 1
    print("\n".join(f"applied {name}" for name in applied) or "nothing to apply")
    return 0


if __name__ == "__main__":
    sys.exit(main())
