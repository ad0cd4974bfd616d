"""What is read from a statement's text before the engine gets it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.embedded.clickhouse import sql
from infra.embedded.clickhouse.sql import Insert


@given(st.text(max_size=300))
def test_tokens_cover_the_text_in_order(text: str) -> None:
    end = 0
    for token in sql.tokens(text):
        assert token.start >= end
        assert text[token.start : token.end] == token.text
        end = token.end


@pytest.mark.parametrize(
    ("text", "target", "settings", "columns", "format_", "data"),
    [
        ("INSERT INTO t VALUES (1)", "INSERT INTO t", "", "", "Values", " (1)"),
        ("insert into `a b`.t (x, `y)`) values", "insert into `a b`.t (x, `y)`)", "", "x, `y)`", "Values", ""),
        ("-- c\nINSERT INTO TABLE t FORMAT CSV\n1,2", "INSERT INTO TABLE t", "", "", "CSV", "1,2"),
        ("INSERT INTO t FORMAT CSV \r\n\n1", "INSERT INTO t", "", "", "CSV", "\n1"),
        (
            "INSERT INTO t(a) SETTINGS x = 1, y = 'z' VALUES",
            "INSERT INTO t(a)",
            " SETTINGS x = 1, y = 'z'",
            "a",
            "Values",
            "",
        ),
        ("INSERT INTO t FORMAT CSV SETTINGS x=1\n5", "INSERT INTO t", " SETTINGS x=1", "", "CSV", "5"),
        ("INSERT INTO t (* EXCEPT(a)) FORMAT Native\n", "INSERT INTO t (* EXCEPT(a))", "", "* EXCEPT(a)", "Native", ""),
        ("INSERT INTO FUNCTION f('x', (1)) (a) VALUES", "INSERT INTO FUNCTION f('x', (1)) (a)", "", "a", "Values", ""),
        ("INSERT /* INTO x */ t VALUES", "INSERT /* INTO x */ t", "", "", "Values", ""),
    ],
)
def test_heads_of_inserts(text: str, target: str, settings: str, columns: str, format_: str, data: str) -> None:
    head = sql.parse_insert(text)
    assert isinstance(head, Insert)
    assert (head.target, head.settings, head.columns, head.format) == (target, settings, columns, format_)
    assert text[head.data_start :] == data


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT 1", None),
        ("WITH 1 AS x INSERT INTO t SELECT x", None),
        ("", None),
        ("INSERT INTO t SELECT 1", "select"),
        ("INSERT INTO t (a) WITH 1 AS x SELECT x", "select"),
        ("INSERT INTO t (SELECT 1)", "select"),
        ("INSERT INTO t (a) (SELECT 1)", "select"),
        ("INSERT INTO t FROM INFILE 'x' FORMAT CSV", "select"),
        ("INSERT INTO t", None),
        ("INSERT INTO t (a", None),
        ("INSERT INTO t FORMAT", None),
    ],
)
def test_what_is_no_insert_of_data(text: str, expected: str | None) -> None:
    assert sql.parse_insert(text) == expected


def test_a_head_that_comes_in_pieces() -> None:
    whole = "INSERT INTO some.table (a, `b c`) SETTINGS x = 1 FORMAT Native\n\x01\x02"
    complete = sql.parse_insert(whole)
    assert isinstance(complete, Insert)
    for end in range(1, len(whole)):
        part = sql.parse_insert(whole[:end], complete=False)
        assert part == ("more" if end <= complete.data_start else complete), whole[:end]


@pytest.mark.parametrize(
    ("text", "name", "rest"),
    [
        ("SELECT 1", None, "SELECT 1"),
        ("SELECT 1 FORMAT JSON", "JSON", "SELECT 1 "),
        ("select 1 format CSV;", "CSV", "select 1 ;"),
        ("SELECT 1 FORMAT CSV SETTINGS a = 1, b = 'x'", "CSV", "SELECT 1  SETTINGS a = 1, b = 'x'"),
        ("SELECT 1 SETTINGS a = 1 FORMAT CSV -- format JSON", "CSV", "SELECT 1 SETTINGS a = 1  -- format JSON"),
        ("SELECT 1 /* FORMAT A */ FORMAT TSV /* x */", "TSV", "SELECT 1 /* FORMAT A */  /* x */"),
        ("SELECT 'FORMAT CSV'", None, "SELECT 'FORMAT CSV'"),
        ("SELECT format('x'), format FROM t", None, "SELECT format('x'), format FROM t"),
        ("SELECT * FROM (SELECT 1 AS format x)", None, "SELECT * FROM (SELECT 1 AS format x)"),
        ("SELECT 1 AS format FROM t WHERE 1", None, "SELECT 1 AS format FROM t WHERE 1"),
    ],
)
def test_output_formats(text: str, name: str | None, rest: str) -> None:
    assert sql.output_format(text) == (name, rest)


def test_output_files_are_left_out() -> None:
    assert sql.without_outfile("SELECT 1 INTO OUTFILE 'a' FORMAT CSV") == "SELECT 1  FORMAT CSV"
    full = "SELECT 1 into outfile 'a' AND STDOUT APPEND COMPRESSION 'gzip' LEVEL 3 FORMAT CSV"
    assert sql.without_outfile(full) == "SELECT 1  FORMAT CSV"
    assert sql.without_outfile("SELECT 'INTO OUTFILE'") == "SELECT 'INTO OUTFILE'"


def test_settings_of_clauses_and_set() -> None:
    def found(text: str) -> list[tuple[str, str]]:
        return [*sql.settings_in([*sql.tokens(text)])]

    assert found("SET a = 1, b = 'x'") == [("a", "1"), ("b", "'x'")]
    assert found("SELECT 1 SETTINGS a = -1, `b` = 2.5") == [("a", "-1"), ("b", "2.5")]
    assert found("SELECT (SELECT 1 SETTINGS a = 1) SETTINGS b = 2 FORMAT CSV") == [("a", "1"), ("b", "2")]
    assert found("SELECT 1 SETTINGS m = {'a': 'b', 'c': [1, 2]}, x = 1 FORMAT CSV") == [
        ("m", "{'a':'b','c':[1,2]}"),
        ("x", "1"),
    ]
    assert found("SELECT settings FROM t WHERE readonly = 1") == []


def test_kafka_tables_are_seen_through_blanks_comments_and_quotes() -> None:
    for text in (
        "CREATE TABLE t (a Int8) ENGINE = Kafka('x')",
        "create table t engine=`kafka`",
        "ENGINE /**/ = -- x\nKafka ",
    ):
        assert sql.creates_kafka_table(text + " SETTINGS a = 1")
    for text in (
        "SELECT 'ENGINE = Kafka' AS x",
        "SELECT kafka FROM engine WHERE 1",
        "ENGINE = MergeTree COMMENT 'kafka'",
    ):
        assert not sql.creates_kafka_table(text)


@given(st.text(max_size=50))
def test_quoting_is_read_back(text: str) -> None:
    literal, name = f"{sql.quote(text)} ", f"{sql.quote_name(text)} "
    (only,) = sql.tokens(literal)
    assert only.kind == "string"
    (only,) = sql.tokens(name)
    assert only.name == text
