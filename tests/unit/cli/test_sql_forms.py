"""Results leave in a form that the next program reads, whatever is in them."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import clickhouse_driver.errors as driver_errors
import pytest

from services.cli.console import ExitCode
from services.cli.sql import _WRITERS, Format, _refused, cell, plain

ROWS: list[tuple[Any, ...]] = [
    (1, "a\tb\nc\\d", None, [1, "x"], {"k": Decimal("1.50")}, datetime(2026, 3, 1, 9, tzinfo=UTC), b"\xff\x00", 0.1),
    (2, "€", "", [], {}, datetime(2026, 3, 1), b"abc", float("nan")),
]
COLUMNS = ["n", "text", "maybe", "list", "map", "at", "bytes", "float"]


def written(form: Format, capsys: pytest.CaptureFixture[str], rows: list[tuple[Any, ...]] = ROWS) -> str:
    _WRITERS[form](COLUMNS, iter(rows))
    return capsys.readouterr().out


def test_json_is_one_array(capsys: pytest.CaptureFixture[str]) -> None:
    first, second = json.loads(written(Format.JSON, capsys))
    assert first == {
        "n": 1,
        "text": "a\tb\nc\\d",
        "maybe": None,
        "list": [1, "x"],
        "map": {"k": "1.50"},
        "at": "2026-03-01T09:00:00Z",
        "bytes": "ff00",
        "float": 0.1,
    }
    assert (second["bytes"], second["float"]) == ("abc", None)


def test_no_rows_are_an_empty_array(capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads(written(Format.JSON, capsys, [])) == []


def test_ndjson_has_a_line_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    lines = written(Format.NDJSON, capsys).splitlines()
    assert [json.loads(line)["n"] for line in lines] == [1, 2]


def test_tsv_keeps_rows_and_columns_apart(capsys: pytest.CaptureFixture[str]) -> None:
    lines = written(Format.TSV, capsys).splitlines()
    assert lines[0].split("\t") == COLUMNS
    assert [len(line.split("\t")) for line in lines] == [8, 8, 8]
    assert lines[1].split("\t")[:4] == ["1", "a\\tb\\nc\\\\d", "\\N", '[1, "x"]']


def test_csv_is_read_back(capsys: pytest.CaptureFixture[str]) -> None:
    rows = list(csv.reader(io.StringIO(written(Format.CSV, capsys))))
    assert rows[0] == COLUMNS
    assert rows[1][:3] == ["1", "a\tb\nc\\d", ""]


def test_a_table_shows_no_control_character(capsys: pytest.CaptureFixture[str]) -> None:
    _WRITERS[Format.TABLE](["text"], iter([("\x1b[31mred\x07",)]))
    out = capsys.readouterr()
    assert "\x1b[31m" not in out.out
    assert "\\x1b[31mred\\x07" in out.out
    assert out.err == "1 rows\n"


def test_a_wide_row_is_shown_line_by_line(capsys: pytest.CaptureFixture[str]) -> None:
    _WRITERS[Format.TABLE]([f"column{number}" for number in range(60)], iter([tuple(range(60))]))
    assert "column59  59" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (date(2026, 3, 1), "2026-03-01"),
        ((1, (2, "x")), [1, [2, "x"]]),
        (True, True),
        (1 << 63, 1 << 63),
    ],
)
def test_values_become_what_json_has(value: Any, expected: Any) -> None:
    assert plain(value) == expected


def test_cells_are_short() -> None:
    assert [cell(value) for value in (None, 1 / 3, 12, "x", [1])] == ["", "0.333333", "12", "x", "[1]"]


@pytest.mark.parametrize(
    ("error", "code", "expected"),
    [
        (driver_errors.NetworkError("refused"), ExitCode.UNREACHABLE, "cannot be reached"),
        (EOFError("cut"), ExitCode.UNREACHABLE, "cannot be reached"),
        (
            driver_errors.ServerException("DB::Exception: readonly mode. Stack trace: 0x1", 164),
            ExitCode.NO,
            "only read",
        ),
        (driver_errors.ServerException("DB::Exception: no login", 516), ExitCode.WRONG_USE, "refuses login analyst"),
        (driver_errors.ServerException("DB::Exception: Syntax error. Stack trace: 0x1", 62), ExitCode.NO, "Syntax"),
    ],
)
def test_faults_are_told_apart_by_code(error: Exception, code: ExitCode, expected: str) -> None:
    refused = _refused(error, "ClickHouse at 127.0.0.1:9000", "analyst")
    assert refused.code is code
    assert expected in str(refused)
    assert "Stack trace" not in str(refused)
