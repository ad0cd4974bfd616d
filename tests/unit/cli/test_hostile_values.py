"""28: what a user or a record says becomes a value of a statement, never a part of it."""

from __future__ import annotations

import pytest

from services.cli.console import CommandError
from services.cli.rejected import _filtered, _position

EVIL = "' OR 1 -- \\"


def test_28_filters_are_parameters() -> None:
    condition, given = _filtered({"reason": EVIL, "field": EVIL, "source": EVIL, "customer_id": EVIL, "left": None})
    assert "OR" not in condition
    assert set(given.values()) == {EVIL}


@pytest.mark.parametrize("which", [f"log/0/1{EVIL}", f"{EVIL}/0/1", "log/0/1) OR (1", "log/-1/1", "log/0/1/2"])
def test_28_positions_are_letters_and_digits(which: str) -> None:
    with pytest.raises(CommandError, match="is no STAGE/PARTITION/OFFSET"):
        _position(which)
