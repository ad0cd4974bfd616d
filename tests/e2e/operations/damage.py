"""Damage done to states on purpose, whatever the layout of their table."""

from __future__ import annotations

from infra.clickhouse import states
from infra.clickhouse.client import ClickHouse
from schemas.state_layout import BANDS, CODES, FLOAT_INDEX, INT_INDEX, NameList
from services.scoring.state import States


def remove(tables: ClickHouse, table: str, condition: str) -> None:
    """Rows of a table, gone when this returns."""
    tables.query(f"ALTER TABLE touchstone.{table} DELETE WHERE {condition} SETTINGS mutations_sync = 1")


def change_state(tables: ClickHouse, customer: str, **values: float | str) -> dict[str, float | str]:
    """Put another state in the place of a customer's; returns what stood in the changed columns before."""
    rows = states.load(tables, [customer])
    before: dict[str, float | str] = {}
    for name, value in values.items():
        if name in FLOAT_INDEX:
            before[name] = float(rows.floats[0, FLOAT_INDEX[name]])
            rows.floats[0, FLOAT_INDEX[name]] = value
        elif CODES.get(name) is NameList.BANDS:
            before[name] = BANDS[rows.ints[0, INT_INDEX[name]]]
            rows.ints[0, INT_INDEX[name]] = BANDS.index(str(value))
        else:
            before[name] = int(rows.ints[0, INT_INDEX[name]])
            rows.ints[0, INT_INDEX[name]] = value
    # A state of the same offset would be as good as this one.
    remove(tables, "customer_state", f"customer_id = '{customer}'")
    states.save(tables, rows)
    return before


def invent_state(tables: ClickHouse, customer: str) -> None:
    """A state of somebody of whom the log knows nothing; so empty that nothing is ever due for them."""
    blank = States.empty(1)
    blank.ints[0, INT_INDEX["log_offset"]] = 0
    sets = (blank.activity_days, blank.cases, blank.recent_ids)
    states.save(tables, states.StateRows([customer], blank.floats, blank.ints, *sets, [""], [""]))
