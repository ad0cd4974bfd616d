"""Times and money, exactly."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.reasons import Reason
from schemas.refusals import RefusedEventError
from schemas.scalars import MAX_AMOUNT, MAX_EXACT_JSON_AMOUNT, parse_micros, parse_time_us


@pytest.mark.parametrize(
    ("text", "us"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00.000001Z", 1),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1970-01-01t00:00:01z", 1_000_000),
        ("1970-01-01 00:00:01-00:00", 1_000_000),
        ("1970-01-01T00:01Z", 60_000_000),
        ("1970-01-01T00:00:00.1234567891Z", 123_456),
        ("19700101T000001Z", 1_000_000),
        ("9999-12-31T23:59:59.999999Z", 253_402_300_799_999_999),
    ],
)
def test_times(text: str, us: int) -> None:
    assert parse_time_us(text) == us


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "1772439245",
        "1772439245000",
        "1772439245.5",
        "2026-03-02",
        "2026-03-02T09:14:05",
        "2026-02-29T00:00:00Z",
        "2026-03-02T24:00:00Z",
        "2016-12-31T23:59:60Z",
        "2026-03-02T09:14:05+99:99",
        "0001-01-01T00:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "1969-12-31T23:59:59.999999Z",
        "10000-01-01T00:00:00Z",
        "２０２６-03-02T09:14:05Z",
        "2026-03-02T09:14:05Z\n",
    ],
)
def test_no_times(text: str) -> None:
    with pytest.raises(RefusedEventError) as caught:
        parse_time_us(text)
    assert caught.value.problems[0][:2] == (Reason.INVALID_TIME, "/occurred_at")


@pytest.mark.parametrize(
    ("value", "micros"),
    [
        (0, 0),
        ("0", 0),
        (0.0, 0),
        (-0.0, 0),
        ("49.90", 49_900_000),
        (49.9, 49_900_000),
        ("0.000001", 1),
        (1e-6, 1),
        ("5.", 5_000_000),
        ("007", 7_000_000),
        (MAX_AMOUNT, MAX_AMOUNT * 10**6),
        ("9000000000000.000000", MAX_AMOUNT * 10**6),
        ("8999999999999.999999", 8_999_999_999_999_999_999),
        (Decimal("8999999999999.999999"), 8_999_999_999_999_999_999),
        (Decimal("1E+3"), 1_000_000_000),
        (8_589_934_591.999999, 8_589_934_591_999_999),
    ],
)
def test_amounts(value: object, micros: int) -> None:
    assert parse_micros(value) == micros


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (-1, Reason.OUT_OF_RANGE),
        ("-1", Reason.OUT_OF_RANGE),
        ("-0.01", Reason.OUT_OF_RANGE),
        (-0.01, Reason.OUT_OF_RANGE),
        (MAX_AMOUNT + 1, Reason.OUT_OF_RANGE),
        ("9000000000000.000001", Reason.OUT_OF_RANGE),
        (10**40, Reason.OUT_OF_RANGE),
        ("1" * 30, Reason.OUT_OF_RANGE),
        (float("inf"), Reason.OUT_OF_RANGE),
        (MAX_EXACT_JSON_AMOUNT, Reason.OUT_OF_RANGE),
        (Decimal("1e999999"), Reason.OUT_OF_RANGE),
        (Decimal("-1"), Reason.OUT_OF_RANGE),
        (float("nan"), Reason.INVALID_VALUE),
        (Decimal("1e-7"), Reason.INVALID_VALUE),
        ("0.1234567", Reason.INVALID_VALUE),
        (0.1 + 0.2, Reason.INVALID_VALUE),
        ("", Reason.INVALID_VALUE),
        (".5", Reason.INVALID_VALUE),
        ("1,5", Reason.INVALID_VALUE),
        ("1.2.3", Reason.INVALID_VALUE),
        (" 1", Reason.INVALID_VALUE),
        ("+1", Reason.INVALID_VALUE),
        ("1e3", Reason.INVALID_VALUE),
        ("NaN", Reason.INVALID_VALUE),
        ("٤٢", Reason.INVALID_VALUE),
        (True, Reason.INVALID_VALUE),
        ([1], Reason.INVALID_VALUE),
    ],
)
def test_no_amounts(value: object, reason: Reason) -> None:
    with pytest.raises(RefusedEventError) as caught:
        parse_micros(value)
    assert caught.value.problems[0][:2] == (reason, "/amount")


@given(st.integers(0, MAX_AMOUNT * 10**6))
def test_a_decimal_string_is_exact_over_the_whole_range(micros: int) -> None:
    assert parse_micros(f"{micros // 10**6}.{micros % 10**6:06d}") == micros


@given(st.integers(0, (1 << 33) * 10**6 - 1))
def test_a_json_number_is_exact_below_its_bound(micros: int) -> None:
    written = f"{micros // 10**6}.{micros % 10**6:06d}"
    if float(written) < MAX_EXACT_JSON_AMOUNT:
        assert parse_micros(float(written)) == micros
