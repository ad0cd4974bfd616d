"""One condition, two spellings: ClickHouse and polars say the same of every customer, the unknown included."""

from __future__ import annotations

import itertools
import math

import polars as pl
import pytest

from infra.clickhouse.client import ClickHouse
from services.alerting.rules.condition import parse
from services.alerting.rules.fields import FIELDS
from services.alerting.rules.model import sweep_condition
from tests.fakes.alerting import frame, rule, rule_set, signal

CONDITIONS = (
    "band = 'high' AND value_at_risk >= 100",
    "NOT (band = 'high' AND value_at_risk >= 100)",
    "value_at_risk IN (0, 100) OR segment NOT IN ('gold', 'o''b\\'r\\\\')",
    "value_at_risk NOT IN (0, 100)",
    "value_at_risk BETWEEN 0 AND 1e2",
    "value_at_risk NOT BETWEEN -1 AND 99.5",
    "score / value_at_risk > 0.25 AND NOT score - 1 > value_at_risk * 2",
    "NOT score / value_at_risk > 0.25",
    "-score * 1e308 * 10 < 0 OR band <> from_band",
    "segment = worst_touchpoint",
)
NUMBERS = (0.0, 100.0, -1.5, math.nan, math.inf, -math.inf)
TEXTS = ("gold", "o'b'r\\", "")


@pytest.fixture(scope="module")
def customers() -> pl.DataFrame:
    combined = itertools.product(NUMBERS, NUMBERS, ("low", "high"), TEXTS)
    return frame(
        [
            signal(value_at_risk=value, score=score, band=band, segment=segment, worst_touchpoint="gold")
            for value, score, band, segment in combined
        ]
    )


def literal(value: float | str) -> str:
    if isinstance(value, str):
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    return {"nan": "nan", "inf": "inf", "-inf": "-inf"}.get(repr(value), repr(value))


@pytest.mark.stack
@pytest.mark.parametrize("text", CONDITIONS)
def test_both_say_the_same(engine: ClickHouse, customers: pl.DataFrame, text: str) -> None:
    condition = parse(text)
    columns = {name: name for name in FIELDS}
    rows = ", ".join(
        "(" + ", ".join(literal(value) for value in row) + ")" for row in customers.select(list(FIELDS)).iter_rows()
    )
    shape = ", ".join(f"{name} {'String' if field.kind == 'text' else 'Float64'}" for name, field in FIELDS.items())
    sql = f"SELECT {condition.holds_sql(columns)}, {condition.fails_sql(columns)} FROM values('{shape}', {rows})"
    told = [(bool(holds), bool(fails)) for holds, fails in engine.query(sql)]
    said = customers.select(condition.holds().alias("holds"), condition.fails().alias("fails")).rows()
    assert told == said
    assert {True, False} <= {holds for holds, _ in said}


@pytest.mark.stack
def test_a_sweep_asks_the_view(engine: ClickHouse) -> None:
    rules = rule_set(rule(when="band = 'high' AND segment = 'gold' AND score < 40", until="risk < 0.2"))
    when, until = sweep_condition(rules.rules[0], segment_sql="'gold'")
    assert list(engine.query(f"SELECT {when}, {until} FROM touchstone.customer_scores")) == []
