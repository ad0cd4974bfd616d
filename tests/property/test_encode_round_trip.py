"""Whatever fits the schema: our bytes are fastavro's, and Apache avro and fastavro read them back."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from typing import Any

import avro.io
import avro.schema
import fastavro
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.decode import MARKER_BYTES, decode
from schemas.emotions import EMOTIONS
from schemas.encode import encode
from schemas.kinds import KINDS, OUTCOMES
from schemas.metrics import METRICS
from schemas.versions import BY_HEADER, CURRENT, HEADER_BYTES, VERSIONS

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LAST_MICROSECOND_OF_9999 = 253_402_300_799_999_999

strings = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)
times_us = st.integers(0, LAST_MICROSECOND_OF_9999)
doubles = st.floats(allow_nan=False, allow_infinity=False)
longs = st.integers(-(1 << 63), (1 << 63) - 1)

records = st.fixed_dictionaries(
    {
        "event_id": st.binary(min_size=16, max_size=16),
        "customer_id": strings,
        "occurred_at": times_us,
        "received_at": times_us,
        "source": strings,
        "kind": st.sampled_from(KINDS),
        "touchpoint": strings,
        "channel": strings,
        "attributes": st.dictionaries(strings, strings, max_size=5),
    },
    optional={
        "journey_id": st.none() | strings,
        "outcome": st.none() | st.sampled_from(OUTCOMES),
        "metric": st.none() | st.sampled_from(list(METRICS)),
        "rating": st.none() | doubles,
        "emotion": st.none() | st.sampled_from(EMOTIONS),
        "intensity": st.none() | doubles,
        "confidence": st.none() | doubles,
        "amount_micros": st.none() | longs,
        "currency": st.none() | strings,
        "case_id": st.none() | strings,
        "text": st.none() | strings,
        "sender_event_id": st.none() | strings,
        "journey": st.none() | strings,
    },
)

FAST = {header: fastavro.parse_schema(version.document) for header, version in BY_HEADER.items()}
APACHE = {header: avro.schema.parse(version.text) for header, version in BY_HEADER.items()}


def time_of(us: int) -> datetime:
    return EPOCH + timedelta(microseconds=us)


@given(records)
@settings(max_examples=300, deadline=None)
def test_bytes_are_fastavros_and_apache_reads_them(record: dict[str, Any]) -> None:
    """Of every version: a reader of an older one leaves out fields it does not know, one of a newer one finds a null.

    A kind that it does not know is nothing to be left out.
    """
    value = encode(record)
    header = value[:HEADER_BYTES]
    of_kind = {"model_activated": 2, "case_step": 3}.get(record["kind"], 0)
    assert header == VERSIONS[max(of_kind, 0 if record.get("journey") is None else 1)].header
    out = io.BytesIO()
    fastavro.schemaless_writer(out, FAST[header], record)
    assert value == header + out.getvalue()

    told = record | {name: time_of(record[name]) for name in ("occurred_at", "received_at")}
    for reader in VERSIONS:
        if of_kind >= reader.version:
            continue
        names = [field["name"] for field in reader.document["fields"]]
        source = io.BytesIO(value[HEADER_BYTES:])
        read = avro.io.DatumReader(APACHE[header], APACHE[reader.header]).read(avro.io.BinaryDecoder(source))
        assert read == {name: told.get(name) for name in names}
        assert source.read() == b""


@given(st.lists(records, min_size=1, max_size=4))
@settings(max_examples=100, deadline=None)
def test_columnar_decoder_never_finds_our_bytes_undecodable(some: list[dict[str, Any]]) -> None:
    decoded = decode([encode(record) for record in some], bytes(MARKER_BYTES))
    assert decoded.frame.columns == [field["name"] for field in CURRENT.document["fields"]]
    for place, row in zip(decoded.rows.to_list(), decoded.frame.to_dicts(), strict=True):
        record = some[place]
        assert {name: row[name] for name in record if name != "attributes"} == {
            name: value for name, value in record.items() if name != "attributes"
        }
    assert {reject.reason for reject in decoded.rejects} <= {"out_of_contract"}
    assert decoded.frame.height + len(decoded.rejects) == len(some)
