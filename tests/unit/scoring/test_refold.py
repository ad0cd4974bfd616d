"""A fresh fold of a log for some customers: the stream's own states, in bounded memory, without any table."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from schemas.state_layout import KEY
from services.scoring.readings import shipped
from services.scoring.risk.model import DEFAULT
from services.scoring.verify.compare import STATE, Difference, differences
from services.scoring.verify.refold import Refold, Share, ShareTooLargeError, Wanted
from services.scoring.verify.rows import SCHEMA, from_frame, readable, to_frame
from tests.fakes.stream import FakeTables, event, make_core

CUSTOMERS = tuple(f"c{number}" for number in range(8))
TURNS = 30


def turn_of(customer: str, turn: int) -> bytes:
    at_s = 3_600.0 * ((turn * 7) % TURNS) + CUSTOMERS.index(customer)
    return event(f"{customer}-{turn}", customer, after_s=at_s, case_id=f"case {turn % 3}", kind="complaint_opened")


LOG = [
    value
    for turn in range(TURNS)
    for customer in CUSTOMERS
    # Late ones come again, long after they fell out of the set of recent ids.
    for value in [turn_of(customer, turn), *([turn_of(customer, turn - 25)] if turn >= 25 else [])]
]


def refold(wanted: Wanted, *, most_customers: int = 100, most_events: int = 10_000, size: int = 50) -> Refold:
    made = Refold(
        0, wanted, DEFAULT, shipped(), lambda: b"\x9e\x01marker", most_customers=most_customers, most_events=most_events
    )
    for start in range(0, len(LOG), size):
        values = LOG[start : start + size]
        made.take(np.arange(start, start + len(values)), values, [0] * len(values))
    return made


def folded(wanted: Wanted, size: int = 50) -> pl.DataFrame:
    return to_frame(refold(wanted, size=size).states())


def streamed(upto: int) -> pl.DataFrame:
    """What the stream's core makes of the log, with tables that keep what is written."""
    tables = FakeTables()
    core = make_core(tables)
    effects = core.take(0, np.arange(upto + 1), LOG[: upto + 1], [0] * (upto + 1), ())
    assert len(effects.repeated) > 10 or upto < len(LOG) - 1
    return to_frame(core.snapshot(core.cache.find(CUSTOMERS)))


def test_it_comes_to_the_states_of_the_stream_however_it_is_cut() -> None:
    last = len(LOG) - 1
    stream = streamed(last)
    for size in (7, 1_000):
        assert not differences(stream, folded(Wanted({}, last), size), SCHEMA.keys())


def test_each_customer_is_folded_up_to_an_offset_of_their_own() -> None:
    upto = {"c1": 100, "c2": 333}
    made = folded(Wanted(upto))
    assert made.get_column(KEY).to_list() == ["c1", "c2"]
    for customer, offset in upto.items():
        mine = pl.col(KEY) == customer
        assert not differences(streamed(offset).filter(mine), made.filter(mine), SCHEMA.keys())


def test_shares_make_up_the_whole_and_know_what_is_too_much() -> None:
    last = len(LOG) - 1
    with pytest.raises(ShareTooLargeError):
        refold(Wanted({}, last), most_customers=2)
    with pytest.raises(ShareTooLargeError):
        refold(Wanted({}, last), most_events=100)
    shares, parts = [Share()], []
    while shares:
        share = shares.pop()
        try:
            parts.append(to_frame(refold(Wanted({}, last, share), most_customers=1, most_events=60).states()))
        except ShareTooLargeError:
            shares += share.halves()
    assert len(parts) > 2
    assert not differences(streamed(last), pl.concat(parts), SCHEMA.keys())
    with pytest.raises(ShareTooLargeError, match="single customer"):
        Share(1 << 20).halves()


def test_frames_and_matrices_say_the_same() -> None:
    frame = streamed(len(LOG) - 1)
    assert to_frame(from_frame(frame)).equals(frame)
    assert list(frame.schema) == list(SCHEMA)
    with pytest.raises(ValueError, match="band holds"):
        from_frame(frame.with_columns(pl.lit("severe").alias("band")))


@pytest.mark.parametrize(
    ("column", "by", "differs"),
    [
        ("felt", 1, True),
        ("last_event_at", 1, True),
        ("band", "low", True),
        ("recent_ids", bytes(128), True),
        ("emotion_slow_w", 1e-12, False),
        ("emotion_slow_w", 1e-7, True),
        # Measured by its weight: what is left of a sum whose terms cancel says nothing of its exactness.
        ("emotion_slow_s", 1e-12, False),
        ("emotion_slow_s", 1e-6, True),
        ("risk", 1e-8, True),
        ("risk", float("nan"), True),
        ("spend_fast", 1e-7, False),
        ("spend_fast", 1e-5, True),
    ],
)
def test_what_is_exact_and_what_is_not(column: str, by: str | bytes | float, differs: bool) -> None:
    frame = streamed(len(LOG) - 1)
    other = pl.lit(by) if isinstance(by, str | bytes) else pl.col(column) + by
    changed = frame.with_columns(pl.when(pl.col(KEY) == "c3").then(other).otherwise(pl.col(column)).alias(column))
    found = differences(changed, frame, SCHEMA.keys())
    assert [(difference.customer, difference.column) for difference in found] == ([("c3", column)] if differs else [])
    assert not differences(changed, frame, SCHEMA.keys(), leave_out={column})


def test_one_side_without_a_state_is_a_difference_of_its_own() -> None:
    frame = streamed(len(LOG) - 1)
    events = frame.filter(pl.col(KEY) == "c0")["events"][0]
    less = frame.filter(pl.col(KEY) != "c0")
    assert differences(frame, less, SCHEMA.keys()) == [Difference("c0", STATE, events, None)]
    assert differences(less, frame, SCHEMA.keys()) == [Difference("c0", STATE, None, events)]


def test_values_are_told_to_people() -> None:
    assert readable("last_event_at", 0) == "never"
    assert readable("last_event_at", 1_500_000) == "1970-01-01T00:00:01.500000Z"
    assert readable("events", 7) == 7
    assert readable("activity_days", (20_000).to_bytes(2, "little").ljust(64, b"\0")) == ["2024-10-04"]
    entry = (60 << 32 | 0x15 << 1 | 1).to_bytes(8, "little")
    assert readable("cases", entry.rjust(32, b"\0")) == ["1970-01-01T00:01:00Z case 00000015 resolved"]
    assert readable("updated_at", 1 << 62).endswith(" us")
