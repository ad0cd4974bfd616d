"""docs/import.md tells every option, and its examples work."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from services.importer.files import CSV, NDJSON, PARQUET
from services.importer.mapping import (
    FIELDS,
    Amount,
    Condition,
    Mapping,
    Ratings,
    Rule,
    ScaleMapping,
    Time,
    Value,
    load_mapping,
)

TEXT = (Path(__file__).parents[3] / "docs" / "import.md").read_text("utf-8")
EXAMPLES = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)
SHORTHAND = {"one_of"}
"""Options that are written as a bare value."""


@pytest.mark.parametrize("part", [Mapping, Value, Time, Amount, Ratings, ScaleMapping, Condition, Rule])
def test_every_option_is_told(part: type[Mapping]) -> None:
    untold = [name for name in part.model_fields if name not in SHORTHAND and not re.search(rf"\b{name}\b", TEXT)]
    assert untold == []


def test_every_field_and_ending_is_told() -> None:
    assert [name for name in (*FIELDS, *PARQUET, *CSV, *NDJSON) if f"`{name}`" not in TEXT] == []


def test_the_examples_work() -> None:
    whole, ratings = EXAMPLES
    assert load_mapping(whole, "import.md").dataset == "webshop"
    needed = 'dataset = "d"\n[fields]\ncustomer_id = "c"\noccurred_at = "t"\nkind = "k"\ntouchpoint = "p"\n'
    assert load_mapping(needed + ratings, "import.md").ratings is not None


def test_every_example_mapping_is_told() -> None:
    shipped = {path.name for path in (Path(__file__).parents[3] / "docs" / "mappings").glob("*.toml")}
    assert shipped == set(re.findall(r"`(\w+\.toml)`", TEXT))
