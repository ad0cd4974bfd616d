"""Noticing a wall clock that was set back."""

from __future__ import annotations

from infra.kafka.clock import TOLERANCE_S, SetBack


class Clocks:
    def __init__(self) -> None:
        self.wall_s, self.monotonic_s = 1_000_000.0, 50.0
        self.set_back = SetBack(lambda: self.wall_s, lambda: self.monotonic_s)

    def passes(self, seconds: float, *, wall: float | None = None) -> bool:
        self.monotonic_s += seconds
        self.wall_s += seconds if wall is None else wall
        return self.set_back.happened()


def test_time_that_passes_and_a_clock_that_is_set_ahead_are_nothing() -> None:
    clocks = Clocks()
    assert not clocks.passes(3600)
    assert not clocks.passes(1, wall=3600)
    assert not clocks.passes(60)


def test_a_step_back_is_told_once() -> None:
    clocks = Clocks()
    assert clocks.passes(1, wall=-10)
    assert not clocks.passes(1)
    assert clocks.passes(1, wall=-10)


def test_ahead_and_back_again_is_a_step_back() -> None:
    clocks = Clocks()
    assert not clocks.passes(1, wall=400 * 86_400)
    assert clocks.passes(1, wall=-400 * 86_400)


def test_small_steps_count_together() -> None:
    clocks = Clocks()
    told = [clocks.passes(1, wall=1 - TOLERANCE_S * 0.4) for _ in range(6)]
    assert told == [False, False, True, False, False, True]
