"""The record that activates a model, as everybody meets it who reads the log or could be tempted to send it."""

from __future__ import annotations

import io
import json
import uuid
from datetime import UTC, datetime

import avro.io
import avro.schema
import numpy as np
import pytest

from schemas.activation import CUSTOMER, KIND, MAX_PARAMETERS_BYTES, encode_activation
from schemas.decode import MARKER_BYTES, decode
from schemas.encode import EncodeError
from schemas.identity import activation_event_id
from schemas.versions import BY_HEADER, HEADER_BYTES, VERSIONS
from services.cli.mending import event_of
from services.ingest.admit import admit
from services.ingest.limits import Limits
from services.scoring.risk.model import DEFAULT, RiskModel
from tests.fakes.models import ANXIOUS, model_like_default
from tests.fakes.stream import FakeTables, make_core

AT_US = 1_772_443_245_123_456
MODEL = model_like_default("fit-2026-03", ANXIOUS)
RECORD = encode_activation(MODEL.version, MODEL.to_json(), 2, AT_US)


def test_apache_reads_it_and_older_readers_do_not_know_it() -> None:
    version = BY_HEADER[RECORD[:HEADER_BYTES]]
    assert version.version == 3
    source = io.BytesIO(RECORD[HEADER_BYTES:])
    schema = avro.schema.parse(version.text)
    record = avro.io.DatumReader(schema, schema).read(avro.io.BinaryDecoder(source))
    assert source.read() == b""
    assert isinstance(record, dict)
    assert (record["kind"], record["customer_id"], record["source"]) == (KIND, CUSTOMER, "touchstone")
    assert record["received_at"] == record["occurred_at"] == datetime.fromtimestamp(AT_US / 1e6, UTC)
    assert record["attributes"] == {"version": MODEL.version, "parameters": MODEL.to_json()}
    assert RECORD[:HEADER_BYTES] not in [older.header for older in VERSIONS[:2]]


def test_its_id_is_of_the_version_the_partition_and_the_moment() -> None:
    assert decode([RECORD], bytes(MARKER_BYTES)).frame["event_id"].to_list() == [
        activation_event_id("fit-2026-03", 2, AT_US)
    ]
    ids = {activation_event_id(v, p, at) for v in ("a", "b") for p in (0, 1) for at in (AT_US, AT_US + 1)}
    assert len(ids) == 8
    # Fixed for ever, as an activation that is sent again must be the same event.
    assert uuid.UUID(bytes=activation_event_id("default-1", 0, 0)) == uuid.UUID("0f275a1b-8221-5408-9e9b-4b854271d8cd")


def test_the_core_makes_an_activation_of_it_and_nothing_else() -> None:
    effects = make_core(FakeTables()).take(2, np.array([7]), [RECORD], [AT_US // 1000], ())
    [made] = effects.activations
    assert (made.log_partition, made.log_offset, made.activated_at_us) == (2, 7, AT_US)
    assert RiskModel.from_json(made.parameters) == MODEL
    assert [effects.events, effects.rejected, effects.repeated, effects.signals, effects.slots] == [[]] * 5


def test_no_sender_may_send_it() -> None:
    """Nor may one who has it from a table of rejected records."""
    body = json.dumps(event_of("log", RECORD)).encode()
    admission = admit(body, lines=False, received_at_us=AT_US, limits=Limits())
    [result] = admission.results
    assert (result["verdict"], result["reason"], result["field"]) == ("drop", "reserved_kind", "/kind")


def test_a_model_too_large_for_a_record_is_refused_before_it_is_sent() -> None:
    with pytest.raises(EncodeError, match="262,144 bytes"):
        encode_activation("large", "x" * (MAX_PARAMETERS_BYTES + 1), 0, AT_US)
    assert len(DEFAULT.to_json()) * 20 < MAX_PARAMETERS_BYTES
