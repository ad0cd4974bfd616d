"""De-duplication against a perfect memory: candidates and look-ups together are never wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.state_layout import INT_INDEX
from schemas.tables import RECENT_IDS
from services.scoring.duplicates import candidates, id_keys, remember
from services.scoring.state import States

CUSTOMERS = 3
SET = settings(max_examples=100, deadline=None)


@dataclass(frozen=True, slots=True)
class Sent:
    """An event as far as its identity goes."""

    customer: int
    event_id: bytes
    occurred_us: int


def words(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(4, "little") for number in numbers)


NARROW = [words(a, b, c, 0) for a in range(4) for b in range(4) for c in range(4)]
"""64 ids whose folded words take four values: nearly all collide."""


@st.composite
def sequences(draw: st.DrawFn) -> list[Sent]:
    """Events with repeats. A repeat may claim another time, but none after the first: see the test of the limit."""
    random = draw(st.randoms(use_true_random=True))
    narrow = draw(st.booleans())
    spread_us = draw(st.sampled_from((1, 3_000_000, 40_000_000, 10**12)))
    sent: list[Sent] = []
    for _ in range(draw(st.integers(1, 120))):
        if sent and random.random() < 0.35:
            first = random.choice(sent)
            earliest = min(s.occurred_us for s in sent if (s.customer, s.event_id) == (first.customer, first.event_id))
            claimed = earliest if random.random() < 0.7 else random.randrange(earliest + 1)
            sent.append(Sent(first.customer, first.event_id, claimed))
        else:
            event_id = random.choice(NARROW) if narrow else random.randbytes(16)
            customer = random.randrange(CUSTOMERS)
            known = [s.occurred_us for s in sent if (s.customer, s.event_id) == (customer, event_id)]
            sent.append(Sent(customer, event_id, min([*known, random.randrange(spread_us)])))
    return sent


class Memory:
    """States and, as the store of events, a set of all that was taken."""

    def __init__(self) -> None:
        self.states = States.empty(CUSTOMERS)
        self.stored: set[tuple[int, bytes]] = set()
        self.looked_up = 0

    def take(self, batch: Sequence[Sent]) -> list[bool]:
        """Which events of the batch are new, in order."""
        places = sorted(range(len(batch)), key=lambda place: batch[place].customer)
        rows = np.array([batch[place].customer for place in places], dtype=np.intp)
        ids = pl.Series([batch[place].event_id for place in places], dtype=pl.Binary)
        keys = id_keys(ids, np.array([batch[place].occurred_us for place in places], dtype=np.int64))
        maybe = candidates(self.states, rows, keys)
        new = np.zeros(len(batch), dtype=bool)
        for at, place in enumerate(places):
            identity = (batch[place].customer, batch[place].event_id)
            self.looked_up += int(maybe[at])
            new[place] = not (maybe[at] and identity in self.stored)
            if new[place]:
                self.stored.add(identity)
        kept = np.flatnonzero(new[places])
        remember(self.states, rows[kept], keys[kept])
        return new.tolist()


def perfect(sent: Sequence[Sent]) -> list[bool]:
    seen: set[tuple[int, bytes]] = set()
    new = []
    for event in sent:
        new.append((event.customer, event.event_id) not in seen)
        seen.add((event.customer, event.event_id))
    return new


@SET
@given(sequences(), st.lists(st.integers(1, 40), min_size=1, max_size=10))
def test_as_good_as_a_perfect_memory(sent: list[Sent], sizes: list[int]) -> None:
    memory, at = Memory(), 0
    verdicts: list[bool] = []
    while at < len(sent):
        size = sizes[at % len(sizes)]
        verdicts += memory.take(sent[at : at + size])
        at += size
    assert verdicts == perfect(sent)


@SET
@given(sequences(), st.randoms(use_true_random=True))
def test_what_is_kept_is_the_newest_whatever_the_order(sent: list[Sent], random: object) -> None:
    keys = id_keys(pl.Series([s.event_id for s in sent]), np.array([s.occurred_us for s in sent], dtype=np.int64))
    rows = np.array([s.customer for s in sent], dtype=np.intp)
    states = States.empty(CUSTOMERS)
    order = list(range(len(sent)))
    random.shuffle(order)  # type: ignore[attr-defined]
    cut = len(order) // 3
    for part in (order[:cut], order[cut:]):
        mine = np.array(sorted(part, key=lambda place: sent[place].customer), dtype=np.intp)
        remember(states, rows[mine], keys[mine])
    for customer in range(CUSTOMERS):
        expected = np.sort(keys[rows == customer])
        kept = expected[-RECENT_IDS:]
        assert np.sort(states.recent_ids[customer])[RECENT_IDS - len(kept) :].tolist() == kept.tolist()
        gone = expected[:-RECENT_IDS] >> np.uint64(32)
        assert states.ints[customer, INT_INDEX["ids_horizon_s"]] == (gone.max() if gone.size else 0)


@pytest.mark.parametrize("collide", [False, True])
def test_a_collision_costs_a_look_up_and_no_answer(collide: bool) -> None:
    one, other = words(1, 2, 3, 4), words(4, 3, 2, 1) if collide else words(4, 3, 2, 9)
    memory = Memory()
    assert memory.take([Sent(0, one, 10**9), Sent(0, other, 10**9)]) == [True, True]
    assert memory.looked_up == (2 if collide else 0)
    assert memory.take([Sent(0, other, 10**9), Sent(1, other, 10**9)]) == [False, True]


def test_live_events_cost_no_look_up() -> None:
    memory, at_us = Memory(), 10**15
    generator = np.random.default_rng(1)
    for _ in range(20):
        batch = []
        for _ in range(30):
            at_us += 1_000_000
            batch.append(Sent(0, generator.bytes(16), at_us))
        assert all(memory.take(batch))
    assert memory.looked_up == 0


def test_the_limit_a_repeat_that_claims_a_later_time_after_sixteen_newer_events() -> None:
    """Documented in docs/measures.md: such an event is no repeat of anything the state can know of."""
    memory = Memory()
    again = words(1, 0, 0, 0)
    newer = [Sent(0, words(1 << 20, number, 0, 0), 100_000_000 + number) for number in range(RECENT_IDS)]
    memory.take([Sent(0, again, 10_000_000), *newer])
    assert memory.take([Sent(0, again, 10_000_000)]) == [False]
    assert memory.take([Sent(0, again, 9_000_000)]) == [False]
    assert memory.take([Sent(0, again, 200_000_000)]) == [True]


def test_keys_are_seconds_and_folded_words() -> None:
    (key,) = id_keys(pl.Series([words(0xF0F0F0F0, 0x0000FFFF, 1, 2)]), np.array([1_999_999])).tolist()
    assert key == 1 << 32 | (0xF0F0F0F0 ^ 0x0000FFFF ^ 1 ^ 2)
