"""Files are read whole, in chunks, and damaged rows are refused instead of ending the import."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import orjson
import polars as pl
import pytest
import zstandard

from schemas.reasons import Reason
from services.importer.errors import MappingError, SourceFileError
from services.importer.files import SourceFile, open_source
from services.importer.importing import Counts, Import
from services.importer.judge import RefusedRow
from services.importer.mapping import Mapping, load_mapping

NOW_US = 1_772_000_000_000_000
MAPPING = """\
dataset = "shop"
[fields]
customer_id = "who"
occurred_at = "at"
kind = { constant = "purchase" }
touchpoint = { constant = "checkout" }
amount = "paid"
currency = { constant = "EUR" }
"""
AT = "2025-03-01T10:00:00Z"


def mapping(more: str = "") -> Mapping:
    return load_mapping(more + MAPPING, "m.toml")


class Log:
    """Takes what is appended; the contract of infra's producer, without Kafka."""

    def __init__(self) -> None:
        self.values: list[bytes] = []

    def append(self, keys: Any, values: Any, timestamp_ms: int) -> None:
        assert timestamp_ms == NOW_US // 1000
        assert len(keys) == len(values)
        self.values += values


def run(path: Path, rules: Mapping | None = None, chunk_rows: int = 2) -> tuple[Counts, list[RefusedRow], Log]:
    rules = rules or mapping()
    refused: list[RefusedRow] = []
    log = Log()
    counts = Counts()
    plan = Import(open_source(path, rules), rules, "m.toml")
    for counts in plan.run(
        log, clock_us=lambda: NOW_US, refuse=lambda row, _: refused.append(row), chunk_rows=chunk_rows
    ):
        assert counts.rows == counts.accepted + counts.refused + counts.skipped
        assert counts.accepted == len(log.values)
    assert counts.rows == plan.rows
    return counts, refused, log


ROWS = [{"who": f"0{row}", "at": AT, "paid": "1.50"} for row in range(5)]


def write_csv(path: Path, lines: list[str]) -> Path:
    path.write_text("who,at,paid\n" + "".join(line + "\n" for line in lines), "utf-8")
    return path


def test_forms_of_the_same_rows_give_the_same_number_of_events(tmp_path: Path) -> None:
    text = "who,at,paid\n" + "".join(f"{row['who']},{row['at']},{row['paid']}\n" for row in ROWS)
    lines = b"".join(orjson.dumps(row) + b"\n" for row in ROWS)
    (tmp_path / "a.csv").write_text(text)
    (tmp_path / "a.tsv").write_text(text.replace(",", "\t"))
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(text.encode()))
    (tmp_path / "a.ndjson").write_bytes(lines)
    (tmp_path / "a.jsonl.zst").write_bytes(zstandard.compress(lines))
    pl.DataFrame(ROWS).write_parquet(tmp_path / "a.parquet")
    for path in sorted(tmp_path.iterdir()):
        counts, refused, _ = run(path)
        assert (counts.accepted, refused) == (5, []), path.name


def test_a_second_import_is_the_same_events(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", [f"c,{AT},1", f"c,{AT},1", f"d,{AT},1", f"c,{AT},1"])
    first, again = run(path)[2].values, run(path, chunk_rows=3)[2].values
    assert first == again
    assert len(set(first)) == 4


def test_text_is_kept_as_written(tmp_path: Path) -> None:
    path = tmp_path / "a.ndjson"
    path.write_text(f'{{"who": "0042", "at": "{AT}", "paid": 8999999999999.999999}}\n')
    source = open_source(path, mapping())
    [chunk] = source.chunks(10)
    assert chunk.frame["paid"].to_list() == ["8999999999999.999999"]
    assert run(path)[0].accepted == 1


def test_members_of_members_are_columns(tmp_path: Path) -> None:
    rules = load_mapping(MAPPING.replace('"who"', '"user.id"').replace('"paid"', '"sum"'), "m.toml")
    path = tmp_path / "a.ndjson"
    path.write_text(f'{{"user": {{"id": 7, "x": [1]}}, "at": "{AT}", "sum": "1"}}\n{{"user": 3, "at": "x"}}\n')
    counts, refused, _ = run(path, rules)
    assert counts.accepted == 1
    assert refused[0].problems[0].field == "/customer_id"


def test_damaged_csv_rows_are_refused_with_their_number(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", [f"c,{AT},1", "c,1", "", f'"c"x,{AT},1', f"d,{AT},1", f"e,{AT},-3"])
    counts, refused, _ = run(path)
    assert counts.accepted == 2
    assert [(row.row, row.problems[0].field) for row in refused] == [(2, ""), (3, ""), (5, "/amount")]
    assert "2 fields in a file of 3 columns" in refused[0].problems[0].detail


def test_damaged_json_lines_are_refused_with_their_number(tmp_path: Path) -> None:
    good = orjson.dumps(ROWS[0]).decode()
    path = tmp_path / "a.ndjson"
    path.write_text("\n".join([good, "{", "", "[1]", good.replace('"1.50"', "NaN"), good]) + "\n")
    counts, refused, _ = run(path)
    assert counts.accepted == 2
    assert [row.row for row in refused] == [2, 3, 4]
    assert {row.problems[0].reason for row in refused} == {Reason.INVALID_JSON}


def test_other_encodings_are_read_and_wrong_ones_named(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(f"who,at,paid\nJosé,{AT},1\n".encode("latin-1"))
    assert run(path, mapping('encoding = "latin-1"\n'))[0].accepted == 1
    with pytest.raises(SourceFileError, match=r"not utf-8 .*name its encoding"):
        run(path)


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"\xef\xbb\xbf" + f"who,at,paid\nc,{AT},1\n".encode())
    assert run(path)[0].accepted == 1


def test_delimiters(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f'who;at;paid\n"c;d";{AT};1\n')
    assert run(path, mapping('delimiter = ";"\n'))[0].accepted == 1


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.xlsx", b"x", "cannot tell what it is"),
        ("a.parquet", b"no parquet", "a.parquet"),
        ("a.csv", b"", "is empty"),
        ("a.csv", b"a,b,a\n", "two columns are called 'a'"),
        ("a.csv.gz", b"no gzip", "BadGzipFile"),
        ("a.ndjson.zst", b"no zstandard", "ZstdError"),
    ],
)
def test_files_that_cannot_be_read_are_named(tmp_path: Path, name: str, content: bytes, expected: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(SourceFileError, match=expected):
        run(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceFileError, match="no such file"):
        open_source(tmp_path / "a.csv", mapping())


def test_a_file_cut_off_in_the_middle_fails_before_anything_is_sent(tmp_path: Path) -> None:
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(b"who,at,paid\n" + f"c,{AT},1\n".encode() * 1000)[:-20])
    source: SourceFile = open_source(path, mapping())
    with pytest.raises(SourceFileError, match="EOFError"):
        Import(source, mapping(), "m.toml")


def test_a_mapping_that_fits_no_row_stops_at_the_first_chunk(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", ["c,yesterday,1"] * 5)
    with pytest.raises(MappingError, match=r"none of the first 2 rows is an event.*occurred_at"):
        run(path)


def test_members_that_no_line_has_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.ndjson"
    path.write_text(f'{{"customer": "c", "at": "{AT}", "paid": 1}}\n')
    with pytest.raises(MappingError, match=r"fields.customer_id: a.ndjson has no column 'who'"):
        run(path)


def test_members_that_lines_may_leave_out_are_only_noted(tmp_path: Path) -> None:
    path = tmp_path / "a.ndjson"
    path.write_text(f'{{"who": "c", "at": "{AT}"}}\n')
    plan = Import(open_source(path, mapping()), mapping(), "m.toml")
    assert plan.notes == ["m.toml: fields.amount: a.ndjson has no column 'paid'"]
    assert run(path)[0].accepted == 1


def test_an_empty_file_of_lines_is_no_error(tmp_path: Path) -> None:
    path = tmp_path / "a.ndjson"
    path.write_text("\n")
    assert run(path)[0].rows == 0
