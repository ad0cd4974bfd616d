"""States come back from the table as they went in."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from infra.clickhouse import blocks, states
from infra.clickhouse.client import ClickHouse
from infra.clickhouse.migrate import migrate, read_files
from infra.clickhouse.states import StateRows
from schemas.state_layout import (
    BANDS,
    CODES,
    FLOAT_INDEX,
    FLOATS,
    INT_INDEX,
    INTS,
    KEY,
    PACKED,
    TIMES,
    NameList,
    packed_sql,
)
from schemas.tables import CUSTOMER_STATE, Table

pytestmark = pytest.mark.stack

NOW_US = 1_790_000_000_123_456
TOUCHPOINTS = ["", "checkout", "delivery", "support.phone"]
MODELS = ["", "defaults-1"]


def some_states(customers: list[str], *, offset: int = 0, seed: int = 1) -> StateRows:
    """States with a different value in every place."""
    generator = np.random.default_rng(seed)
    n = len(customers)
    ints = generator.integers(0, 1000, (n, len(INTS)))
    for name in TIMES:
        ints[:, INT_INDEX[name]] = NOW_US - generator.integers(0, 10**12, n)
    sizes = {NameList.TOUCHPOINTS: len(TOUCHPOINTS), NameList.MODELS: len(MODELS), NameList.BANDS: len(BANDS)}
    for name, kind in CODES.items():
        ints[:, INT_INDEX[name]] = generator.integers(0, sizes[kind], n)
    ints[:, INT_INDEX["log_offset"]] = offset + np.arange(n)
    ints[:, INT_INDEX["spend_micros"]] -= 500
    packed = {
        name: generator.integers(0, 2 ** (8 * pack.item_bytes), (n, pack.width), dtype=pack.dtype.replace("<", ""))
        for name, pack in PACKED.items()
    }
    # The last places are zero: their bytes must not get lost.
    packed["cases"][:, -1] = 0
    return StateRows(
        customers,
        generator.normal(size=(n, len(FLOATS))),
        ints,
        packed["activity_days"],
        packed["cases"],
        packed["recent_ids"],
        TOUCHPOINTS,
        MODELS,
    )


def as_records(rows: StateRows) -> dict[str, dict[str, object]]:
    """Plain values by customer and column, names instead of codes."""
    lists = {NameList.TOUCHPOINTS: rows.touchpoints, NameList.MODELS: rows.models, NameList.BANDS: list(BANDS)}
    records: dict[str, dict[str, object]] = {}
    for index, customer in enumerate(rows.customers):
        record: dict[str, object] = dict(zip(FLOATS, rows.floats[index].tolist(), strict=True))
        record |= dict(zip(INTS, rows.ints[index].tolist(), strict=True))
        for name, kind in CODES.items():
            record[name] = lists[kind][rows.ints[index, INT_INDEX[name]]]
        for name in PACKED:
            record[name] = getattr(rows, name)[index].tolist()
        records[customer] = record
    return records


def test_every_value_comes_back(clickhouse: ClickHouse) -> None:
    saved = some_states(["zoë", "o'brien", "back\\slash", "nul\0byte", "a" * 300, "b"])
    states.save(clickhouse, saved)
    loaded = states.load(clickhouse, [*saved.customers, "nobody"])
    assert as_records(loaded) == as_records(saved)
    assert loaded.touchpoints[0] == ""
    assert loaded.models[0] == ""


def test_a_state_that_ends_in_zeros_comes_back(clickhouse: ClickHouse) -> None:
    """The client cuts zeros from the end of fixed strings: a customer of one event has an empty end of recent ids."""
    rows = some_states(["ada", "bob"])
    rows.recent_ids[0, 1:] = 0
    rows.recent_ids[1] = 0
    states.save(clickhouse, rows)
    assert as_records(states.load(clickhouse, ["ada", "bob"])) == as_records(rows)


def test_the_highest_offset_wins_whatever_came_last(clickhouse: ClickHouse) -> None:
    newer, older = some_states(["a", "b"], offset=100, seed=2), some_states(["a", "b"], offset=50, seed=3)
    states.save(clickhouse, newer)
    states.save(clickhouse, older)
    assert as_records(states.load(clickhouse, ["a", "b"])) == as_records(newer)


def test_saving_again_adds_no_row(clickhouse: ClickHouse) -> None:
    saved = some_states(["a", "b", "c"])
    states.save(clickhouse, saved)
    states.save(clickhouse, saved)
    assert clickhouse.query(f"SELECT count() FROM touchstone.{CUSTOMER_STATE.name}") == [(3,)]


def test_more_customers_than_one_query_takes(clickhouse: ClickHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(states, "LOOKUP_KEYS", 3)
    saved = some_states([f"customer-{number}" for number in range(8)])
    states.save(clickhouse, saved)
    assert as_records(states.load(clickhouse, saved.customers)) == as_records(saved)


def test_nothing_asked_nothing_found(clickhouse: ClickHouse) -> None:
    assert states.load(clickhouse, []).customers == []
    found = states.load(clickhouse, ["nobody"])
    assert found.customers == []
    assert found.floats.shape == (0, len(FLOATS))
    states.save(clickhouse, some_states([]))


def test_a_code_without_a_name_is_refused(clickhouse: ClickHouse) -> None:
    broken = some_states(["a"])
    broken.ints[0, INT_INDEX["last_touchpoint"]] = len(TOUCHPOINTS)
    with pytest.raises(IndexError):
        states.save(clickhouse, broken)


def test_a_name_with_a_line_break_is_found_as_well(clickhouse: ClickHouse) -> None:
    saved = some_states(["one", "two\nlines", "two", "lines"])
    states.save(clickhouse, saved)
    assert as_records(states.load(clickhouse, ["one", "two\nlines"])).keys() == {"one", "two\nlines"}
    assert as_records(states.load(clickhouse, ["two", "one"])).keys() == {"one", "two"}


def test_columns_read_by_name_are_what_was_written(clickhouse: ClickHouse) -> None:
    saved = some_states(["a", "b", "c"])
    states.save(clickhouse, saved)
    assert read_by_name(clickhouse) == as_records(saved)


def test_sql_packs_what_it_unpacks(clickhouse: ClickHouse) -> None:
    states.save(clickhouse, some_states(["a", "b", "c"]))
    packed = packed_sql({name: name for name in CUSTOMER_STATE.names})
    same = " AND ".join(f"{expression} = {name}" for name, expression in packed.items())
    assert clickhouse.query(f"SELECT {same} FROM touchstone.{CUSTOMER_STATE.name}") == [(1,)] * 3


def read_by_name(clickhouse: ClickHouse) -> dict[str, dict[str, object]]:
    """What a person sees who asks for the columns."""
    names = [f"toUnixTimestamp64Micro({name})" if name in TIMES else name for name in CUSTOMER_STATE.names]
    frame = clickhouse.frame(f"SELECT {', '.join(names)} FROM touchstone.{CUSTOMER_STATE.name} FINAL")
    frame.columns = list(CUSTOMER_STATE.names)
    records: dict[str, dict[str, object]] = {}
    for row in frame.with_columns(pl.col(*CODES, KEY).cast(pl.String)).to_dicts():
        for name, pack in PACKED.items():
            row[name] = np.frombuffer(row[name], dtype=pack.dtype).tolist()
        records[row.pop(KEY)] = row
    return records


def test_states_written_before_they_were_packed_are_kept(clickhouse: ClickHouse) -> None:
    """Also when the migration is interrupted and run again."""
    saved = some_states(["zoë", "b", "c" * 40])
    newer = some_states(["b"], offset=50, seed=4)
    for rows in (saved, newer):
        # What came after them is 0 then.
        rows.floats[:, FLOAT_INDEX["contact_load"]] = rows.ints[:, INT_INDEX["last_contact_at"]] = 0
    files = {file.name: file for file in read_files()}
    clickhouse.query(f"DROP TABLE touchstone.{CUSTOMER_STATE.name} SYNC")
    for statement in files["0001_tables.sql"].statements:
        clickhouse.query(statement)
    for rows in (saved, newer):
        lists = {NameList.TOUCHPOINTS: rows.touchpoints, NameList.MODELS: rows.models, NameList.BANDS: BANDS}
        values: dict[str, blocks.Values] = {KEY: pl.Series(KEY, rows.customers)}
        values |= {name: rows.floats[:, at] for at, name in enumerate(FLOATS)}
        values |= {name: rows.ints[:, at] for at, name in enumerate(INTS)}
        values |= {name: blocks.Coded(lists[kind], rows.ints[:, INT_INDEX[name]]) for name, kind in CODES.items()}
        values |= {name: getattr(rows, name).view(np.uint8) for name in PACKED}
        there = tuple(c for c in CUSTOMER_STATE.columns if c.name not in ("contact_load", "last_contact_at"))
        unpacked = Table(CUSTOMER_STATE.name, there)
        values = {column.name: values[column.name] for column in there}
        clickhouse.insert_block(blocks.block_of(unpacked, len(rows.customers), values))
    expected = as_records(saved) | as_records(newer)
    later = sorted(name for name, file in files.items() if file.kind == "migration" and name >= "0002")
    for _ in range(2):
        clickhouse.query("DELETE FROM touchstone.schema_migrations WHERE kind = 'migration' AND name >= '0002'")
        assert migrate(clickhouse) == later
        assert as_records(states.load(clickhouse, list(expected))) == expected
        assert read_by_name(clickhouse) == expected
