"""Customers' states as frames: one row a customer, the columns of `customer_state` in plain types.

Numbers are Float64 or Int64 (times in UTC microseconds), names String, bounded sets Binary as the table keeps them. All
that is compared is brought to this form, wherever it comes from.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np
import polars as pl

from schemas.state_layout import BANDS, CODES, FLOAT_INDEX, FLOATS, INT_INDEX, INTS, KEY, PACKED, TIMES, NameList
from schemas.tables import CUSTOMER_STATE, DATABASE
from services.scoring.cache import StoredStates
from services.scoring.ports import StateRows

SCHEMA: Final[dict[str, pl.DataType | type[pl.DataType]]] = {
    name: pl.String
    if name == KEY or name in CODES
    else pl.Float64
    if name in FLOAT_INDEX
    else pl.Binary
    if name in PACKED
    else pl.Int64
    for name in CUSTOMER_STATE.names
}
"""Columns of a frame of states, in the table's order."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def state_sql(condition: str, table: str = CUSTOMER_STATE.name) -> str:
    """A SELECT of the latest state of each customer that fits ``condition``, with the columns of `SCHEMA`."""
    selected = ", ".join(_selected(name) for name in SCHEMA)
    return f"SELECT {selected} FROM {DATABASE}.{table} AS kept FINAL WHERE {condition}"


def _selected(name: str) -> str:
    if name in TIMES:
        return f"toUnixTimestamp64Micro(kept.{name}) AS {name}"
    if SCHEMA[name] == pl.Int64:
        return f"toInt64(kept.{name}) AS {name}"
    return f"toString(kept.{name}) AS {name}" if name in CODES else f"kept.{name} AS {name}"


def plain(frame: pl.DataFrame) -> pl.DataFrame:
    """A frame with some columns of `SCHEMA`, brought to its types; others are dropped."""
    columns = []
    for name, dtype in SCHEMA.items():
        if name not in frame.columns:
            continue
        column = pl.col(name)
        if isinstance(frame.schema[name], pl.Datetime):
            column = column.dt.timestamp("us")
        columns.append(column.cast(dtype))
    return frame.select(columns)


def to_frame(rows: StoredStates) -> pl.DataFrame:
    """States laid out in matrices, as a frame."""
    names: dict[NameList, list[str]] = {
        NameList.TOUCHPOINTS: rows.touchpoints,
        NameList.MODELS: rows.models,
        NameList.BANDS: list(BANDS),
    }
    columns: dict[str, pl.Series] = {KEY: pl.Series(KEY, rows.customers, dtype=pl.String)}
    columns |= {name: pl.Series(name, np.ascontiguousarray(rows.floats[:, at])) for at, name in enumerate(FLOATS)}
    for at, name in enumerate(INTS):
        values = rows.ints[:, at]
        if name in CODES:
            known = names[CODES[name]]
            columns[name] = pl.Series(name, [known[code] for code in values.tolist()], dtype=pl.String)
        else:
            columns[name] = pl.Series(name, np.ascontiguousarray(values))
    for name, pack in PACKED.items():
        matrix = np.ascontiguousarray(getattr(rows, name), dtype=pack.dtype)
        columns[name] = pl.Series(name, [row.tobytes() for row in matrix], dtype=pl.Binary)
    return pl.DataFrame(columns).select(list(SCHEMA))


def from_frame(frame: pl.DataFrame) -> StateRows:
    """The matrices of a frame with all columns of `SCHEMA`. ValueError names a band that there is not."""
    names: dict[NameList, dict[str, int]] = {
        NameList.TOUCHPOINTS: {"": 0},
        NameList.MODELS: {"": 0},
        NameList.BANDS: {band: code for code, band in enumerate(BANDS)},
    }
    ints = np.empty((frame.height, len(INTS)), dtype=np.int64)
    for name, at in INT_INDEX.items():
        column = frame.get_column(name)
        if name in CODES:
            codes = names[CODES[name]]
            if CODES[name] is NameList.BANDS and (unknown := set(column.unique()) - codes.keys()):
                raise ValueError(f"{name} holds {sorted(unknown)}, which are none of {', '.join(BANDS)}")
            ints[:, at] = [codes.setdefault(value, len(codes)) for value in column.to_list()]
        else:
            ints[:, at] = column.to_numpy()
    packed = {
        name: np.frombuffer(b"".join(frame.get_column(name).to_list()), dtype=pack.dtype).reshape(-1, pack.width).copy()
        for name, pack in PACKED.items()
    }
    return StateRows(
        frame.get_column(KEY).to_list(),
        frame.select(FLOATS).to_numpy().reshape(-1, len(FLOATS)).astype(np.float64, order="C"),
        ints,
        packed["activity_days"],
        packed["cases"],
        packed["recent_ids"],
        list(names[NameList.TOUCHPOINTS]),
        list(names[NameList.MODELS]),
    )


def readable(column: str, value: Any) -> Any:
    """A value for a person: times as ISO 8601, sets as lists. Numbers stay numbers, names stay names."""
    if column in TIMES:
        return "never" if value == 0 else _time(value)
    if column in PACKED:
        items = np.frombuffer(value, dtype=PACKED[column].dtype)
        return [_item(column, item) for item in items.tolist() if item]
    return value


def _item(column: str, item: int) -> str:
    if column == "activity_days":
        return f"{_EPOCH + timedelta(days=item):%Y-%m-%d}"
    at = _time((item >> 32) * 1_000_000)
    low = item & 0xFFFFFFFF
    if column == "cases":
        return f"{at} case {low >> 1:08x} {'resolved' if low & 1 else 'open'}"
    return f"{at} id {low:08x}"


def _time(us: int) -> str:
    try:
        at = _EPOCH + timedelta(microseconds=us)
    except OverflowError:
        return f"{us} us"
    return at.isoformat(timespec="microseconds" if at.microsecond else "seconds").replace("+00:00", "Z")
