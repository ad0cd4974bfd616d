"""For the tests of delivery."""

from __future__ import annotations

import pytest

from tests.unit.alerting.delivery.world import HandClock, MemoryStore


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()
