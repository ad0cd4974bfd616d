"""From records to effects, with tables in memory."""

from __future__ import annotations

import numpy as np
import pytest

from schemas.signal import LoyaltySignal, encode_signals
from schemas.state_layout import INT_INDEX
from services.scoring.cache import CacheFullError
from services.scoring.core import Core, Effects
from tests.fakes.stream import FakeTables, TablesDownError, crossings_of, event, make_core


@pytest.fixture
def tables() -> FakeTables:
    return FakeTables()


def take(core: Core, values: list[bytes | None], first: int = 0, partition: int = 0, *unwritten: Effects) -> Effects:
    offsets = np.arange(first, first + len(values), dtype=np.int64)
    return core.take(partition, offsets, values, [1_760_000_000_000] * len(values), unwritten)


def stored(effects: Effects) -> list[int]:
    return sorted(offset for written in effects.events for offset in written.frame["log_offset"].to_list())


def state(core: Core, customer: str, column: str) -> int:
    slot = int(core.cache.find([customer])[0])
    return int(core.cache.states.ints[slot, INT_INDEX[column]])


def test_each_record_ends_in_exactly_one_place(tables: FakeTables) -> None:
    core = make_core(tables)
    values = [event("a", "ada"), b"junk", event("a", "ada"), None, event("b", "bob"), event("a", "ada", text="other")]
    effects = take(core, values)
    assert stored(effects) == [0, 4]
    assert [record.log_offset for record in effects.rejected] == [1, 3]
    assert {(event.log_offset, event.conflict) for event in effects.repeated} == {(2, False), (5, True)}
    assert effects.records == 6


def test_a_record_may_carry_any_timestamp(tables: FakeTables) -> None:
    """Topics take any; neither table nor topic could hold these, and the record would stop every worker."""
    stamps = [1 << 62, -1, 1_760_000_000_000]
    effects = make_core(tables).take(0, np.arange(3), [b"junk"] * 3, stamps, ())
    assert [record.rejected_at_us for record in effects.rejected] == [4_102_444_800_000_000, 0, 1_760_000_000_000_000]


def test_redelivered_offsets_change_nothing(tables: FakeTables) -> None:
    core = make_core(tables)
    values: list[bytes | None] = [event("a", "ada"), event("b", "ada", after_s=5)]
    take(core, values)
    before = core.cache.states.take(core.cache.find(["ada"]))
    again = take(core, values)
    after = core.cache.states.take(core.cache.find(["ada"]))
    assert not again.events
    assert not again.repeated
    np.testing.assert_array_equal(before.floats, after.floats)
    np.testing.assert_array_equal(before.ints, after.ints)


def test_an_event_written_before_a_crash_is_no_repeat_of_itself(tables: FakeTables) -> None:
    core = make_core(tables)
    value = event("a", "ada")
    first = take(core, [value], 7)
    written = first.events[0]
    tables.write_events(
        written.frame.drop("log_partition", "log_offset"), written.valence, written.weight, 0, np.array([7])
    )
    restarted = make_core(tables)
    # The same id came again right behind it; both are delivered once more.
    effects = take(restarted, [value, event("a", "ada")], 7)
    assert stored(effects) == [7]
    assert [event.log_offset for event in effects.repeated] == [8]


def test_a_repeat_of_an_event_that_no_table_shows_yet_is_found(tables: FakeTables) -> None:
    core = make_core(tables)
    first = take(core, [event("a", "ada")])
    second = take(core, [event("a", "ada")], 1, 0, first)
    assert [event.log_offset for event in second.repeated] == [1]


def test_a_repeat_older_than_every_remembered_id_is_found_in_the_table(tables: FakeTables) -> None:
    core = make_core(tables)
    first = take(core, [event("old", "ada")])
    written = first.events[0]
    tables.write_events(
        written.frame.drop("log_partition", "log_offset"), written.valence, written.weight, 0, np.array([0])
    )
    take(core, [event(f"n{i}", "ada", after_s=10 + i) for i in range(40)], 1)
    effects = take(core, [event("old", "ada")], 41)
    assert [event.log_offset for event in effects.repeated] == [41]
    assert state(core, "ada", "events") == 41


def test_new_events_need_no_look_up(tables: FakeTables) -> None:
    core = make_core(tables)
    take(core, [event(f"e{i}", f"c{i % 7}", after_s=i) for i in range(200)])
    assert tables.lookups == 0


def test_a_customer_of_another_partition_is_rejected(tables: FakeTables) -> None:
    core = make_core(tables)
    take(core, [event("a", "ada")], 0, 1)
    effects = take(core, [event("b", "ada", after_s=3)], 0, 2)
    assert [(record.log_partition, record.reason) for record in effects.rejected] == [(2, "wrong_partition")]
    assert "partition 1" in effects.rejected[0].detail
    assert state(core, "ada", "events") == 1


def test_tables_that_fail_leave_the_states_as_they_were(tables: FakeTables) -> None:
    core = make_core(tables)
    take(core, [event("a", "ada")])
    tables.failures.append(TablesDownError())
    with pytest.raises(TablesDownError):
        take(core, [event("b", "ada", after_s=2), event("c", "new")], 1)
    effects = take(core, [event("b", "ada", after_s=2), event("c", "new")], 1)
    assert stored(effects) == [1, 2]
    assert state(core, "ada", "events") == 2


def test_states_come_back_from_the_table_after_they_left_memory(tables: FakeTables) -> None:
    core = make_core(tables, capacity=10)
    for round_number in range(5):
        values = [event(f"{round_number}-{i}", f"c{i}", after_s=round_number) for i in range(30)]
        for i, value in enumerate(values):
            effects = take(core, [value], round_number * 30 + i)
            slots = effects.dirty()
            tables.save_states(core.snapshot(slots))
            core.cache.release(slots)
    rows = tables.load_states([f"c{i}" for i in range(30)])
    assert rows.ints[:, INT_INDEX["events"]].tolist() == [5] * 30


def test_unwritten_states_never_leave_memory(tables: FakeTables) -> None:
    core = make_core(tables, capacity=3)
    take(core, [event(f"e{i}", f"c{i}") for i in range(3)])
    with pytest.raises(CacheFullError, match="TOUCHSTONE_SCORING_CACHE_CUSTOMERS"):
        take(core, [event("x", "one-more")], 3)


def test_signals_carry_position_reasons_and_the_same_id_each_time(tables: FakeTables) -> None:
    values: list[bytes | None] = [
        event(str(i), "ada", after_s=i * 10, kind="complaint_opened", outcome=None, case_id=str(i)) for i in range(6)
    ]
    one, other = take(make_core(tables), values), take(make_core(tables), values)
    (frame,), (same,) = one.signals, other.signals
    assert frame.equals(same)
    signal = crossings_of(frame)[0]
    assert (signal.from_band, signal.to_band) == ("low", "elevated")
    assert any("complaint" in said["reason"] for said in signal.reasons)
    record = LoyaltySignal.model_validate_json(encode_signals(frame)[0])
    assert record.signal_id.bytes == signal.signal_id
    assert record.judged_at_us == signal.judged_at
    same_names = set(LoyaltySignal.model_fields) - {"signal_id", "judged_at_us", "reasons"}
    assert record.model_dump(include=same_names) == {name: getattr(signal, name) for name in same_names}
    assert [reason.model_dump() for reason in record.reasons] == signal.reasons


def test_partitions_are_folded_together_and_kept_apart(tables: FakeTables) -> None:
    """One call takes what lies ready of every partition: equal offsets of different partitions are different places."""
    core = make_core(tables)
    values = [event("a", "ada"), event("b", "bob"), event("a", "ada"), b"junk", event("b", "bob", text="other")]
    effects = core.take(np.array([0, 1, 0, 1, 1]), np.array([5, 5, 6, 6, 7]), values, [0] * 5, ())
    (written,) = effects.events
    assert written.frame.select("log_partition", "log_offset").rows() == [(0, 5), (1, 5)]
    assert {(e.log_partition, e.log_offset, e.conflict) for e in effects.repeated} == {(0, 6, False), (1, 7, True)}
    assert [(record.log_partition, record.log_offset) for record in effects.rejected] == [(1, 6)]
    assert (state(core, "ada", "log_partition"), state(core, "bob", "log_partition")) == (0, 1)


def test_a_stored_event_of_another_partition_is_no_earlier_one(tables: FakeTables) -> None:
    """Two partitions may hold the same id of the same name when a sender keyed its records wrong."""
    core = make_core(tables)
    take(core, [event("first", "ada", after_s=1)])
    stray = take(make_core(tables), [event("a", "ada")], 0, 3).events[0]
    tables.write_events(stray.frame.drop("log_partition", "log_offset"), stray.valence, stray.weight, 3, np.array([0]))
    values: list[bytes | None] = [event(f"n{i}", "ada", after_s=10 + i) for i in range(40)]
    take(core, values, 1)
    effects = take(core, [event("a", "ada")], 41)
    assert stored(effects) == [41]
