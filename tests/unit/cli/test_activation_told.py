"""What an activation that is not complete says of itself."""

from __future__ import annotations

import pytest

from services.cli.learning.activation import Activated

ALL = (0, 1, 2, 3)


@pytest.mark.parametrize(
    ("came", "complete", "words"),
    [
        (Activated("m", 1, ALL, ALL), True, ["model m judges from now on", "all 4 partitions"]),
        (Activated("m", 1, ALL, ()), True, ["active already"]),
        (Activated("m", 1, ALL, ALL, waiting=(1, 3)), False, ["no scoring worker runs", "partitions 1, 3 once"]),
        (Activated("m", 1, ALL, ALL, waiting=(2,), workers=2), False, ["have not got there yet", "partition 2 once"]),
        (
            Activated("m", 1, ALL, ALL, waiting=(2,), refused={1: "no schema is known"}),
            False,
            ["refused model m (partition 1: no schema is known)", "upgrade all workers"],
        ),
    ],
)
def test_it_says_what_is_to_be_done(came: Activated, complete: bool, words: list[str]) -> None:
    assert came.complete is complete
    assert all(word in came.told() for word in words), came.told()
