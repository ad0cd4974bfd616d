"""docs/alerting/rules.md names every field and every key, with its default."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from services.alerting.alert import Fate
from services.alerting.document import MOST_SHOWN
from services.alerting.rules.durations import duration_text
from services.alerting.rules.fields import FIELDS
from services.alerting.rules.model import Budget, Focus, Group, Rule, SurveyGuard
from services.alerting.tell import MOST_BYTES

PAGE = (Path(__file__).parents[3] / "docs" / "alerting" / "rules.md").read_text("utf-8")


def table(head: str) -> dict[str, list[str]]:
    """Rows of the table that begins with ``head``, by their first cell without its backticks."""
    lines = PAGE[PAGE.index(head) :].splitlines()[2:]
    rows = [re.split(r"\s*\|\s*", line.strip("| ")) for line in lines[: next(i for i, x in enumerate(lines) if not x)]]
    return {row[0].strip("`"): row[1:] for row in rows}


def defaults(model: type[BaseModel]) -> dict[str, Any]:
    said = {}
    for name, field in model.model_fields.items():
        value = field.get_default(call_default_factory=True)
        said[field.alias or name] = duration_text(value) if name.endswith("_us") and isinstance(value, int) else value
    return said


def test_every_field_is_on_the_page() -> None:
    rows = table("| field | what it is |")
    assert {name: cells[0] for name, cells in rows.items()} == {name: field.meaning for name, field in FIELDS.items()}


@pytest.mark.parametrize("key", [key for key in defaults(Rule) if key not in ("quiet_hours",)])
def test_every_key_of_a_rule_is_on_the_page(key: str) -> None:
    said, default = table("| key | default | what it says |")[key][0], defaults(Rule)[key]
    if key == "budget":
        assert said == f"{Budget().per_hour} `per_hour`, {Budget().per_day} `per_day`"
    elif key == "group":
        written = defaults(Group)
        assert said == f"`above: {written['above']}`, `within: {written['within']}`, `wait: {written['wait']}`"
    elif isinstance(default, str | float) and default:
        assert said == str(default)
    elif key in ("for", "keep_firing_for", "answer_within", "hold_out"):
        assert said.startswith(str(default))


def test_every_key_of_a_focus_is_on_the_page() -> None:
    focus_alone = {key: value for key, value in defaults(Focus).items() if key not in defaults(Rule)}
    rows = table("| key | default | what it says |\n|---|---|---|\n| `by`")
    assert rows.keys() == focus_alone.keys()
    for key in focus_alone.keys() - {"by", "measure"}:
        assert rows[key][0] == str(focus_alone[key])


def test_every_fate_and_figure_is_on_the_page() -> None:
    assert table("| fate | meaning |").keys() == {fate.value for fate in Fate}
    assert f"at most {MOST_SHOWN} alerts one by one, the costliest first, in at most {MOST_BYTES:,} bytes" in PAGE
    for key, value in defaults(SurveyGuard).items():
        assert key in PAGE
        assert str(value).lower().removesuffix(".0") in PAGE
