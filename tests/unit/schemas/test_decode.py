"""Bytes to columns: total whatever the bytes, exact where they are sound, and never standing still."""

from __future__ import annotations

import faulthandler
import io
import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import avro.io
import avro.schema
import polars as pl
import pytest

from schemas import decode as decode_module
from schemas.decode import (
    COLUMNS,
    END_US,
    FUTURE_TOLERANCE_US,
    MARKER_BYTES,
    MAX_ID_BYTES,
    MAX_JOURNEY_BYTES,
    Decoded,
    decode,
)
from schemas.emotions import EMOTIONS
from schemas.encode import encode, encode_long
from schemas.kinds import KINDS, OUTCOMES
from schemas.metrics import METRICS
from schemas.reasons import Reason
from schemas.versions import BY_HEADER, CURRENT, HEADER_BYTES, MARKER, VERSIONS, SchemaVersion

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NOW_US = 1_790_000_000_000_000
HANG_S = 60
"""A decode takes milliseconds. If one stands still, the stacks are printed and the run ends: no test timeout can
interrupt a loop in compiled code."""

GOOD: dict[str, Any] = {
    "event_id": bytes(range(16)),
    "customer_id": "C-1",
    "occurred_at": NOW_US - 5,
    "received_at": NOW_US,
    "source": "shop",
    "kind": "interaction",
    "touchpoint": "checkout",
}


@pytest.fixture(autouse=True)
def no_standing_still() -> Iterator[None]:
    faulthandler.dump_traceback_later(HANG_S, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


def decoded(*values: bytes | None) -> Decoded:
    """Decode and check that every record ended in exactly one place."""
    result = decode(values, random.randbytes(MARKER_BYTES))
    rejected = [reject.index for reject in result.rejects]
    assert rejected == sorted(rejected)
    assert sorted([*rejected, *result.rows.to_list()]) == list(range(len(values)))
    assert result.rows.to_list() == sorted(result.rows.to_list())
    assert result.frame.height == len(result.rows)
    assert dict(result.frame.schema) == {name: _built(kind) for name, kind in COLUMNS.items()}
    return result


def _built(kind: Any) -> Any:
    return pl.Series([], dtype=kind).dtype


def some_record(generator: random.Random) -> dict[str, Any]:
    """A record in contract, with any combination of its fields."""

    def maybe(value: Any) -> Any:
        return value if generator.random() < 0.5 else None

    def text(most: int) -> str:
        return "".join(generator.choices("aé😀 \n\"\\'", k=generator.randrange(1, most)))

    metric = maybe(generator.choice(list(METRICS)))
    kind = generator.choice([k for k in KINDS if k not in ("survey_response", "emotion")])
    received = generator.randrange(END_US)
    return {
        "event_id": generator.randbytes(16),
        "customer_id": text(20),
        "occurred_at": min(generator.randrange(END_US), received + FUTURE_TOLERANCE_US),
        "received_at": received,
        "source": text(5),
        "kind": kind,
        "touchpoint": text(9),
        "channel": maybe(text(4)) or "",
        "journey_id": maybe(text(9)),
        "outcome": maybe(generator.choice(OUTCOMES)),
        "metric": metric,
        "rating": generator.uniform(METRICS[metric].low, METRICS[metric].high) if metric else None,
        "emotion": maybe(generator.choice(EMOTIONS)),
        "intensity": maybe(generator.uniform(0.001, 1)),
        "confidence": maybe(1.0),
        **(maybe({"amount_micros": generator.randrange(1 << 62), "currency": "EUR"}) or {}),
        "case_id": maybe(text(9)),
        "text": maybe(text(400)),
        "sender_event_id": maybe(text(60)),
        "attributes": {text(9): text(30) for _ in range(generator.randrange(4))},
        "journey": maybe(text(9)),
    }


def by_apache(value: bytes) -> dict[str, Any]:
    """The reference implementation's reading, as a reader of the newest version; times as microseconds."""
    source = io.BytesIO(value[HEADER_BYTES:])
    written = avro.schema.parse(BY_HEADER[value[:HEADER_BYTES]].text)
    record = avro.io.DatumReader(written, avro.schema.parse(CURRENT.text)).read(avro.io.BinaryDecoder(source))
    assert source.read() == b""
    assert isinstance(record, dict)
    return {
        name: (v - EPOCH) // timedelta(microseconds=1) if isinstance(v, datetime) else v for name, v in record.items()
    }


def as_records(frame: pl.DataFrame) -> list[dict[str, Any]]:
    records = frame.to_dicts()
    for record in records:
        pairs = record["attributes"]
        record["attributes"] = pairs if isinstance(pairs, dict) else {p["key"]: p["value"] for p in pairs}
    return records


def test_columns_are_what_apache_avro_reads() -> None:
    generator = random.Random(5)
    values = [encode(some_record(generator)) for _ in range(300)]
    result = decoded(*values)
    assert result.rejects == ()
    assert as_records(result.frame) == [by_apache(value) for value in values]


def test_the_slow_road_reads_the_same() -> None:
    generator = random.Random(6)
    values: list[bytes | None] = [encode(some_record(generator)) for _ in range(60)]
    whole = decoded(*values)
    for place in (0, 17, 40, 63):
        values.insert(place, random.choice([None, b"", b"junk", encode(GOOD)[:-1]]))
    mixed = decoded(*values)
    assert len(mixed.rejects) == 4
    assert mixed.frame.equals(whole.frame)


def test_no_records() -> None:
    assert decoded().frame.height == 0


@pytest.mark.parametrize("size", [0, 7, 9, 16])
def test_a_marker_has_its_size(size: int) -> None:
    with pytest.raises(ValueError, match="8 bytes"):
        decode([encode(GOOD)], bytes(size))


def test_any_marker_will_do() -> None:
    """The marker's bytes may look like anything, also like a part of the record beside it."""
    value = encode(GOOD)
    for marker in (bytes(8), b"\xff" * 8, value[:8], value[-8:], b"\xc3\x01" * 4):
        assert decode([value, value, value], marker).frame.height == 3


@pytest.mark.parametrize(
    ("value", "reason", "detail"),
    [
        (None, Reason.NOT_SINGLE_OBJECT, "does not start with the Avro marker C3 01"),
        (b"", Reason.NOT_SINGLE_OBJECT, "marker"),
        (b"\xc3\x01short", Reason.NOT_SINGLE_OBJECT, "marker"),
        (b'{"kind": "purchase"}', Reason.NOT_SINGLE_OBJECT, "marker"),
        (MARKER + b"abcdefgh" + b"rest", Reason.UNKNOWN_SCHEMA, "no schema with fingerprint 6162636465666768"),
        (MARKER + b"abcdefgh", Reason.UNKNOWN_SCHEMA, "upgrade all workers, then run `touchstone rejected resend"),
        (CURRENT.header, Reason.UNDECODABLE, "body does not fit its schema"),
        (encode(GOOD)[:-1], Reason.UNDECODABLE, "body"),
        (encode(GOOD) + b"\x00", Reason.UNDECODABLE, "body"),
        (encode(GOOD) * 2, Reason.UNDECODABLE, "body"),
    ],
)
def test_what_cannot_be_read_is_rejected_with_its_reason_and_its_neighbours_are_not(
    value: bytes | None, reason: Reason, detail: str
) -> None:
    sound = encode(GOOD)
    for values in ([value], [sound, value], [value, sound], [sound, value, value, sound], [value] * 5):
        result = decoded(*values)
        assert {r.index for r in result.rejects} == {i for i, v in enumerate(values) if v is value}
        for reject in result.rejects:
            assert reject.reason is reason
            assert detail in reject.detail


def _text(value: bytes) -> bytes:
    return encode_long(len(value)) + value


def body(**raw: bytes) -> bytes:
    """A record written field by field, some of them as raw bytes."""
    null = encode_long(0)
    fields = {
        "event_id": bytes(16),
        "customer_id": _text(b"c"),
        "occurred_at": encode_long(1),
        "received_at": encode_long(2),
        "source": _text(b"s"),
        "kind": encode_long(KINDS.index("purchase")),
        "touchpoint": _text(b"t"),
        "channel": null,
        **dict.fromkeys(("journey_id", "outcome", "metric", "rating", "emotion", "intensity", "confidence"), null),
        **dict.fromkeys(("amount_micros", "currency", "case_id", "text", "sender_event_id", "attributes"), null),
    }
    assert list(fields) == [field["name"] for field in VERSIONS[0].document["fields"]]
    return VERSIONS[0].header + b"".join({**fields, **raw}.values())


HOSTILE = [-1, -2, -(1 << 31), -(1 << 63), (1 << 63) - 1, 1 << 62, 1 << 40, 1 << 32, 1 << 31, 100_000]


@pytest.mark.parametrize("number", HOSTILE)
def test_hostile_lengths_counts_and_branches_neither_pass_nor_hurt(number: int) -> None:
    claimed = encode_long(number)
    entry = _text(b"a") + _text(b"b")
    values = [
        *(body(**{name: claimed + b"abc"}) for name in ("customer_id", "source", "touchpoint", "channel")),
        body(kind=claimed),
        *(body(**{name: claimed}) for name in ("journey_id", "outcome", "rating", "text")),
        *(body(**{name: encode_long(1) + claimed + b"abc"}) for name in ("outcome", "emotion", "currency", "text")),
        body(attributes=claimed + entry),
        body(attributes=encode_long(1) + claimed + b"\x00"),
        body(attributes=encode_long(2) + entry + _text(b"a") + claimed),
    ]
    sound = body()
    for value in values:
        result = decoded(sound, value, sound)
        assert [(r.index, r.reason) for r in result.rejects] == [(1, Reason.UNDECODABLE)]
    assert len(decoded(*values, sound).rejects) == len(values)


@pytest.mark.parametrize("text", [b"\xff\xfe", b"\xed\xa0\x80", b"\xc0\x80"])
def test_text_that_is_no_utf8_is_rejected(text: bytes) -> None:
    for value in (
        body(customer_id=_text(text)),
        body(text=encode_long(1) + _text(text)),
        body(attributes=encode_long(1) + _text(text) + _text(b"x") + b"\x00"),
    ):
        assert [r.reason for r in decoded(value).rejects] == [Reason.UNDECODABLE]


def test_other_ways_of_writing_the_same_map_are_read() -> None:
    """Avro lets a writer cut a map into blocks and give their sizes in bytes."""
    one, two = _text(b"a") + _text(b"1"), _text(b"b") + _text(b"2")
    blocks = body(attributes=encode_long(1) + one + encode_long(1) + two + b"\x00")
    sized = body(attributes=encode_long(-2) + encode_long(len(one + two)) + one + two + b"\x00")
    for value in (blocks, sized):
        assert as_records(decoded(value).frame)[0]["attributes"] == {"a": "1", "b": "2"}
        assert by_apache(value)["attributes"] == {"a": "1", "b": "2"}


def damaged(value: bytes, generator: random.Random, other: bytes) -> bytes:
    """One of the accidents that befall bytes."""
    hurt = bytearray(value)
    match generator.randrange(5):
        case 0:
            return value[: generator.randrange(len(value))]
        case 1:
            return value + generator.randbytes(generator.randrange(1, 60))
        case 2:
            for _ in range(generator.randrange(1, 6)):
                hurt[generator.randrange(len(hurt))] = generator.randrange(256)
            return bytes(hurt)
        case 3:
            return value + other[generator.randrange(len(other)) :]
        case _:
            at = generator.randrange(HEADER_BYTES, len(value))
            return value[:at] + generator.randbytes(generator.randrange(1, 9)) + value[at:]


@pytest.mark.parametrize("seed", range(4))
def test_damage_never_raises_and_never_reaches_a_neighbour(seed: int) -> None:
    generator = random.Random(seed)
    sound = [encode(some_record(generator)) for _ in range(20)]
    whole = as_records(decoded(*sound).frame)
    for _ in range(40):
        values, hurt = list(sound), set(generator.sample(range(20), generator.choice([1, 1, 2, 5])))
        for place in hurt:
            values[place] = damaged(values[place], generator, sound[0])
        result = decoded(*values)
        assert {reject.index for reject in result.rejects} <= hurt
        for row, record in zip(result.rows.to_list(), as_records(result.frame), strict=True):
            if row not in hurt:
                assert record == whole[row]
            else:
                assert record == by_apache(values[row]), "what passes is what the reference reads"


def test_many_broken_records_cost_no_search_each(monkeypatch: pytest.MonkeyPatch) -> None:
    reads = []
    reader = decode_module._READERS[VERSIONS[0].header]
    plain = type(reader).read

    def counted(self: Any, values: Any, marker: bytes) -> Any:
        reads.append(len(values))
        return plain(self, values, marker)

    monkeypatch.setattr(type(reader), "read", counted)
    values = [encode(GOOD) + (b"x" if i % 2 else b"") for i in range(1_000)]
    assert len(decoded(*values).rejects) == 500
    assert reads == [1_000, 1_000, 500]


def test_what_only_the_columnar_reader_refuses_is_found_by_halving() -> None:
    """A negative place in an enum is one: the second reader counts it from the end."""
    values = [body(), body(kind=encode_long(-1)), body(), body()]
    assert [(r.index, r.reason) for r in decoded(*values).rejects] == [(1, Reason.UNDECODABLE)]


BROKEN: list[tuple[dict[str, Any], str]] = [
    ({"customer_id": ""}, "customer_id is empty"),
    ({"customer_id": "x" * (MAX_ID_BYTES + 1)}, f"customer_id is longer than {MAX_ID_BYTES} bytes"),
    ({"source": ""}, "source is empty"),
    ({"touchpoint": ""}, "touchpoint is empty"),
    ({"occurred_at": -1}, "occurred_at is before 1970"),
    ({"received_at": -1, "occurred_at": 0}, "received_at is before 1970"),
    ({"received_at": END_US}, "received_at is after 2099"),
    ({"received_at": (1 << 63) - 1, "occurred_at": (1 << 63) - 1}, "received_at is after 2099"),
    ({"occurred_at": NOW_US + FUTURE_TOLERANCE_US + 1}, "occurred_at is more than a day after received_at"),
    ({"journey": ""}, f"journey is empty or longer than {MAX_JOURNEY_BYTES} bytes"),
    ({"journey": "x" * (MAX_JOURNEY_BYTES + 1)}, f"journey is empty or longer than {MAX_JOURNEY_BYTES} bytes"),
    ({"rating": 3.0}, "rating needs a metric"),
    ({"metric": "nps"}, "metric needs a rating"),
    ({"metric": "sentiment", "rating": float("nan")}, "rating is not a finite number"),
    ({"metric": "sentiment", "rating": float("-inf")}, "rating is not a finite number"),
    ({"emotion": "happy", "intensity": 0.0}, "intensity is not in (0, 1]"),
    ({"emotion": "happy", "intensity": float("nan")}, "intensity is not in (0, 1]"),
    ({"emotion": "happy", "intensity": 1.0000001}, "intensity is not in (0, 1]"),
    ({"emotion": "happy", "confidence": -0.5}, "confidence is not in (0, 1]"),
    ({"emotion": "happy", "confidence": float("inf")}, "confidence is not in (0, 1]"),
    ({"amount_micros": -1, "currency": "EUR"}, "amount_micros is negative"),
    ({"amount_micros": 1}, "amount_micros and currency come together"),
    ({"currency": "EUR"}, "amount_micros and currency come together"),
    ({"kind": "emotion"}, "kind emotion needs an emotion"),
    ({"kind": "survey_response"}, "kind survey_response needs a rating"),
    *(
        ({"metric": metric, "rating": rating}, f"rating is outside {scale.low:g}..{scale.high:g} for {metric}")
        for metric, scale in METRICS.items()
        for rating in (scale.low - 0.001, scale.high + 0.001)
    ),
]


@pytest.mark.parametrize(("changes", "detail"), BROKEN)
def test_what_breaks_the_contract_is_rejected_by_its_first_broken_rule(changes: dict[str, Any], detail: str) -> None:
    result = decoded(encode(GOOD), encode({**GOOD, **changes}), encode(GOOD))
    assert [(r.index, r.reason, r.detail) for r in result.rejects] == [(1, Reason.OUT_OF_CONTRACT, detail)]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"customer_id": "x" * MAX_ID_BYTES},
        {"occurred_at": 0},
        {"journey": "x" * MAX_JOURNEY_BYTES},
        {"received_at": END_US - 1, "occurred_at": END_US - 1 + FUTURE_TOLERANCE_US},
        {"occurred_at": NOW_US + FUTURE_TOLERANCE_US},
        {"kind": "survey_sent", "metric": "nps"},
        {"kind": "review_due"},
        {"kind": "emotion", "emotion": "happy", "intensity": 1.0, "confidence": 5e-324},
        {"amount_micros": (1 << 63) - 1, "currency": "EUR"},
        {"amount_micros": 0, "currency": "EUR"},
        *({"metric": metric, "rating": r} for metric, scale in METRICS.items() for r in (scale.low, scale.high)),
    ],
)
def test_the_ends_of_the_contract_are_inside(changes: dict[str, Any]) -> None:
    assert decoded(encode({**GOOD, **changes})).rejects == ()


def test_every_rule_is_tested() -> None:
    assert {detail for _, detail in BROKEN} == {detail for detail, _ in decode_module._rules()}


def test_records_of_another_version_in_one_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A version without some fields, as an older or newer file may be: its columns are null."""
    older = VERSIONS[0].document
    older["fields"] = [f for f in older["fields"] if f["name"] not in ("case_id", "attributes", "sender_event_id")]
    version = SchemaVersion(version=0, text=json.dumps(older), header=MARKER + b"older-v0")
    readers = {**decode_module._READERS, version.header: decode_module._Reader(version)}
    monkeypatch.setattr(decode_module, "_READERS", readers)
    numbers = encode_long(1) + encode_long(2)
    start = bytes(16) + _text(b"old") + numbers + _text(b"s") + encode_long(0) + _text(b"t") + _text(b"web")
    written = version.header + start + encode_long(0) * 10
    values = [encode(GOOD), written, encode({**GOOD, "case_id": "A-1"}), written + b"x", written]
    result = decoded(*values)
    assert [(r.index, r.reason) for r in result.rejects] == [(3, Reason.UNDECODABLE)]
    assert result.frame["customer_id"].to_list() == ["C-1", "old", "C-1", "old"]
    assert result.frame["case_id"].to_list() == [None, None, "A-1", None]


def as_old(record: dict[str, Any]) -> bytes:
    return encode({**record, "journey": None})


@pytest.mark.parametrize("seed", range(3))
def test_versions_in_any_order_make_the_same_columns_without_the_slow_road(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = random.Random(seed)
    records = [some_record(generator) for _ in range(200)]
    values = [encode(record) for record in records]
    assert {value[:HEADER_BYTES] for value in values} == set(BY_HEADER)

    def unwanted(*_: Any) -> Any:
        raise AssertionError("sound records of several versions are no reason for the slow road")

    monkeypatch.setattr(decode_module, "_decode_mixed", unwanted)
    result = decoded(*values)
    assert result.frame["journey"].to_list() == [record["journey"] for record in records]
    assert as_records(result.frame) == [by_apache(value) for value in values]
    old = decoded(*map(as_old, records))
    assert old.frame["journey"].null_count() == len(records)
    assert old.frame.drop("journey").equals(result.frame.drop("journey"))


def test_the_slow_road_reads_all_versions_too() -> None:
    generator = random.Random(8)
    values: list[bytes | None] = [encode(some_record(generator)) for _ in range(60)]
    whole = decoded(*values)
    values.insert(30, None)
    assert decoded(*values).frame.equals(whole.frame)


LEFT_OVER = [
    b"\x00",
    b"\x80",
    b"\x80\x80",
    b"\x02\x02",
    b"\x02\x04a",
    b"\x02",
    b"\x00\x00",
    b"\x82\x80",
    b"\x02\x80",
    b"x",
]


@pytest.mark.parametrize("more", LEFT_OVER)
def test_no_old_record_borrows_what_a_newer_version_would_allow(more: bytes) -> None:
    """Behind a sound old record, what with a null after it could pass for a newer version's field."""
    new, hurt = encode({**GOOD, "journey": "claim"}), as_old(GOOD) + more
    for values in ([new, hurt, new], [hurt, new], [as_old(GOOD), hurt, new]):
        assert [(r.index, r.reason) for r in decoded(*values).rejects] == [(values.index(hurt), Reason.UNDECODABLE)]


@pytest.mark.parametrize("older", VERSIONS[:-1])
def test_a_kind_that_came_later_is_no_older_versions(older: SchemaVersion) -> None:
    """Neither alone nor among newer records, which are read as one version."""
    new = encode({**GOOD, "kind": "case_step"})
    claimed = older.header + (new[HEADER_BYTES:-1] if older.version == 1 else new[HEADER_BYTES:])
    for values in ([claimed], [claimed] * 3, [new, claimed, as_old(GOOD)]):
        result = decoded(*values)
        assert {reject.reason for reject in result.rejects} == {Reason.UNDECODABLE}
        assert len(result.rejects) == values.count(claimed)


def test_old_and_new_headers_cannot_be_swapped() -> None:
    old, new = as_old(GOOD), encode({**GOOD, "journey": "claim"})
    swapped = [new[:HEADER_BYTES] + old[HEADER_BYTES:], old[:HEADER_BYTES] + new[HEADER_BYTES:]]
    result = decoded(old, *swapped, new)
    assert [(r.index, r.reason) for r in result.rejects] == [(1, Reason.UNDECODABLE), (2, Reason.UNDECODABLE)]
