"""Every published example goes through the edge, the encoder, Apache's reader and the columnar decoder."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import avro.io
import avro.schema
import pytest

from schemas.decode import MARKER_BYTES, decode
from schemas.kinds import KINDS, RESERVED_KINDS
from schemas.versions import BY_HEADER, CURRENT, HEADER_BYTES
from services.ingest.admit import Admission, admit
from services.ingest.limits import Limits

EXAMPLES = Path(__file__).parents[2] / "schemas" / "examples" / "touchpoint"
GOOD = sorted((EXAMPLES / "ok").glob("*.json"))
BAD = sorted((EXAMPLES / "bad").glob("*.json"))
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
RECEIVED_AT = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
RECEIVED_AT_US = (RECEIVED_AT - EPOCH) // timedelta(microseconds=1)


def load(path: Path) -> dict[str, Any]:
    example: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return example


def body_of(example: dict[str, Any]) -> bytes:
    text: str = example["text"] if "text" in example else json.dumps(example["event"])
    return text.encode()


def admitted(body: bytes) -> Admission:
    return admit(body, lines=False, received_at_us=RECEIVED_AT_US, limits=Limits())


def read_by_apache(value: bytes) -> dict[str, Any]:
    written = avro.schema.parse(BY_HEADER[value[:HEADER_BYTES]].text)
    reader = avro.io.DatumReader(written, avro.schema.parse(CURRENT.text))
    source = io.BytesIO(value[HEADER_BYTES:])
    record = cast(dict[str, Any], reader.read(avro.io.BinaryDecoder(source)))
    assert source.read() == b""
    return record


@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.stem)
def test_good_example_is_accepted_and_read_back(path: Path) -> None:
    event = load(path)["event"]
    admission = admitted(json.dumps(event).encode())
    assert admission.results == [{"event_id": event["event_id"], "verdict": "ok"}]
    assert not admission.refused

    record = read_by_apache(admission.values[0])
    for name in ("customer_id", "source", "kind", "touchpoint"):
        assert record[name] == event[name]
    for name in ("journey_id", "journey", "outcome", "metric", "rating", "emotion", "intensity", "confidence"):
        assert record[name] == event.get(name)
    for name in ("currency", "case_id", "text"):
        assert record[name] == event.get(name)
    assert record["channel"] == (event.get("channel") or "")
    assert record["attributes"] == (event.get("attributes") or {})
    assert record["occurred_at"] == datetime.fromisoformat(event["occurred_at"])
    assert record["received_at"] == RECEIVED_AT


@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.stem)
def test_good_example_is_decoded_to_columns(path: Path) -> None:
    admission = admitted(json.dumps(load(path)["event"]).encode())
    record = read_by_apache(admission.values[0])
    frame = decode(admission.values, bytes(MARKER_BYTES)).frame
    assert frame.height == 1, "the columnar decoder finds the record in the contract"
    row = frame.row(0, named=True)
    for name, value in record.items():
        if isinstance(value, datetime):
            assert row[name] == (value - EPOCH) // timedelta(microseconds=1)
        elif name != "attributes":
            assert row[name] == value


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_bad_example_is_refused_by_name(path: Path) -> None:
    example = load(path)
    admission = admitted(body_of(example))
    assert admission.values == []
    (result,) = admission.results
    assert (result["verdict"], result["reason"], result["field"]) == (
        "drop",
        example["reason"],
        example["field"],
    )
    assert result["detail"]
    assert admission.refused[0].payload == body_of(example)


def test_good_examples_pass_as_one_batch() -> None:
    events = [load(path)["event"] for path in GOOD]
    admission = admitted(json.dumps(events).encode())
    assert [result["verdict"] for result in admission.results] == ["ok"] * len(events)
    assert decode(admission.values, bytes(MARKER_BYTES)).frame.height == len(events)


def test_mixed_batch_keeps_every_good_event_and_the_order() -> None:
    texts: list[bytes] = []
    expected: list[str] = []
    readable = [path for path in BAD if load(path)["reason"] != "invalid_json"]
    for good, bad in zip(GOOD, readable, strict=False):
        texts += [body_of(load(good)), body_of(load(bad))]
        expected += ["ok", "drop"]
    admission = admitted(b"[" + b",".join(texts) + b"]")
    assert [result["verdict"] for result in admission.results] == expected
    assert admission.positions == list(range(0, len(texts), 2))


def test_every_kind_has_a_good_example() -> None:
    kinds = {load(path)["event"]["kind"] for path in GOOD}
    assert kinds == set(KINDS) - RESERVED_KINDS


def test_examples_say_why() -> None:
    assert all(load(path)["why"] for path in GOOD + BAD)
