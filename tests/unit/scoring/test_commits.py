"""The commit ledger as a pure state machine, against a model that remembers everything."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from services.scoring.record_batches.commits import CommitLedger
from services.scoring.record_batches.errors import PositionGap

PARTITIONS = ("p0", "p1", "p2")


@dataclass
class Delivered:
    serial: int
    start: int
    end: int
    records: int
    acknowledged: bool = False


@dataclass
class Life:
    """One assignment of a partition, from a seek or first delivery to its revocation."""

    base: int
    batches: list[Delivered] = field(default_factory=list)

    @property
    def end(self) -> int:
        return self.batches[-1].end if self.batches else self.base

    @property
    def safe(self) -> int:
        """End of the oldest run of acknowledged batches, the slow and obvious way."""
        reached = self.base
        for batch in self.batches:
            if not batch.acknowledged:
                break
            reached = batch.end
        return reached


class LedgerMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.ledger: CommitLedger[str] = CommitLedger()
        self.lives: dict[str, Life] = {}
        self.forgotten: list[int] = []
        self.broker: dict[str, int] = {}

    @rule(
        partition=st.sampled_from(PARTITIONS),
        length=st.integers(1, 50),
        holes=st.integers(0, 49),
        first=st.integers(0, 1000),
    )
    def deliver(self, partition: str, length: int, holes: int, first: int) -> None:
        life = self.lives.setdefault(partition, Life(first))
        records = max(length - holes, 0)
        start, end = life.end, life.end + length
        serial = self.ledger.deliver(partition, start, end, records)
        life.batches.append(Delivered(serial, start, end, records, acknowledged=records == 0))

    @rule(partition=st.sampled_from(PARTITIONS), off_by=st.integers(-5, 5).filter(bool))
    def refuse_a_gap(self, partition: str, off_by: int) -> None:
        if partition in self.lives:
            start = self.lives[partition].end + off_by
            with pytest.raises(PositionGap, match=partition):
                self.ledger.deliver(partition, start, start + 1, 1)

    @rule(choice=st.randoms(use_true_random=False), take=st.booleans())
    def acknowledge(self, choice: object, take: bool) -> None:
        open_batches = [b for life in self.lives.values() for b in life.batches if not b.acknowledged]
        if open_batches:
            batch = choice.choice(open_batches)  # type: ignore[attr-defined]
            if take:
                self.ledger.take(batch.serial)
            assert self.ledger.acknowledge(batch.serial)
            batch.acknowledged = True

    @rule(choice=st.randoms(use_true_random=False))
    def acknowledge_too_late(self, choice: object) -> None:
        if self.forgotten:
            serial = choice.choice(self.forgotten)  # type: ignore[attr-defined]
            assert not self.ledger.acknowledge(serial)
            assert not self.ledger.take(serial)

    @rule(partition=st.sampled_from(PARTITIONS))
    def revoke(self, partition: str) -> None:
        self.ledger.forget([partition])
        self._bury(partition)
        assert self.ledger.committable(partition) is None
        assert self.ledger.position(partition) is None

    @rule(partition=st.sampled_from(PARTITIONS), position=st.integers(0, 1000))
    def seek(self, partition: str, position: int) -> None:
        self.ledger.seek(partition, position)
        self._bury(partition)
        self.lives[partition] = Life(position)

    @rule(partition=st.sampled_from(PARTITIONS))
    def commit(self, partition: str) -> None:
        offset = self.ledger.committable(partition)
        if offset is not None:
            assert offset <= self.lives[partition].safe
            self.ledger.committed(partition, offset)
            assert self.ledger.committable(partition) is None

    def _bury(self, partition: str) -> None:
        life = self.lives.pop(partition, None)
        if life is not None:
            self.forgotten += [batch.serial for batch in life.batches]

    @invariant()
    def never_passes_an_open_batch(self) -> None:
        for partition, life in self.lives.items():
            assert self.ledger.position(partition) == life.safe
            offset = self.ledger.committable(partition)
            assert offset is None or offset == life.safe > life.base

    @invariant()
    def counts_what_is_open(self) -> None:
        open_records = sum(b.records for life in self.lives.values() for b in life.batches if not b.acknowledged)
        assert self.ledger.open_records == open_records

    def teardown(self) -> None:
        """Once all is acknowledged, the commit is the very end."""
        for partition, life in self.lives.items():
            for batch in life.batches:
                self.ledger.acknowledge(batch.serial)
            assert self.ledger.position(partition) == life.end
        assert self.ledger.open_records == 0
        assert self.ledger.taken_batches == 0


TestLedgerMachine = LedgerMachine.TestCase


def test_commit_waits_for_the_oldest_batch() -> None:
    ledger: CommitLedger[str] = CommitLedger()
    first = ledger.deliver("p", 10, 20, 10)
    second = ledger.deliver("p", 20, 35, 4)  # holes: 4 records in 15 positions
    assert ledger.acknowledge(second)
    assert ledger.committable("p") is None
    assert ledger.acknowledge(first)
    assert ledger.committable("p") == 35


def test_markers_at_the_end_are_committed() -> None:
    ledger: CommitLedger[str] = CommitLedger()
    serial = ledger.deliver("p", 0, 5, 5)
    ledger.deliver("p", 5, 6, 0)
    assert ledger.committable("p") is None
    ledger.acknowledge(serial)
    assert ledger.committable("p") == 6


def test_second_acknowledgement_does_not_count() -> None:
    ledger: CommitLedger[str] = CommitLedger()
    serial = ledger.deliver("p", 0, 5, 5)
    assert ledger.take(serial)
    assert not ledger.take(serial)
    assert ledger.taken_batches == 1
    assert ledger.acknowledge(serial)
    assert not ledger.acknowledge(serial)
    assert (ledger.open_records, ledger.taken_batches) == (0, 0)


def test_frozen_ledger_commits_nothing() -> None:
    ledger: CommitLedger[str] = CommitLedger()
    ledger.acknowledge(ledger.deliver("p", 0, 5, 5))
    ledger.freeze()
    assert ledger.frozen
    assert ledger.committable("p") is None


def test_old_commit_of_an_earlier_life_is_not_repeated() -> None:
    ledger: CommitLedger[str] = CommitLedger()
    ledger.seek("p", 5)
    ledger.committed("p", 50)  # the answer of a commit that was under way at the seek
    ledger.acknowledge(ledger.deliver("p", 5, 40, 35))
    assert ledger.committable("p") is None
    ledger.acknowledge(ledger.deliver("p", 40, 60, 20))
    assert ledger.committable("p") == 60
