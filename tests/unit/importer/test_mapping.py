"""A mapping is right, or told what is wrong with it, by line and field."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.importer.errors import MappingError
from services.importer.mapping import check_columns, load_mapping

GOOD = """\
dataset = "shop"

[fields]
customer_id = "who"
occurred_at = { column = "at", zone = "UTC" }
kind = { column = "what", map = { buy = "purchase" } }
touchpoint = { constant = "checkout" }
"""

CUSTOMER = GOOD.replace("customer_id", "customer")
RATINGS = GOOD + '[ratings]\nmetric_column = "m"\nvalue_column = "v"\n'
PLACE = 'constant = "checkout"'
EXAMPLES = sorted((Path(__file__).parents[3] / "docs" / "mappings").glob("*.toml"))


def fault(text: str) -> str:
    with pytest.raises(MappingError) as raised:
        load_mapping(text, "m.toml")
    return str(raised.value)


def test_a_good_mapping_is_read() -> None:
    mapping = load_mapping(GOOD, "m.toml")
    assert mapping.fields.customer_id.column == "who"
    assert list(mapping.columns_used()) == ["at", "who", "what"]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_are_good(path: Path) -> None:
    assert load_mapping(path.read_text("utf-8"), path.name).dataset == path.stem


def test_there_is_an_example() -> None:
    assert EXAMPLES


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("dataset = ", "m.toml: not TOML"),
        (CUSTOMER, "m.toml:3: fields.customer_id: is missing"),
        (CUSTOMER, "m.toml:4: fields.customer: no such option; did you mean customer_id?"),
        (GOOD.replace('"UTC"', '"Berlin"'), "m.toml:5: fields.occurred_at.zone: no such time zone"),
        (GOOD.replace('"UTC"', '"Europe/Berln"'), "did you mean Europe/Berlin?"),
        (GOOD.replace('"purchase"', '"purchse"'), "m.toml:6: fields.kind: 'purchse' is no kind; did you mean purchase"),
        (GOOD.replace('buy = "purchase"', 'buy = "review_due"'), "'review_due' is no kind"),
        (GOOD.replace(PLACE, 'constant = "a", column = "b"'), "m.toml:7: fields.touchpoint: give exactly one"),
        (GOOD.replace(PLACE, 'separator = "a"'), "given: none"),
        (GOOD.replace(PLACE, 'column = "a", otherwise = "leave_out"'), "otherwise needs a map"),
        (GOOD.replace(PLACE, 'column = "a", kinds = ["buy"]'), "'buy' is no kind"),
        (GOOD + 'amount = { column = "a", negative = "drop" }\n', "m.toml:8: fields.amount.negative"),
        (GOOD.replace("zone =", 'format = "ISO", zone ='), "fields.occurred_at.format: must be iso"),
        (GOOD + "[[rules]]\nwhen = { a = 1 }\n", "m.toml:8: rules.1: the rule does nothing"),
        (GOOD + '[[rules]]\nwhen = { a = 1 }\nset = { outcom = "failed" }\n', "no field outcom; did you mean outcome?"),
        (GOOD + '[[rules]]\nwhen = { a = 1 }\nset = { outcome = "lost" }\n', "'lost' is no outcome"),
        (GOOD + '[[rules]]\nwhen = { a = {} }\nskip = true\n', "rules.1.when.a: an empty condition"),
        (GOOD + '[[rules]]\nwhen = { a = { over = 3 } }\nskip = true\n', "rules.1.when.a.over: no such option"),
        (RATINGS + 'scales = { x = { metric = "star" } }\n', "did you mean stars?"),
        (RATINGS + 'scales = { x = { metric = "nps", range = [1, 1] } }\n', "must differ"),
        (GOOD + 'rating = "r"\n[ratings]\nmetric_column = "m"\nvalue_column = "v"\n', "either [ratings] or"),
        ('encoding = "utf-99"\n' + GOOD, "m.toml:1: encoding: no such encoding"),
        (GOOD.replace('"shop"', '"my shop"'), "m.toml:1: dataset"),
    ],
)  # fmt: skip
def test_a_fault_is_named_by_line_and_field(text: str, expected: str) -> None:
    assert expected in fault(text)


def test_all_faults_are_told_at_once() -> None:
    assert len(fault(GOOD.replace("customer_id", "customer").replace('"UTC"', '"x"')).splitlines()) == 3


def test_a_column_that_the_file_lacks_is_named_with_what_it_has() -> None:
    with pytest.raises(MappingError) as raised:
        check_columns(load_mapping(GOOD, "m.toml"), ["when", "who", "waht"], "m.toml", "f.csv")
    assert "fields.kind: f.csv has no column 'what'; did you mean waht?" in str(raised.value)
    assert "fields.occurred_at: f.csv has no column 'at'" in str(raised.value)
    assert "The columns of f.csv are: when, who, waht" in str(raised.value)
