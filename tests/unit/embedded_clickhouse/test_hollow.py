"""What goes with a part whose files are empty."""

from __future__ import annotations

import pytest

from infra.embedded.clickhouse.hollow import Part, loses_rows


def part(first: int, last: int, *, active: bool = True, table: str = "events", partition: str = "2026") -> Part:
    return Part(("touchstone", table), partition, f"{partition}_{first}_{last}_1", first, last, active, 0)


@pytest.mark.parametrize(
    ("hollow", "others", "expected"),
    [
        (part(7, 7), [], False),
        (part(7, 7), [part(7, 7, active=False)], False),
        (part(3, 9), [part(3, 5, active=False), part(6, 9, active=False)], False),
        (part(3, 9), [], True),
        # No sources: still in use, of another partition or table, wider than the part itself.
        (part(3, 9), [part(3, 5)], True),
        (part(3, 9), [part(3, 5, active=False, partition="2025")], True),
        (part(3, 9), [part(3, 5, active=False, table="states")], True),
        (part(3, 9), [part(2, 5, active=False), part(8, 10, active=False)], True),
    ],
)
def test_only_a_merge_without_its_sources_loses_rows(hollow: Part, others: list[Part], expected: bool) -> None:
    assert loses_rows(hollow, [hollow, *others]) is expected
