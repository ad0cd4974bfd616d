"""How long after a step one is usually asked: right also for steps that most journeys leave before that."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from services.learning.waits import LEAST_ASKED, usual_waits


def known(*journeys: tuple[list[tuple[str, int]], int]) -> pl.DataFrame:
    rows = [(key, step, at, asked) for key, (steps, asked) in enumerate(journeys) for step, at in steps]
    return pl.DataFrame(rows, schema=["key", "touchpoint", "occurred_at", "asked_us"], orient="row")


def test_without_a_next_step_it_is_the_median() -> None:
    found = usual_waits(known(*(([("delivery", 10)], 10 + wait) for wait in range(41))))
    assert found == {"delivery": 20}


def test_leaving_a_step_does_not_make_its_wait_short() -> None:
    """Everybody is asked 100 after the start, unless delivery came: two thirds leave at a random time before."""
    random = np.random.default_rng(1)
    journeys = [
        ([("start", 0), ("delivery", int(random.integers(1, 100)))], 150) if n % 3 else ([("start", 0)], 90 + n % 21)
        for n in range(300)
    ]
    found = usual_waits(known(*journeys))
    assert found["start"] == pytest.approx(100, abs=2)


def test_a_step_after_which_hardly_anybody_is_asked_has_no_wait() -> None:
    few = [([("start", 0)], 5)] * (LEAST_ASKED - 1)
    gone = [([("start", 0), ("delivery", 9)], 12)] * 200
    assert usual_waits(known(*few, *gone)) == {"delivery": 3}
    # Enough are asked, but most of those who stay until then go on.
    early = [([("start", 0)], 5)] * LEAST_ASKED
    assert usual_waits(known(*early, *gone)) == {"delivery": 3}


def test_an_asking_before_the_step_of_its_day_is_no_wait() -> None:
    assert usual_waits(known(*([([("delivery", 10)], 4)] * 30))) == {"delivery": 0}
    assert usual_waits(known(([("delivery", 10)], 4)).clear()) == {}
