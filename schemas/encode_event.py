"""Good events to Avro bytes in one step, by an encoder generated for each kind.

`encode_events` is ``encode(to_record(event))`` at half the cost: a kind's encoder reads the members that the kind has
and knows the rest to be null. It judges as `to_record` does, but gives no reasons: whatever looks wrong is doubtful,
and the caller asks `to_record`.
"""

from __future__ import annotations

import struct
from binascii import unhexlify
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from schemas.encode import FIRST_FIELDS, MAX_CACHED, EncodeError, EncoderSource, encode_long
from schemas.identity import identify
from schemas.metrics import METRICS
from schemas.scalars import parse_micros
from schemas.touchpoint import KIND_TYPES

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NOTHING: Final = b"\x00"
"""A null, an empty string and an empty map are all written like this."""
_UUID_CHARS: Final = 36
_HYPHENS: Final = (8, 13, 18, 23)
_MIN_EIGHT_BYTES_US: Final = 1 << 48
_MAX_EIGHT_BYTES_US: Final = (1 << 55) - 1
"""Times from 1978 to 3111 are eight bytes in Avro; what is older takes the careful road."""
_SPREADS: Final = (
    (0x0000_0000_0FFF_FFFF, 0x00FF_FFFF_F000_0000, 4),
    (0x0000_3FFF_0000_3FFF, 0x0FFF_C000_0FFF_C000, 2),
    (0x007F_007F_007F_007F, 0x3F80_3F80_3F80_3F80, 1),
)
_MORE_FOLLOWS: Final = 0x0080_8080_8080_8080


def _codes(avro_type: Any) -> dict[str, bytes]:
    enum = avro_type[1] if isinstance(avro_type, list) else avro_type
    return {symbol: encode_long(code) for code, symbol in enumerate(enum["symbols"])}


_CODES: Final = {field["name"]: _codes(field["type"]) for field in FIRST_FIELDS if field["name"] in ("kind", "metric")}


class DoubtfulEventError(ValueError):
    """At least one of the events may have to be refused."""


class _Ratings(dict[tuple[str | None, float | None], bytes]):
    """Bytes of the neighbours metric and rating; only of pairs that go together."""

    def __missing__(self, pair: tuple[str | None, float | None]) -> bytes:
        metric, rating = pair
        if metric is None and rating is None:
            return _NOTHING + _NOTHING
        if metric is None or rating is None:
            raise DoubtfulEventError("metric and rating need each other")
        scale = METRICS[metric]
        if not scale.low <= rating <= scale.high or (scale.whole and rating % 1):
            raise DoubtfulEventError("rating is off its scale")
        encoded = b"\x02" + _CODES["metric"][metric] + struct.pack("<Bd", 2, rating)
        if rating:  # 0.0 and -0.0 are one key and two encodings
            if len(self) >= MAX_CACHED:
                self.clear()
            self[pair] = encoded
        return encoded


class _Sums(dict[tuple[Any, str | None], bytes]):
    """Bytes of the neighbours amount_micros and currency; only of pairs that go together."""

    def __missing__(self, pair: tuple[Any, str | None]) -> bytes:
        amount, currency = pair
        if amount is None and currency is None:
            return _NOTHING + _NOTHING
        if amount is None or currency is None:
            raise DoubtfulEventError("amount and currency need each other")
        encoded = b"\x02" + encode_long(parse_micros(amount)) + b"\x02" + _string(currency)
        if type(amount) is str:  # a number would also be found for True, which is none
            if len(self) >= MAX_CACHED:
                self.clear()
            self[pair] = encoded
        return encoded


class _Places(dict[tuple[str, str, str | None], bytes]):
    """Bytes of the neighbours source, kind, touchpoint and channel."""

    def __init__(self, kind: bytes) -> None:
        super().__init__()
        self._kind = kind

    def __missing__(self, place: tuple[str, str, str | None]) -> bytes:
        source, touchpoint, channel = place
        if len(self) >= MAX_CACHED:
            self.clear()
        encoded = self[place] = _string(source) + self._kind + _string(touchpoint) + _string(channel or "")
        return encoded


def _string(text: str) -> bytes:
    body = text.encode()
    return encode_long(len(body)) + body


def _encoder(kind: str, members: frozenset[str]) -> Callable[[dict[str, Any], bytes, str | None, bytes, bytes], bytes]:
    """``encode(record, event_id, sender_event_id, occurred_at, received_at)`` of the events of one kind."""
    source = EncoderSource()
    source.names |= {
        "RATINGS": _Ratings(),
        "SUMS": _Sums(),
        "PLACES": _Places(_CODES["kind"][kind]),
        "DoubtfulEventError": DoubtfulEventError,
    }
    if "emotion" in members:
        source.lines += [
            "if get('emotion') is None and (get('intensity') is not None or get('confidence') is not None):",
            "    raise DoubtfulEventError('intensity and confidence need an emotion')",
        ]
    for field in FIRST_FIELDS:
        name, avro_type = field["name"], field["type"]
        if name in ("event_id", "occurred_at", "received_at"):
            source.expression(name)
        elif name == "sender_event_id":
            source.variable(name, avro_type)
        elif name == "source":
            source.expression("PLACES[record['source'], record['touchpoint'], get('channel')]")
        elif name == "metric" and "rating" in members:
            source.expression("RATINGS[get('metric'), get('rating')]")
        elif name == "amount_micros" and "amount" in members:
            source.expression("SUMS[get('amount'), get('currency')]")
        elif name in ("kind", "touchpoint", "channel") or (name in ("rating", "currency") and name in members):
            pass  # written with their neighbours
        elif name in members:
            source.field(name, avro_type)
        else:
            source.constant(_NOTHING)
    source.later_fields(kind)
    return source.compile(f"{kind} event", "record, event_id, sender_event_id, occurred_at, received_at")


_ENCODERS: Final = {kind: _encoder(kind, frozenset(members.__annotations__)) for kind, members in KIND_TYPES.items()}


class Encoded(NamedTuple):
    """Records for the log, in the order of their events, and the range of their times of occurrence."""

    values: list[bytes]
    earliest_us: int
    latest_us: int


def encode_events(events: Sequence[dict[str, Any]], received_at_us: int, latest_us: int) -> Encoded:
    """Records of at least one event that `EVENTS` has validated; the events stay as they are.

    Raises `DoubtfulEventError` if `to_record` might refuse one of them, or one occurred after ``latest_us``.
    """
    encoders = _ENCODERS
    received_at = encode_long(received_at_us)
    times_us = _times(events)
    earliest, latest = int(times_us.min()), int(times_us.max())
    if earliest < _MIN_EIGHT_BYTES_US or latest > min(latest_us, _MAX_EIGHT_BYTES_US):
        raise DoubtfulEventError("too early or too late")
    try:
        values = [
            encoders[event["kind"]](event, event_id, sender_event_id, occurred_at, received_at)
            for event, (event_id, sender_event_id), occurred_at in zip(
                events, _identities(events), _eight_bytes(times_us), strict=True
            )
        ]
    except EncodeError as error:
        raise DoubtfulEventError(str(error)) from error
    return Encoded(values, earliest, latest)


def _times(events: Sequence[dict[str, Any]]) -> npt.NDArray[np.int64]:
    parse, epoch = datetime.fromisoformat, _EPOCH
    try:
        since = [parse(event["occurred_at"]) - epoch for event in events]
    except (ValueError, TypeError, OverflowError) as error:  # as parse_time_us tells them apart
        raise DoubtfulEventError("no time") from error
    return np.array([(s.days * 86_400 + s.seconds) * 1_000_000 + s.microseconds for s in since], np.int64)


def _eight_bytes(times_us: npt.NDArray[np.int64]) -> Iterable[bytes]:
    """`encode_long` of each: eight groups of seven bits, and in front of each but the last a bit: more follows."""
    bits = times_us << 1
    for low, high, by in _SPREADS:
        bits = bits & low | (bits & high) << by
    return (bits | _MORE_FOLLOWS).astype("<i8").view("S8").tolist()  # type: ignore[no-any-return]


def _identities(events: Sequence[dict[str, Any]]) -> Iterable[tuple[bytes, str | None]]:
    """`identify` of each; if all are canonical UUIDs, as nearly always, in one go."""
    ids = [event["event_id"] for event in events]
    if set(map(len, ids)) == {_UUID_CHARS}:
        joined = "".join(ids)
        hyphens = "-" * len(ids)
        if all(joined[at::_UUID_CHARS] == hyphens for at in _HYPHENS):
            try:
                digits = unhexlify(joined.replace("-", ""))
            except ValueError:  # a hyphen too many, or no hexadecimal digits
                digits = b""
            if len(digits) == 16 * len(ids):
                return [(digits[at : at + 16], None) for at in range(0, len(digits), 16)]
    return [identify(event["source"], event["event_id"]) for event in events]
