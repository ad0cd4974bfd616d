"""Times and money as senders write them, turned exactly into integers."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Final

from schemas.reasons import Reason
from schemas.refusals import Problem, RefusedEventError, invalid

MICROS: Final = 1_000_000
MAX_AMOUNT: Final = 9_000_000_000_000
"""In units of the currency: times 10^6 it still fits a signed 64-bit integer."""
MAX_EXACT_JSON_AMOUNT: Final = float(1 << 33)
"""Below it two decimals that differ in the sixth place never share a binary double, so the double tells what
was written; from here on only the text does."""

_MAX_MICROS: Final = MAX_AMOUNT * MICROS
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def _bad_time(detail: str) -> RefusedEventError:
    return RefusedEventError(Problem(Reason.INVALID_TIME, "/occurred_at", detail))


def parse_time_us(text: str) -> int:
    """UTC microseconds since 1970 of an ISO 8601 date and time with an offset; finer digits are cut.

    Raises `RefusedEventError` (``invalid_time``): no offset, no such day or time (leap seconds included, as
    no clock of ours has them), a number instead of a date, or before 1970.
    """
    try:
        since = datetime.fromisoformat(text) - _EPOCH
    except ValueError:
        if text.endswith("z"):  # RFC 3339 allows it, the standard library does not
            return parse_time_us(text[:-1] + "Z")
        raise _bad_time(f"No such time; {_LIKE_THIS}. Leap seconds (:60) are sent as second 59.") from None
    except TypeError:  # a naive datetime cannot be subtracted from an aware one
        raise _bad_time(f"The UTC offset is missing; {_LIKE_THIS}.") from None
    except OverflowError:  # year 1 or 9999 with an offset that leads out of the calendar
        raise _bad_time(f"Outside the calendar; {_LIKE_THIS}.") from None
    us = (since.days * 86_400 + since.seconds) * MICROS + since.microseconds
    if us < 0:
        raise _bad_time("Must not be before 1970-01-01T00:00:00Z.")
    return us


_LIKE_THIS: Final = 'send ISO 8601 with an offset, such as "2026-03-01T09:30:00Z"'


def parse_micros(value: object) -> int:
    """Millionths of an amount written as a JSON integer, a decimal string, or a JSON number below 2^33.

    Exact or refused: `RefusedEventError` for anything else, a negative, more than six decimals. A JSON number
    with decimals from 2^33 on is refused too: hand over its text as ``Decimal``.
    """
    if type(value) is str:
        whole, _, decimals = value.partition(".")
        if len(value) > 24 or not (whole + decimals).isdecimal() or not value.isascii() or not whole:
            raise RefusedEventError(_bad_amount(value))
        if len(decimals) > 6:
            raise RefusedEventError(_TOO_FINE)
        micros = int(whole) * MICROS + (int(decimals.ljust(6, "0")) if decimals else 0)
    elif type(value) is int:
        micros = value * MICROS
    elif type(value) is float:
        if not 0 <= value < MAX_EXACT_JSON_AMOUNT:  # also NaN
            raise RefusedEventError(_OUT_OF_RANGE if value == value else invalid("amount"))
        micros = round(value * MICROS)
        if micros / MICROS != value:
            raise RefusedEventError(_TOO_FINE)
    elif type(value) is Decimal:
        micros = _micros_of_decimal(value)
    else:
        raise RefusedEventError(invalid("amount"))
    if not 0 <= micros <= _MAX_MICROS:
        raise RefusedEventError(_OUT_OF_RANGE)
    return micros


def _micros_of_decimal(value: Decimal) -> int:
    if not value.is_finite() or not 0 <= value <= MAX_AMOUNT:
        raise RefusedEventError(_OUT_OF_RANGE)
    _, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int) or exponent < -6:
        raise RefusedEventError(_TOO_FINE)
    whole = int("".join(map(str, digits)))
    return int(whole * 10 ** (exponent + 6))


_OUT_OF_RANGE: Final = Problem(
    Reason.OUT_OF_RANGE,
    "/amount",
    f"amount must be between 0 and {MAX_AMOUNT}; money that goes back is a positive amount of kind refund.",
)
_TOO_FINE: Final = Problem(
    Reason.INVALID_VALUE,
    "/amount",
    'amount must have at most six decimals; round it and send it as a string, such as "49.90".',
)


def _bad_amount(text: str) -> Problem:
    """A string that is no plain decimal: out of range if it is a number of another form, else no number."""
    try:
        number = Decimal(text)
        return invalid("amount") if 0 <= number <= MAX_AMOUNT else _OUT_OF_RANGE
    except InvalidOperation:  # no number, or NaN, which compares with none
        return invalid("amount")
