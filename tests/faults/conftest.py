"""Planted bugs take minutes: their test runs when it is asked for, by ``-m planted`` or ``make faults-planted``."""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "planted: plants bugs into a stack and looks for them; minutes, on demand only")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "planted" in config.option.markexpr:
        return
    left_out = [item for item in items if item.get_closest_marker("planted")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
