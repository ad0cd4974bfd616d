"""The single-machine stack as a user starts it, in an empty folder on free ports."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from infra.embedded.background import stop_stack
from tests.e2e.command import Touchstone


@pytest.fixture(scope="session")
def touchstone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Touchstone]:
    """A running stack; tests take customers, sources and data sets of their own."""
    touchstone = Touchstone(tmp_path_factory.mktemp("e2e"))
    try:
        touchstone.run("up", "--free-ports")
        yield touchstone
    finally:
        stop_stack(touchstone.folder / ".touchstone", say=print)
