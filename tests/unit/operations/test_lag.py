"""How far behind a worker says it is."""

from __future__ import annotations

from services.scoring.record_batches.commits import CommitLedger
from services.scoring.record_batches.lag import Lag, LagWatch


def test_lag_is_the_age_of_the_oldest_record_in_hand() -> None:
    lags = LagWatch[int]().observe(100.0, 60_000, {0: 5, 1: 9}, {0: 25, 1: 9}, {0: 57_500})
    assert lags == {0: Lag(20, 2.5), 1: Lag(0, 0.0)}


def test_records_that_were_not_fetched_are_as_old_as_they_were_seen_waiting() -> None:
    watch = LagWatch[int]()
    seen = [watch.observe(now_s, 0, {0: 5}, {0: 6}, {})[0].oldest_s for now_s in (10.0, 15.0, 40.0)]
    assert seen == [0.0, 5.0, 30.0]
    assert watch.observe(45.0, 0, {0: 6}, {0: 9}, {})[0].oldest_s == 0.0, "another position"
    assert watch.observe(50.0, 0, {0: 6}, {0: 6}, {})[0] == Lag(0, 0.0)
    assert watch.observe(55.0, 0, {0: 6}, {0: 7}, {})[0].oldest_s == 0.0, "nothing waited in between"


def test_a_clock_that_went_back_makes_no_negative_age() -> None:
    assert LagWatch[int]().observe(1.0, 0, {0: 0}, {0: 1}, {0: 3_600_000}) == {0: Lag(1, 0.0)}


def test_a_partition_that_went_is_forgotten() -> None:
    watch = LagWatch[int]()
    watch.observe(10.0, 0, {0: 5}, {0: 6}, {})
    assert watch.observe(20.0, 0, {1: 0}, {1: 0}, {}) == {1: Lag(0, 0.0)}
    assert watch.observe(30.0, 0, {0: 5}, {0: 6}, {})[0].oldest_s == 0.0


def test_the_ledger_knows_the_oldest_batch_in_hand_and_what_all_weigh() -> None:
    ledger: CommitLedger[str] = CommitLedger()
    assert ledger.oldest_ms("p") is None
    first = ledger.deliver("p", 0, 10, 10, first_ms=1_000, size_bytes=300)
    second = ledger.deliver("p", 10, 20, 10, first_ms=2_000, size_bytes=500)
    assert (ledger.oldest_ms("p"), ledger.open_bytes) == (1_000, 800)
    ledger.acknowledge(second)
    assert (ledger.oldest_ms("p"), ledger.open_bytes) == (1_000, 300)
    ledger.acknowledge(first)
    assert (ledger.oldest_ms("p"), ledger.open_bytes) == (None, 0)
    ledger.deliver("p", 20, 30, 10, first_ms=3_000, size_bytes=200)
    ledger.forget(["p"])
    assert (ledger.oldest_ms("p"), ledger.open_bytes) == (None, 0)
