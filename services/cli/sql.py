"""``touchstone sql``: a query with the login that may only read."""

from __future__ import annotations

import csv
import itertools
import json
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, Final
from uuid import UUID

import clickhouse_driver
import clickhouse_driver.errors as driver_errors
import typer

from infra.clickhouse.errors import LOGIN_CODES, NETWORK_CODES
from schemas.tables import DATABASE
from services.cli.addresses import locate
from services.cli.console import CommandError, ExitCode, say
from services.cli.reading import quiet_driver
from services.cli.settings import StackSettings, load_settings
from services.cli.visible import visible

TABLE_ROWS: Final = 1_000
"""More than that nobody reads on a terminal; the rest is for a pipe."""
CELL_CHARS: Final = 80
CONNECT_TIMEOUT_S: Final = 5
QUERY_TIMEOUT_S: Final = 120
READONLY: Final = 164

Row = tuple[Any, ...]


class Format(StrEnum):
    """Forms of a result."""

    TABLE = "table"
    TSV = "tsv"
    CSV = "csv"
    JSON = "json"
    NDJSON = "ndjson"


def sql(
    query: Annotated[str, typer.Argument(help="The statement; - reads it from stdin.")],
    form: Annotated[
        Format | None, typer.Option("--format", "-f", help="Default: table on a terminal, tsv when piped.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
) -> None:
    """Ask ClickHouse, with the login that may only read. The database is touchstone.

    touchstone sql "SELECT * FROM customer_scores ORDER BY risk DESC LIMIT 10"

    touchstone sql "SELECT kind, count() FROM touchpoints FINAL GROUP BY kind" --json

    touchstone sql "SELECT * FROM touchpoints FINAL" > touchpoints.tsv

    Exit code 0: done; 1: ClickHouse refused the query; 3: it cannot be reached.
    """
    statement = sys.stdin.read() if query == "-" else query
    if not statement.strip():
        raise CommandError('the query is empty; try touchstone sql "SHOW TABLES"', ExitCode.WRONG_USE)
    chosen = Format.JSON if as_json else form or (Format.TABLE if sys.stdout.isatty() else Format.TSV)
    with answered(load_settings(), statement) as (columns, rows):
        _WRITERS[chosen](columns, rows)
    sys.stdout.flush()


@contextmanager
def answered(settings: StackSettings, statement: str) -> Iterator[tuple[list[str], Iterator[Row]]]:
    """Names of the columns and the rows as they arrive. CommandError for every fault."""
    where = locate(settings)
    address = f"ClickHouse at {where.clickhouse_host}:{where.clickhouse_port}"
    quiet_driver()
    client = clickhouse_driver.Client(
        where.clickhouse_host,
        port=where.clickhouse_port,
        user=settings.clickhouse_reader,
        password=settings.credentials().reader,
        database=DATABASE,
        client_name="touchstone sql",
        connect_timeout=CONNECT_TIMEOUT_S,
        send_receive_timeout=QUERY_TIMEOUT_S,
    )
    try:
        answer = client.execute_iter(statement.strip().rstrip(";"), with_column_types=True)
        columns = [name for name, _ in next(answer, [])]
        yield columns, answer
    except (driver_errors.Error, OSError, EOFError) as error:
        raise _refused(error, address, settings.clickhouse_reader) from error
    finally:
        client.disconnect()


def _refused(error: Exception, address: str, login: str) -> CommandError:
    text = str(getattr(error, "message", None) or error).strip()
    message = text.split("Stack trace:")[0].strip().removeprefix("DB::Exception: ")
    code = getattr(error, "code", 0)
    if isinstance(error, driver_errors.NetworkError | OSError | EOFError) or code in NETWORK_CODES:
        return CommandError(
            f"{address} cannot be reached: {message}. Does the stack run? `touchstone status`", ExitCode.UNREACHABLE
        )
    if code == READONLY:
        return CommandError(f"{message} (code {code}); login {login} may only read", ExitCode.NO)
    if code in LOGIN_CODES:
        return CommandError(
            f"{address} refuses login {login}: {message}; see TOUCHSTONE_CLICKHOUSE_READER and its password",
            ExitCode.WRONG_USE,
        )
    return CommandError(f"{message} (code {code})", ExitCode.NO)


def plain(value: Any) -> Any:
    """A value of a result as JSON has it; bytes that are no text become hexadecimal."""
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, date | UUID | Decimal):
        return str(value)
    if isinstance(value, bytes):
        try:
            text = value.decode()
        except UnicodeDecodeError:
            return value.hex()
        return text if text.isprintable() else value.hex()
    if isinstance(value, dict):
        return {str(key): plain(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [plain(member) for member in value]
    if isinstance(value, float) and value != value:
        return None
    return value


def cell(value: Any) -> str:
    """A value as text: of lists and maps their JSON."""
    simple = plain(value)
    if simple is None:
        return ""
    if isinstance(simple, float):
        return f"{simple:.6g}"
    return simple if isinstance(simple, str) else json.dumps(simple, ensure_ascii=False)


def _exact(value: Any) -> str:
    simple = plain(value)
    if isinstance(simple, str):
        return simple
    return "\\N" if simple is None else json.dumps(simple, ensure_ascii=False)


def _write_table(columns: list[str], rows: Iterable[Row]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    rows = iter(rows)
    shown = list(itertools.islice(rows, TABLE_ROWS))
    if len(columns) > shutil.get_terminal_size().columns // 9:
        _write_records(columns, shown)
    elif columns:
        table = Table(box=SIMPLE_HEAD, pad_edge=False)
        for at, name in enumerate(columns):
            numeric = all(isinstance(row[at], int | float | Decimal) for row in shown)
            table.add_column(Text(visible(name)), justify="right" if numeric and shown else "left", overflow="fold")
        for row in shown:
            table.add_row(*(Text(visible(cell(value), CELL_CHARS)) for value in row))
        Console().print(table)
    more = next(rows, None) is not None
    say(f"the first {TABLE_ROWS:,} rows; pipe it for all of them" if more else f"{len(shown):,} rows")


def _write_records(columns: Sequence[str], rows: Iterable[Row]) -> None:
    """One line a value, where a row is too wide for the terminal."""
    width = max(map(len, columns))
    for number, row in enumerate(rows, 1):
        print(f"── {number} ──")
        for name, value in zip(columns, row, strict=True):
            print(f"{visible(name).ljust(width)}  {visible(cell(value))}")


def _write_tsv(columns: list[str], rows: Iterable[Row]) -> None:
    """As ClickHouse's TabSeparatedWithNames: tabs and line breaks in values are escaped."""
    print("\t".join(map(_tsv, columns)))
    for row in rows:
        print("\t".join(_tsv(value) for value in row))


def _tsv(value: Any) -> str:
    text = _exact(value)
    if value is None:
        return text
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


def _write_csv(columns: list[str], rows: Iterable[Row]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(["" if value is None else _exact(value) for value in row] for row in rows)


def _write_json(columns: list[str], rows: Iterable[Row]) -> None:
    separator = "[\n"
    for line in _json_lines(columns, rows):
        print(f"{separator}  {line}", end="")
        separator = ",\n"
    print("[]" if separator == "[\n" else "\n]")


def _write_ndjson(columns: list[str], rows: Iterable[Row]) -> None:
    for line in _json_lines(columns, rows):
        print(line)


def _json_lines(columns: list[str], rows: Iterable[Row]) -> Iterator[str]:
    for row in rows:
        yield json.dumps(dict(zip(columns, map(plain, row), strict=True)), ensure_ascii=False)


_WRITERS: Final[dict[Format, Callable[[list[str], Iterable[Row]], None]]] = {
    Format.TABLE: _write_table,
    Format.TSV: _write_tsv,
    Format.CSV: _write_csv,
    Format.JSON: _write_json,
    Format.NDJSON: _write_ndjson,
}
