"""Laws of the limits, over any sequence of requests."""

from __future__ import annotations

from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st

from services.ingest.rates import Rate, Rates

SECOND_NS = 1_000_000_000
RATES = st.builds(Rate, st.integers(1, 50_000), st.integers(1, 100_000))
REQUESTS = st.lists(
    st.tuples(st.integers(0, 3 * SECOND_NS), st.integers(0, 2), st.integers(1, 60_000)), min_size=1, max_size=60
)


@given(RATES, RATES, REQUESTS)
def test_never_more_than_rate_times_time_plus_burst(
    key: Rate, overall: Rate, requests: list[tuple[int, int, int]]
) -> None:
    rates = Rates(key, overall)
    times_ns = list(accumulate(gap for gap, _, _ in requests))
    passed = [
        (now_ns, sender, events)
        for now_ns, (_, sender, events) in zip(times_ns, requests, strict=True)
        if rates.take(sender, events, now_ns) is None
    ]
    for first in range(len(passed)):
        start_ns = passed[first][0]
        for rate, senders in ((overall, {0, 1, 2}), (key, {passed[first][1]})):
            total = 0
            for now_ns, sender, events in passed[first:]:
                total += events if sender in senders else 0
                assert total * SECOND_NS <= rate.events_per_s * (now_ns - start_ns) + rate.burst_events * SECOND_NS


@given(RATES, RATES, REQUESTS)
def test_who_waits_as_told_passes(key: Rate, overall: Rate, requests: list[tuple[int, int, int]]) -> None:
    most = min(key.burst_events, overall.burst_events)
    rates = Rates(key, overall)
    now_ns = 0
    for gap_ns, sender, wanted in requests:
        events = min(wanted, most)
        now_ns += gap_ns
        excess = rates.take(sender, events, now_ns)
        if excess is not None:
            assert excess.retry_after_s >= 1
            now_ns += excess.retry_after_s * SECOND_NS
            assert rates.take(sender, events, now_ns) is None


@given(RATES, REQUESTS)
def test_what_the_bucket_holds_does_pass(rate: Rate, requests: list[tuple[int, int, int]]) -> None:
    """No stricter than promised: a request that keeps to rate and burst since the beginning is let through."""
    rates = Rates(rate, None)
    level, before_ns, now_ns = rate.burst_events * SECOND_NS, 0, 0
    for gap_ns, _, events in requests:
        now_ns += gap_ns
        level = min(rate.burst_events * SECOND_NS, level + rate.events_per_s * (now_ns - before_ns))
        before_ns = now_ns
        fits = events * SECOND_NS <= level
        assert (rates.take("a", events, now_ns) is None) == fits
        level -= events * SECOND_NS * fits
