"""The record of a step of a case, as everybody meets it who reads the log or could be tempted to send it."""

from __future__ import annotations

import io
import json
import uuid
from dataclasses import replace
from datetime import UTC, datetime

import avro.io
import avro.schema
import numpy as np
import polars as pl
import pytest

from schemas.activation import encode_activation
from schemas.case import KIND, CaseStep, Step, encode_case_step
from schemas.decode import COLUMNS, MARKER_BYTES, decode
from schemas.encode import EncodeError
from schemas.state_layout import CODES, INT_INDEX
from schemas.tables import TOUCHPOINTS
from schemas.versions import BY_HEADER, HEADER_BYTES, VERSIONS
from services.cli.mending import event_of
from services.ingest.admit import admit
from services.ingest.limits import Limits
from services.learning.activity import read_events
from services.scoring.core import Core
from services.scoring.facts import experience_at
from services.scoring.readings import shipped
from services.scoring.risk.model import DEFAULT
from services.scoring.verify.refold import Refold, Wanted
from tests.fakes.models import model_like_default
from tests.fakes.stream import START_US, FakeTables, event, make_core

AT_US = START_US + 3_000_000
ALERT = "0123456789abcdef0123456789abcdef"
CLOSED = CaseStep("ada", ALERT, Step.CLOSED, "kim", outcome="succeeded", note="called back", at_us=AT_US)
RECORD = encode_case_step(CLOSED)
PLAIN = [place for name, place in INT_INDEX.items() if name not in CODES]
"""Columns that are no codes of names: these are given in the order in which names were met."""


def take(core: Core, values: list[bytes | None]) -> None:
    core.take(0, np.arange(len(values), dtype=np.int64), values, [AT_US // 1000] * len(values), ())


def test_apache_reads_it_and_older_readers_do_not_know_it() -> None:
    version = BY_HEADER[RECORD[:HEADER_BYTES]]
    assert version.version == 4
    source = io.BytesIO(RECORD[HEADER_BYTES:])
    schema = avro.schema.parse(version.text)
    record = avro.io.DatumReader(schema, schema).read(avro.io.BinaryDecoder(source))
    assert source.read() == b""
    assert isinstance(record, dict)
    assert (record["kind"], record["customer_id"], record["source"]) == (KIND, "ada", "touchstone")
    assert (record["touchpoint"], record["case_id"]) == ("touchstone.case", ALERT)
    assert record["received_at"] == record["occurred_at"] == datetime.fromtimestamp(AT_US / 1e6, UTC)
    assert record["attributes"] == {
        "step": "closed",
        "by": "kim",
        "alert_id": ALERT,
        "outcome": "succeeded",
        "note": "called back",
    }
    assert RECORD[:HEADER_BYTES] not in [older.header for older in VERSIONS[:3]]


def test_a_step_taken_twice_is_one_event() -> None:
    later = replace(CLOSED, at_us=AT_US + 1, by="lee", outcome="failed", note="")
    assert CLOSED.event_id == later.event_id
    # Fixed for ever, as a step that is sent again must be the same event.
    assert uuid.UUID(bytes=CLOSED.event_id) == uuid.UUID("40e33105-c747-5b31-b36d-cf87d8ca04ae")
    others = [
        replace(CLOSED, alert_id="f" * 32),
        CaseStep("ada", ALERT, Step.ACKNOWLEDGED, "kim"),
        *(CaseStep("ada", ALERT, Step.ASSIGNED, "kim", owner=name, number=n) for name in "ab" for n in (0, 1)),
        *(CaseStep("ada", ALERT, Step.NOTE, by, note=text) for by in ("kim", "lee") for text in ("x", "y")),
    ]
    assert len({step.event_id for step in (CLOSED, *others)}) == 1 + len(others)


def test_the_core_stores_it_and_the_state_is_what_it_was() -> None:
    plain, stepped = make_core(FakeTables()), make_core(FakeTables())
    felt: list[bytes | None] = [event("a", "ada"), event("b", "ada", after_s=2)]
    take(plain, felt)
    effects = stepped.take(0, np.arange(3), [*felt, RECORD], [AT_US // 1000] * 3, ())
    assert [written.frame["kind"].to_list()[-1] for written in effects.events] == [KIND]
    assert [effects.rejected, effects.repeated, effects.activations] == [[]] * 3
    before, after = (core.cache.states.take(core.cache.find(["ada"])) for core in (plain, stepped))
    np.testing.assert_array_equal(before.floats, after.floats)
    moved = {INT_INDEX[name] for name in ("log_offset", "updated_at", "ids_horizon_s")}
    same = [place for place in PLAIN if place not in moved]
    np.testing.assert_array_equal(before.ints[:, same], after.ints[:, same])


def test_a_refold_of_the_log_gives_the_state_of_the_stream() -> None:
    values: list[bytes | None] = [event("a", "ada"), RECORD, event("b", "ada", after_s=2), RECORD]
    core = make_core(FakeTables())
    take(core, values)
    refold = Refold(0, Wanted({"ada": 3}), DEFAULT, shipped(), lambda: b"markmark")
    refold.take(np.arange(4), values, [AT_US // 1000] * 4)
    ours, theirs = core.snapshot(core.cache.find(["ada"])), refold.states()
    np.testing.assert_array_equal(ours.ints[:, PLAIN], theirs.ints[:, PLAIN])
    np.testing.assert_array_equal(ours.floats, theirs.floats)


def test_an_activation_beside_it_is_found_all_the_same() -> None:
    """Its code is higher than theirs."""
    activation = encode_activation("fit", model_like_default("fit", {}).to_json(), 0, AT_US)
    effects = make_core(FakeTables()).take(0, np.arange(2), [RECORD, activation], [AT_US // 1000] * 2, ())
    assert [at.version for at in effects.activations] == ["fit"]
    assert not effects.rejected
    assert [written.frame["kind"].to_list() for written in effects.events] == [[KIND]]


def test_learning_passes_it_over() -> None:
    frame = decode([event("a", "ada"), RECORD], bytes(MARKER_BYTES)).frame
    assert KIND in frame["kind"].to_list()
    assert read_events(frame)["kind"].to_list() == ["interaction"]
    none = pl.lit(0.0)
    felt = [none.alias(name) for name in TOUCHPOINTS.names if name.endswith(("_valence", "_weight"))]
    stored = frame.with_columns(felt)
    without = stored.filter(pl.col("kind") != KIND)
    assert experience_at(stored, AT_US + 1).equals(experience_at(without, AT_US + 1))
    assert set(COLUMNS) == set(frame.columns)


def test_no_sender_may_send_it() -> None:
    """Nor may one who has it from a table of rejected records."""
    body = json.dumps(event_of("log", RECORD)).encode()
    [result] = admit(body, lines=False, received_at_us=AT_US, limits=Limits()).results
    assert (result["verdict"], result["reason"], result["field"]) == ("drop", "reserved_kind", "/kind")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"customer_id": ""}, "customer_id"),
        ({"alert_id": ""}, "alert_id"),
        ({"by": ""}, "by"),
        ({"by": "x" * 101}, "by may have 100"),
        ({"note": "x" * 1001}, "note may have 1000"),
        ({"outcome": "fine"}, "outcome must be"),
        ({"owner": "lee"}, "owner goes with"),
        ({"step": Step.ACKNOWLEDGED}, "outcome goes with"),
        ({"step": Step.NOTE, "outcome": "", "note": ""}, "needs a text"),
        ({"step": Step.ASSIGNED, "outcome": ""}, "needs one"),
    ],
)
def test_a_step_that_makes_no_sense_is_refused(change: dict[str, str], message: str) -> None:
    with pytest.raises(EncodeError, match=message):
        encode_case_step(replace(CLOSED, **change))  # type: ignore[arg-type]
