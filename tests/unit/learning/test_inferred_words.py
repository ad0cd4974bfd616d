"""Reasons of an inference: in words, largest first, adding up."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from services.learning.inferred_words import MOST, OTHERS, reasons

FACTS = pl.DataFrame(
    {
        "amount": [49.9, None, 5.0, 5.0],
        "promised": [5.0, None, 5.0, 5.0],
        "days_overdue": [3.0, None, -2.0, 0.75],
        "promise_kept": [1.0, 0.0, 0.0, 0.0],
        "delivery.pending": [0.0, 1.0, 1.0, 1.0],
        "delivery.days": [8.2, 1.0, -0.3, 6.0],
        "delivery went wrong.pending": [0.0, 1.0, 1.0, 1.0],
        "payment.pending": [0.0, 0.0, 0.0, 1.0],
        "payment.days": [0.04, 2.0, None, 1.0],
    }
)


def told(row: int, promise_step: str = "delivery") -> list[str]:
    added = {name: np.full(4, 0.1 * (place + 1)) for place, name in enumerate(FACTS.columns)}
    return [reason["reason"] for reason in reasons(FACTS, added, promise_step)[row]]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (0, ["delivery after 8 days, went wrong, 3 days after the promise", "payment after 1 hour", "amount 49.9"]),
        (1, ["no delivery after 24 hours, nothing was promised", "payment after 2 days", "no amount"]),
        (2, ["no delivery after 0 hours, 2 days left of the promise", "payment after an unknown time", "amount 5.0"]),
        (3, ["no delivery after 6 days, promise overdue by 18 hours", "no payment after 24 hours", "amount 5.0"]),
    ],
)
def test_facts_are_said_in_words(row: int, said: list[str]) -> None:
    assert told(row) == said


def test_a_promise_that_no_step_keeps_is_said_alone() -> None:
    assert told(3, "")[0] == "no delivery after 6 days"
    assert "promise overdue by 18 hours" in told(3, "")


def test_they_add_up_and_the_small_ones_are_summed() -> None:
    random = np.random.default_rng(1)
    names = [f"s{n}.pending" for n in range(9)]
    facts = pl.DataFrame({name: [0.0] * 50 for name in names}).with_columns(
        pl.lit(1.0).alias(name.replace("pending", "days")) for name in names
    )
    added = {name: random.normal(0, 0.3, 50) for name in names}
    found = reasons(facts, added)
    for row, listed in enumerate(found.to_list()):
        sizes = [reason["log_odds"] for reason in listed]
        assert sum(sizes) == pytest.approx(sum(part[row] for part in added.values()))
        assert listed[-1]["reason"] == OTHERS
        assert len(listed) == MOST + 1
        assert sorted(map(abs, sizes[:MOST]), reverse=True) == [abs(size) for size in sizes[:MOST]]


def test_nothing_to_say_is_an_empty_list() -> None:
    assert reasons(FACTS[:0], {"amount": np.empty(0)}).to_list() == []
    assert reasons(FACTS, {"amount": np.zeros(4)}).to_list() == [[], [], [], []]
