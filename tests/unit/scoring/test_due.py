"""Who is due is asked for by the model that judges."""

from __future__ import annotations

from services.scoring.as_of import ACTIVE, crossing_sql
from services.scoring.due import due_sql


def test_one_statement_for_each_model() -> None:
    statements = due_sql([0, 1, 2, 3], {1: "A", 3: "A", 2: "B", 7: "C"}, 9, lambda text: f"<{text}>", "base")
    models = ("base", "A", "B")
    partitions = ((0,), (1, 3), (2,))
    assert statements == [
        crossing_sql(some, 9).replace(ACTIVE, f"<{model}>") for model, some in zip(models, partitions, strict=True)
    ]
    assert not any(ACTIVE in statement for statement in statements)
    assert all("<" in statement for statement in statements)
