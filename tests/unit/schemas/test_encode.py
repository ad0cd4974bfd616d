"""The generated encoder against the rules of the format and other writers."""

from __future__ import annotations

import io
import uuid
from typing import Any

import avro.schema
import fastavro
import pytest

from schemas.encode import EncodeError, encode, encode_long
from schemas.versions import HEADER_BYTES, VERSIONS

RECORD: dict[str, Any] = {
    "event_id": bytes(range(16)),
    "customer_id": "C-1",
    "occurred_at": 1_772_443_245_123_456,
    "received_at": 1_772_443_246_000_001,
    "source": "shop",
    "kind": "purchase",
    "touchpoint": "checkout",
}


FIRST, SECOND, THIRD, FOURTH = VERSIONS
OF_KIND = {"model_activated": THIRD, "case_step": FOURTH}


def by_fastavro(record: dict[str, Any]) -> bytes:
    """In the oldest version that has all that the record says."""
    version = FIRST if record.get("journey") is None else SECOND
    version = OF_KIND.get(record["kind"], version)
    out = io.BytesIO()
    full = {"channel": "", "attributes": {}, **record}
    fastavro.schemaless_writer(out, fastavro.parse_schema(version.document), full)
    return version.header + out.getvalue()


def test_fingerprint_of_the_specification_is_little_endian_on_the_wire() -> None:
    # The specification's own example: the CRC-64-AVRO fingerprint of "int" is 0x7275d51a3f395c8f.
    fingerprint: bytes = avro.schema.parse('"int"').fingerprint("CRC-64-AVRO")
    assert fingerprint == (0x7275D51A3F395C8F).to_bytes(8, "little")


def test_header_is_marker_and_the_versions_fingerprint() -> None:
    # Fixed for ever: records with these ten bytes are in the log.
    assert [version.header.hex() for version in VERSIONS] == [
        "c301f93bc9a751d318e7",
        "c30101e4584ba84d83b7",
        "c301cd3b4606ddfd1d88",
        "c30187bd3ef540160661",
    ]
    assert encode(RECORD)[:HEADER_BYTES] == FIRST.header


def test_a_record_is_of_the_oldest_version_that_can_say_it() -> None:
    """Then a new writer beside old readers harms nothing before somebody sends the new field."""
    assert encode({**RECORD, "journey": None}) == encode(RECORD)
    told = encode({**RECORD, "journey": "onboarding"})
    assert told == SECOND.header + encode(RECORD)[HEADER_BYTES:] + b"\x02\x14onboarding"
    assert told == by_fastavro({**RECORD, "journey": "onboarding"})
    assert encode({**RECORD, "journey": ""})[:HEADER_BYTES] == SECOND.header, "empty is not the same as left out"
    assert encode({**RECORD, "kind": "review_due"})[:HEADER_BYTES] == FIRST.header


@pytest.mark.parametrize("kind", list(OF_KIND))
def test_only_records_of_a_new_kind_have_the_version_that_brought_it(kind: str) -> None:
    record = {**RECORD, "kind": kind}
    assert encode(record)[:HEADER_BYTES] == OF_KIND[kind].header
    for told in (record, {**record, "journey": "onboarding"}):
        assert encode(told) == by_fastavro(told)


@pytest.mark.parametrize(
    "value",
    [0, -1, 1, 63, 64, -64, -65, (1 << 41) - 1, 1 << 41, (1 << 55) - 1, 1 << 55, (1 << 63) - 1, -(1 << 63)],
)
def test_long_is_what_fastavro_writes(value: int) -> None:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, "long", value)
    assert encode_long(value) == out.getvalue()


@pytest.mark.parametrize("value", [1 << 63, -(1 << 63) - 1])
def test_long_beyond_64_bits_is_refused(value: int) -> None:
    with pytest.raises(EncodeError, match="64 bits"):
        encode_long(value)
    with pytest.raises(EncodeError, match="64 bits"):
        encode({**RECORD, "occurred_at": value})


def test_strings_longer_than_the_table_of_lengths() -> None:
    record = {**RECORD, "text": "ä" * 10_000, "attributes": {"k" * 64: "😀" * 1_000}}
    assert encode(record) == by_fastavro(record)


def test_none_says_the_same_as_left_out() -> None:
    names = (
        "channel",
        "journey_id",
        "journey",
        "outcome",
        "metric",
        "rating",
        "emotion",
        "amount_micros",
        "attributes",
    )
    assert encode({**RECORD, **dict.fromkeys(names)}) == encode(RECORD) == by_fastavro(RECORD)


def test_caches_start_again_before_they_grow_without_bound() -> None:
    for number in range(10_000):
        record = {**RECORD, "touchpoint": f"made.up.{number}", "received_at": number}
        assert encode(record)[-1:] == b"\x00"
    assert encode(RECORD) == by_fastavro(RECORD)


def test_negative_zero_keeps_its_sign() -> None:
    encode({**RECORD, "rating": 0.0})
    record = {**RECORD, "metric": "sentiment", "rating": -0.0}
    assert encode(record) == by_fastavro(record)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"event_id": b"short"}, "event_id must be 16 bytes"),
        ({"kind": "page_view"}, "page_view"),
        ({"metric": "likes"}, "likes"),
        ({"customer_id": 7}, "encode"),
        ({"text": "half \ud83d"}, "surrogates"),
        ({"rating": "9"}, "required argument is not a float"),
        ({"event_id": str(uuid.UUID(int=1))}, "16 bytes"),
    ],
)
def test_a_record_that_does_not_fit_is_an_error(change: dict[str, Any], message: str) -> None:
    with pytest.raises(EncodeError, match=message):
        encode({**RECORD, **change})


@pytest.mark.parametrize("name", list(RECORD))
def test_a_missing_field_is_named(name: str) -> None:
    record = {key: value for key, value in RECORD.items() if key != name}
    with pytest.raises(EncodeError, match=f"field {name} is missing"):
        encode(record)
