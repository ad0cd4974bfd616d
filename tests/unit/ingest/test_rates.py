"""Token buckets at their edges; laws are in tests/property."""

from __future__ import annotations

import pytest

from services.ingest.keys import KeyRing, sender_at
from services.ingest.rates import Excess, Rate, Rates, Scope

SECOND_NS = 1_000_000_000
TEN = Rate(10, 20)


def test_a_burst_passes_and_then_the_rate() -> None:
    rates = Rates(TEN, None)
    assert rates.take("a", 20, 0) is None
    assert rates.take("a", 1, 0) == Excess(Scope.KEY, TEN, 1)
    assert rates.take("a", 1, SECOND_NS // 10 - 1) is not None
    assert rates.take("a", 1, SECOND_NS // 10) is None
    assert rates.take("a", 20, SECOND_NS) == Excess(Scope.KEY, TEN, 2)
    assert rates.take("a", 20, 10 * SECOND_NS) is None


def test_what_does_not_pass_takes_nothing() -> None:
    rates = Rates(TEN, Rate(1, 15))
    assert rates.take("a", 18, 0) == Excess(Scope.OVERALL, Rate(1, 15), 3)
    assert rates.take("a", 15, 0) is None
    assert rates.excess("b", 15, 0) == Excess(Scope.OVERALL, Rate(1, 15), 15)
    assert rates.take("b", 20, 10**15) is not None  # more than a burst never
    assert Rates(TEN, Rate(1, 15)).excess("a", 15, 0) is None


def test_the_slower_limit_says_when() -> None:
    rates = Rates(TEN, Rate(1, 20))
    assert rates.take("a", 20, 0) is None
    found = rates.take("a", 10, 0)
    assert found is not None
    assert (found.scope, found.retry_after_s) == (Scope.KEY, 10)


def test_senders_do_not_share_and_no_limit_is_no_limit() -> None:
    rates = Rates(TEN, None)
    assert rates.take("a", 20, 0) is None
    assert rates.take("b", 20, 0) is None
    open_ = Rates(None, None)
    assert not open_.on
    assert open_.take("a", 10**9, 0) is None
    assert len(open_) == 0


def test_memory_is_bounded_and_the_busy_are_remembered() -> None:
    rates = Rates(TEN, None, max_senders=100)
    assert rates.take("busy", 20, 0) is None
    for number in range(1_000):
        rates.take(number, 1, 0)
        assert rates.take("busy", 1, 0) is not None
    assert len(rates) == 100


def test_a_clock_that_goes_back_fills_nothing() -> None:
    rates = Rates(TEN, None)
    assert rates.take("a", 20, 5 * SECOND_NS) is None
    assert rates.take("a", 1, 0) is not None
    assert rates.take("a", 10, 6 * SECOND_NS) is None


@pytest.mark.parametrize("wrong", [(0, 1), (1, 0), (-1, 1)])
def test_a_rate_of_nothing_is_refused(wrong: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="at least one"):
        Rate(*wrong)


@pytest.mark.parametrize(
    ("host", "sender"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2::9", "2001:db8:1:2::"),
        ("fe80::1%eth0", "fe80::"),
        ("::not an address", "::not an address"),
    ],
)
def test_an_address_stands_for_who_was_given_it(host: str, sender: str) -> None:
    assert sender_at(host) == sender


def test_a_key_is_found_by_its_number() -> None:
    ring = KeyRing(["first-key-aaaaaaaaa", "second-key-bbbbbbbb"])
    assert ring.find("Bearer second-key-bbbbbbbb", None) == 1
    assert ring.find(None, "first-key-aaaaaaaaa") == 0
    assert ring.find(None, None) is None
