"""Lag in seconds, and recovery times read from it."""

from __future__ import annotations

import pytest

from tests.faults.lag import RECOVERED_S, Sample, lags, recovery_s


def test_lag_is_the_age_of_the_oldest_record_that_is_not_committed() -> None:
    samples = [
        Sample(0.0, {0: 10, 1: 5}, {0: 10, 1: 5}),
        Sample(1.0, {0: 20, 1: 5}, {0: 10, 1: 5}),
        Sample(2.0, {0: 30, 1: 5}, {0: 10, 1: 5}),
        Sample(3.0, {0: 30, 1: 5}, {0: 20, 1: 5}),
        Sample(4.0, {0: 30, 1: 5}, {0: 30, 1: 5}),
    ]
    assert lags(samples) == [(0.0, 0.0), (1.0, 0.0), (2.0, 1.0), (3.0, 1.0), (4.0, 0.0)]


def test_the_slowest_partition_counts() -> None:
    samples = [Sample(0.0, {0: 1, 1: 1}, {}), Sample(1.0, {0: 1, 1: 1}, {0: 1}), Sample(2.0, {0: 2, 1: 1}, {0: 1})]
    assert lags(samples)[-1] == (2.0, 2.0)


def test_a_moment_at_which_kafka_could_not_be_asked_is_no_small_lag() -> None:
    samples = [Sample(0.0, {0: 1}, {0: 1}), Sample(9.0, {0: 1}, {0: 1}), Sample(9.2, {0: 1}, {0: 1})]
    assert lags(samples) == [(0.0, 0.0), (9.0, 9.0), (9.2, 0.0)]


def measured(*lags_s: float) -> list[tuple[float, float]]:
    return [(float(number), lag_s) for number, lag_s in enumerate(lags_s)]


@pytest.mark.parametrize(
    ("lags_s", "until_s", "expected"),
    [
        ((0, 0, 0, 0, 0), 4, 0.0),
        # Large at 2 and 3, small from 4 on; the fault was over at 1.
        ((0, 0, 2, 3, 0), 4, 3.0),
        # Small for a moment, then large again.
        ((0, 2, 0, 3, 0), 4, 3.0),
        # Something else came before it was over, or before anything could be seen, or with Kafka away.
        ((0, 0, 2, 3, 0), 3.5, None),
        ((0, 0, 0, 0, 0), 3, None),
        ((0, 0, 0, 0, 0), 5.6, None),
        # It was behind already.
        ((2, 0, 0, 0, 0), 4, None),
        # Just below counts as small.
        ((0, 0, RECOVERED_S - 0.01, 0, 0), 4, 0.0),
    ],
)
def test_recovery_ends_when_the_lag_is_small_for_good(
    lags_s: tuple[float, ...], until_s: float, expected: float | None
) -> None:
    assert recovery_s(measured(*lags_s), began_s=0.5, over_s=1.0, until_s=until_s) == expected


def test_a_stack_that_recovers_during_the_fault_needs_no_time_after_it() -> None:
    assert recovery_s(measured(0, 2, 0, 0, 0), began_s=0.5, over_s=3.0, until_s=4.0) == 0.0
