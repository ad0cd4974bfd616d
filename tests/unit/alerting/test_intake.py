"""Records to the frame that is decided by."""

from __future__ import annotations

import json
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.signal import SIGNALS as STREAM
from schemas.signal import LoyaltySignal, encode_signals
from services.alerting.decide import SIGNALS
from services.alerting.intake import frame, read, segment_at
from tests.fakes.alerting import START_US

SAID: dict[str, Any] = {
    "signal_id": "00112233-4455-6677-8899-aabbccddeeff",
    "customer_id": "ann",
    "judged_at_us": START_US,
    "from_band": "low",
    "to_band": "high",
    "risk": 0.75,
    "score": 41.0,
    "trend": -3.0,
    "confidence": 0.8,
    "value_at_risk": 120.0,
    "reasons": [{"reason": "A complaint waits.", "log_odds": 1.2}],
    "model_version": "m",
    "log_partition": 3,
    "log_offset": 17,
    "volatility": 0.2,
    "complaint_hours": 5.0,
    "feedback_hours": 6.0,
    "silence_days": 7.0,
    "usual_gap_days": 8.0,
    "worst_touchpoint": "checkout",
}


def record(**more: Any) -> bytes:
    return json.dumps(SAID | more).encode()


def test_a_record_becomes_a_row() -> None:
    taken = read([record()])
    assert not taken.unreadable
    row = frame(taken.signals, {"ann": [(3, "silver"), (17, "gold"), (18, "lead")]}).row(0, named=True)
    assert row["signal_id"] == "00112233445566778899aabbccddeeff"
    assert (row["band"], row["from_band"], row["segment"]) == ("high", "low", "gold")
    same = {name: value for name, value in SAID.items() if name in SIGNALS and name not in ("signal_id", "judged_at")}
    assert {name: row[name] for name in same} == same
    assert row["judged_at"] == START_US


def test_what_the_stream_writes_is_read() -> None:
    columns = {name: SAID.get(name) for name in STREAM} | {"judged_at": START_US}
    stream = pl.DataFrame([columns | {"signal_id": bytes.fromhex("00112233445566778899aabbccddeeff")}], schema=STREAM)
    taken = read(encode_signals(stream))
    assert taken.signals == [LoyaltySignal.model_validate(SAID)]


def test_no_signals_make_an_empty_frame() -> None:
    assert frame([], {}).schema == pl.Schema(SIGNALS)


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"{}",
        b"null",
        b"\xff",
        record()[:-3],
        b"[" * 100_000,
        record(risk=1.5),
        record(risk=float("nan")),
        record(to_band="dire"),
        record(customer_id=""),
        record(judged_at_us=10**20),
        record(judged_at_us=-1),
        record(log_offset=2**63),
        record(log_offset=-1),
        record(log_partition=65_536),
        record(reasons=[{"reason": "x", "log_odds": float("inf")}]),
    ],
)
def test_what_is_no_signal_or_has_no_room_is_named_by_its_place(bad: bytes) -> None:
    taken = read([record(), bad, record(log_offset=18)])
    assert [signal.log_offset for signal in taken.signals] == [17, 18]
    assert taken.unreadable == [1]


@given(st.lists(st.binary(max_size=60), max_size=5))
def test_no_bytes_raise(values: list[bytes]) -> None:
    taken = read(values)
    assert len(taken.signals) + len(taken.unreadable) == len(values)


@pytest.mark.parametrize(("offset", "segment"), [(0, ""), (4, ""), (5, "a"), (8, "a"), (9, "b"), (100, "b")])
def test_a_segment_is_the_latest_at_or_before(offset: int, segment: str) -> None:
    assert segment_at([(5, "a"), (9, "b")], offset) == segment


def test_each_row_keeps_its_own_reasons_in_their_order() -> None:
    told = [
        [],
        [{"reason": "a", "log_odds": 2.0}, {"reason": "b", "log_odds": -1.0}],
        [{"reason": "c", "log_odds": 0.5}],
        [],
    ]
    taken = read([record(log_offset=offset, reasons=reasons) for offset, reasons in enumerate(told)])
    assert frame(taken.signals, {}).get_column("reasons").to_list() == told
    assert frame(taken.signals, {}).schema == pl.Schema(SIGNALS)
