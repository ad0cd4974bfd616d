"""Runs a part of the product as it was before schema version 2, in this process alone.

`python -m tests.e2e.upgrade.version_one MODULE` takes everything that version 2 brought out of the contract, before
anything else is imported that builds upon it, and calls the module's ``main``: one schema file, no column, no member of
that name in an event. What was there to be taken out must be there: else this would be no older version, and nobody
know.
"""

from __future__ import annotations

import importlib
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from schemas import tables, versions

FIELD: Final = "journey"


def put(owner: Any, name: str, value: Any) -> None:
    """AttributeError if there is nothing of that name to be replaced."""
    getattr(owner, name)
    setattr(owner, name, value)


def without_field(columns: tuple[Any, ...]) -> tuple[Any, ...]:
    kept = tuple(column for column in columns if FIELD not in (column, getattr(column, "name", None)))
    assert len(kept) == len(columns) - 1
    return kept


def one_schema() -> None:
    first = versions.VERSIONS[0]
    put(versions, "VERSIONS", (first,))
    put(versions, "CURRENT", first)
    put(versions, "BY_HEADER", {first.header: first})


def table_of_before() -> None:
    put(tables, "TOUCHPOINTS", replace(tables.TOUCHPOINTS, columns=without_field(tables.TOUCHPOINTS.columns)))
    before = [tables.TOUCHPOINTS if table.name == tables.TOUCHPOINTS.name else table for table in tables.TABLES]
    put(tables, "TABLES", tuple(before))


def events_of_before() -> None:
    """The module of the event types without the member's line: types of events cannot be changed once made."""
    spec = find_spec("schemas.touchpoint")
    assert spec is not None
    assert spec.origin is not None
    lines = Path(spec.origin).read_text("utf-8").splitlines(keepends=True)
    kept = [line for line in lines if not line.lstrip().startswith(f"{FIELD}:")]
    assert len(kept) == len(lines) - 1
    module = ModuleType(spec.name)
    module.__file__ = spec.origin
    sys.modules[spec.name] = module
    exec(compile("".join(kept), spec.origin, "exec"), vars(module))


def columns_of_before() -> None:
    import polars as pl

    from infra.clickhouse import events
    from schemas import decode

    del decode.COLUMNS[FIELD]
    rules = [(detail, broken) for detail, broken in decode._rules() if not detail.startswith(FIELD)]
    assert len(rules) == len(decode._rules()) - 1
    put(decode, "_CONTRACT", pl.coalesce(pl.when(broken).then(pl.lit(detail)) for detail, broken in rules))
    put(decode, "_ANY_BROKEN", pl.any_horizontal(broken for _, broken in rules).any())
    put(decode, "_EMPTY", pl.DataFrame(schema=decode.COLUMNS))
    put(events, "OPTIONAL", without_field(events.OPTIONAL))


def main(module: str) -> int:
    one_schema()
    table_of_before()
    events_of_before()
    columns_of_before()
    made = importlib.import_module(module)
    code: int = made.main()
    return code


if __name__ == "__main__":
    sys.argv = sys.argv[1:]
    sys.exit(main(sys.argv[0]))
