"""Migrations: files in order, applied once, never changed; and the DDL is that of schemas.tables."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from infra.clickhouse.errors import MigrationError
from infra.clickhouse.migrate import SqlFile, pending, read_files, split
from schemas.state_layout import ARRAYS_SQL, STORED, packed_sql, unpacked_sql
from schemas.tables import CUSTOMER_STATE, DATABASE, TABLES

ONE = SqlFile("migration", "0001_one.sql", "SELECT 1;")
TWO = SqlFile("migration", "0002_two.sql", "SELECT 2;")
VIEW = SqlFile("view", "10_shown.sql", "SELECT 3;")


def applied(*files: SqlFile) -> dict[tuple[str, str], str]:
    return {(file.kind, file.name): file.checksum for file in files}


def folders(tmp_path: Path, migrations: list[str], views: list[str]) -> tuple[Path, Path]:
    for folder, names in (("migrations", migrations), ("views", views)):
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / name).write_text("SELECT 1;", encoding="utf-8")
    return tmp_path / "migrations", tmp_path / "views"


def test_statements_end_at_semicolons_that_are_not_quoted() -> None:
    text = """-- a comment; with a semicolon
    CREATE TABLE a (x String COMMENT 'it''s; here', y String COMMENT 'and \\'; there'); /* no; */
    CREATE TABLE `b;c` (z Int8) -- the end;
    ;
    ;"""
    assert split(text) == [
        "CREATE TABLE a (x String COMMENT 'it''s; here', y String COMMENT 'and \\'; there')",
        "CREATE TABLE `b;c` (z Int8)",
    ]


def test_minus_and_slash_are_not_comments() -> None:
    assert split("SELECT 4 - 2 / 1; SELECT '--'") == ["SELECT 4 - 2 / 1", "SELECT '--'"]


def test_files_come_in_order_migrations_first(tmp_path: Path) -> None:
    found = read_files(*folders(tmp_path, ["0002_b.sql", "0001_a.sql"], ["20_d.sql", "10_c.sql"]))
    assert [file.name for file in found] == ["0001_a.sql", "0002_b.sql", "10_c.sql", "20_d.sql"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["0001_a.sql", "0003_c.sql"], "0003_c.sql should have number 0002"),
        (["0001_a.sql", "0001_b.sql"], "0001_b.sql should have number 0002"),
        (["0002_a.sql"], "0002_a.sql should have number 0001"),
        (["1_a.sql"], "must be named NNNN_name.sql"),
    ],
)
def test_a_wrong_set_of_files_is_refused(tmp_path: Path, names: list[str], message: str) -> None:
    with pytest.raises(MigrationError, match=message):
        read_files(*folders(tmp_path, names, []))


def test_a_view_file_with_another_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MigrationError, match=r"must be named NN_name.sql"):
        read_files(*folders(tmp_path, [], ["shown.sql"]))


def test_only_what_is_missing_is_applied() -> None:
    assert pending([ONE, TWO, VIEW], {}) == [ONE, TWO, VIEW]
    assert pending([ONE, TWO, VIEW], applied(ONE, VIEW)) == [TWO]
    assert pending([ONE, TWO, VIEW], applied(ONE, TWO, VIEW)) == []


def test_a_changed_view_is_applied_again() -> None:
    changed = SqlFile("view", VIEW.name, "SELECT 4;")
    assert pending([ONE, changed], applied(ONE, VIEW)) == [changed]


def test_a_changed_migration_is_refused() -> None:
    with pytest.raises(MigrationError, match=r"0001_one.sql was changed after it had been applied"):
        pending([SqlFile("migration", ONE.name, "SELECT 9;")], applied(ONE))


def test_a_migration_that_comes_late_is_refused() -> None:
    with pytest.raises(MigrationError, match=r"0001_one.sql is not applied, but the later 0002_two.sql is"):
        pending([ONE, TWO], applied(TWO))


def test_a_database_of_a_newer_version_is_refused() -> None:
    with pytest.raises(MigrationError, match=r"0002_two.sql was applied to this database, but there is no such file"):
        pending([ONE], applied(ONE, TWO))


def test_the_files_create_the_tables_of_the_contract() -> None:
    declared: dict[str, list[tuple[str, str, str]]] = {}
    for file in read_files():
        if file.kind != "migration":
            continue
        for statement in file.statements:
            if dropped := re.fullmatch(rf"DROP TABLE IF EXISTS {DATABASE}\.(\w+) SYNC", statement):
                declared.pop(dropped[1], None)
                continue
            if exchanged := re.fullmatch(rf"EXCHANGE TABLES {DATABASE}\.(\w+) AND {DATABASE}\.(\w+)", statement):
                one, other = exchanged.groups()
                declared[one], declared[other] = declared[other], declared[one]
                continue
            if statement.startswith(f"INSERT INTO {DATABASE}.customer_state_packed "):
                continue
            if added := re.fullmatch(
                rf"ALTER TABLE {DATABASE}\.(\w+)\s+ADD COLUMN IF NOT EXISTS (\w+) (\S+(?: 'UTC'\))?)(?: ALIAS .+?)?\s+"
                r"COMMENT '([^']+)'\s+AFTER (\w+)",
                statement,
            ):
                table, *column, before = added.groups()
                places = [name for name, _, _ in declared[table]]
                declared[table].insert(places.index(before) + 1, (column[0], column[1], column[2]))
                continue
            if changed := re.fullmatch(
                rf"ALTER TABLE {DATABASE}\.(\w+)\s+MODIFY COLUMN (\w+) (\S+) COMMENT '([^']+)'", statement
            ):
                table, name, type_, comment = changed.groups()
                places = [known for known, _, _ in declared[table]]
                declared[table][places.index(name)] = (name, type_, comment)
                continue
            match = re.fullmatch(
                rf"CREATE TABLE IF NOT EXISTS {DATABASE}\.(\w+)\n\(\n(.*?)\n\)\nENGINE.*COMMENT '.+'",
                statement,
                re.DOTALL,
            )
            assert match is not None, f"{file.name} has a statement that cannot be repeated: {statement[:80]}"
            rows = [
                re.fullmatch(r"\s+(\w+) (.+?)(?: ALIAS .+?)? COMMENT '((?:[^']|'')+)'(?: CODEC\(.+\))?,?", line)
                for line in match[2].split("\n")
            ]
            assert all(rows)
            declared[match[1]] = [(row[1], row[2], row[3].replace("''", "'")) for row in rows if row]
    assert declared == {
        table.name: [(column.name, column.type, column.comment) for column in (*table.columns, *table.packed)]
        for table in TABLES
    }


def test_states_are_packed_as_the_layout_says() -> None:
    [file] = [file for file in read_files() if file.name == "0002_packed_states.sql"]
    [later] = [file for file in read_files() if file.name == "0005_contacts.sql"]
    aliases = dict(re.findall(r"^    (\w+) .+? ALIAS (.+) COMMENT '", file.text, re.MULTILINE))
    aliases |= dict(re.findall(r"ADD COLUMN IF NOT EXISTS (\w+) .+? ALIAS (.+)\n", later.text))
    unpacked = {name: unpacked_sql(name) for name in CUSTOMER_STATE.names if name not in STORED.names}
    assert aliases == unpacked | ARRAYS_SQL
    [copied] = [statement for statement in file.statements if statement.startswith("INSERT")]
    packed = packed_sql({name: name for name in CUSTOMER_STATE.names})
    for added in ("contact_load", "last_contact_at"):
        # They stand at the end, so what was packed before them stays as it is.
        packed = {name: re.sub(rf", [^,]+\({added}\)\)+(?=\)$)", "", text) for name, text in packed.items()}
    for expression in packed.values():
        assert re.sub(r"\s+", "", expression) in re.sub(r"\s+", "", copied)


def test_every_view_can_be_applied_again() -> None:
    statements = [statement for file in read_files() if file.kind == "view" for statement in file.statements]
    assert statements
    assert [text for text in statements if not text.startswith(f"CREATE OR REPLACE VIEW {DATABASE}.")] == []
