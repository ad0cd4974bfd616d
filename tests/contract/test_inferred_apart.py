"""Inferred experience is kept apart: what scores, signals and judges does not know of it, and one place says what a
rating is."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.clickhouse.client import quoted
from services.learning.occasions import BAD_AT_MOST, RATED

ROOT = Path(__file__).parents[2]
FORBIDDEN = ("inferred_experience", "inferred_journeys", "INFERRED_EXPERIENCE", "infra.clickhouse.inferred")
MAY_KNOW = {
    "schemas/tables.py",
    "infra/clickhouse/inferred.py",
    "infra/clickhouse/migrations/0010_inferred_experience.sql",
    "infra/clickhouse/views/24_inferred_journeys.sql",
    "services/cli/customer.py",
    "services/cli/learning/infer.py",
}


def test_only_those_that_show_it_know_of_it() -> None:
    files = [path for top in ("schemas", "infra", "services") for path in (ROOT / top).rglob("*")]
    knowing = {
        str(path.relative_to(ROOT))
        for path in files
        if path.suffix in {".py", ".sql"} and any(name in path.read_text(encoding="utf-8") for name in FORBIDDEN)
    }
    assert knowing == MAY_KNOW


@pytest.mark.parametrize("file", ["infra/clickhouse/inferred.py", "infra/clickhouse/views/24_inferred_journeys.sql"])
def test_a_rating_ends_an_inference_wherever_it_is_learnt_from(file: str) -> None:
    text = (ROOT / file).read_text(encoding="utf-8")
    for names in (RATED, tuple(BAD_AT_MOST)):
        assert f"IN ({quoted(names).replace(',', ', ')})" in text
