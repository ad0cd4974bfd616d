"""When a call is tried again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.alerting.delivery.retry import (
    DELAYS_S,
    JITTER,
    MOST_ATTEMPTS,
    MOST_RETRY_AFTER_S,
    Verdict,
    next_attempt,
    retry_after_s,
    verdict_of,
)

NOW_US = 1_790_000_000_000_000  # Mon, 21 Sep 2026 14:13:20 GMT
draws = st.floats(0, 1, exclude_max=True)


@given(st.lists(draws, min_size=MOST_ATTEMPTS, max_size=MOST_ATTEMPTS))
def test_the_schedule_spans_three_days_whatever_is_drawn(drawn: list[float]) -> None:
    delays = [next_attempt(number + 1, Verdict.RETRY, None, draw) for number, draw in enumerate(drawn)]
    assert delays[-1] is None
    made = [delay for delay in delays if delay is not None]
    assert len(made) == MOST_ATTEMPTS - 1
    assert 3 * 86_400 <= sum(DELAYS_S) <= sum(made) <= sum(DELAYS_S) * (1 + JITTER)


@given(st.integers(1, MOST_ATTEMPTS - 1), st.floats(0, 1e12), draws)
def test_what_the_receiver_asks_for_is_honoured_up_to_a_day(number: int, asked_s: float, draw: float) -> None:
    delay = next_attempt(number, Verdict.SLOW_DOWN, asked_s, draw)
    assert delay is not None
    assert delay >= min(asked_s, MOST_RETRY_AFTER_S)
    assert delay <= MOST_RETRY_AFTER_S * (1 + JITTER)


@pytest.mark.parametrize("verdict", [Verdict.DELIVERED, Verdict.NEVER, Verdict.GONE])
def test_what_has_ended_is_not_tried_again(verdict: Verdict) -> None:
    assert next_attempt(1, verdict, 5.0, 0.5) is None


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (200, Verdict.DELIVERED),
        (202, Verdict.DELIVERED),
        (208, Verdict.DELIVERED),
        (301, Verdict.RETRY),
        (302, Verdict.RETRY),
        (400, Verdict.RETRY),
        (401, Verdict.RETRY),
        (404, Verdict.RETRY),
        (410, Verdict.GONE),
        (413, Verdict.NEVER),
        (429, Verdict.SLOW_DOWN),
        (500, Verdict.RETRY),
        (502, Verdict.SLOW_DOWN),
        (503, Verdict.SLOW_DOWN),
        (504, Verdict.SLOW_DOWN),
        (599, Verdict.RETRY),
    ],
)
def test_what_a_status_means(status: int, verdict: Verdict) -> None:
    assert verdict_of(status) is verdict


def test_some_formats_never_repeat_a_refused_body() -> None:
    assert verdict_of(400, frozenset({400})) is Verdict.NEVER


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120.0),
        (" 0 ", 0.0),
        ("9" * 5_000, 86_400.0),
        ("Mon, 21 Sep 2026 14:14:20 GMT", 60.0),
        ("Mon, 21 Sep 2020 14:14:20 GMT", 0.0),
        ("Mon, 21 Sep 9999 14:14:20 GMT", 86_400.0),
        ("-5", None),
        ("soon", None),
        ("", None),
        ("١٢", None),
    ],
)
def test_retry_after(header: str, seconds: float | None) -> None:
    assert retry_after_s(header, NOW_US) == seconds
