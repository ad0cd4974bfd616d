"""Customers as they could be: values around every number and text that conditions name, to see whether two can meet."""

from __future__ import annotations

from itertools import product
from typing import Final

import polars as pl
from sqlglot import exp

from services.alerting.rules.condition import Condition, tree_of
from services.alerting.rules.fields import FIELDS

MOST_SAMPLES: Final = 20_000
_BEYOND: Final = 1e-3


def samples(*conditions: Condition) -> pl.DataFrame:
    """Customers at, below and above all that the conditions compare with; at most `MOST_SAMPLES`."""
    fields = sorted(frozenset[str]().union(*(condition.fields for condition in conditions)))
    numbers, texts = {0.0, 1.0}, {"", "other"}
    for condition in conditions:
        for literal in tree_of(condition).find_all(exp.Literal):
            if literal.is_string:
                texts.add(str(literal.this))
            else:
                number = float(literal.this)
                numbers |= {number, number - _BEYOND, number + _BEYOND, -number}
    choices: list[list[float] | list[str]] = []
    for name in fields:
        field = FIELDS[name]
        if field.kind == "text":
            choices.append(list(field.values) or sorted(texts))
        else:
            inside = sorted(number for number in numbers if field.lowest <= number <= field.highest)
            choices.append(inside or [max(field.lowest, 0.0)])
    rows = []
    for row in product(*choices):
        rows.append(row)
        if len(rows) >= MOST_SAMPLES:
            break
    schema = {name: pl.Float64 if FIELDS[name].kind == "number" else pl.String for name in fields}
    return pl.DataFrame(rows, schema=schema, orient="row")
