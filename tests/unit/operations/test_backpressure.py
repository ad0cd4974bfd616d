"""Reading waits when enough is in hand, by number and by size."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from services.scoring.record_batches.commits import CommitLedger
from services.scoring.record_batches.transport import RecordBatchConsumer, TransportOptions
from services.scoring.settings import ScoringSettings


async def _fail(reason: BaseException) -> None:
    raise reason


class _Nobody:
    async def on_partitions_revoked(self, revoked: object) -> None: ...
    async def on_partitions_assigned(self, assigned: object) -> None: ...


@pytest.mark.parametrize(
    ("records", "size_bytes", "full"), [(1, 1, False), (10, 1, True), (1, 1_000, True), (9, 999, False)]
)
def test_few_large_records_are_as_many_as_many_small_ones(records: int, size_bytes: int, full: bool) -> None:
    ledger: CommitLedger[str] = CommitLedger()
    options = TransportOptions(10, 1_000, 1.0, _Nobody(), _fail)
    consumer = cast(RecordBatchConsumer, SimpleNamespace(ledger=ledger, options=options))
    serial = ledger.deliver("p", 0, records, records, size_bytes=size_bytes)
    assert RecordBatchConsumer._full(consumer) is full
    ledger.acknowledge(serial)
    assert RecordBatchConsumer._full(consumer) is False


def test_ordinary_records_reach_the_number_first() -> None:
    """106 bytes each (docs/cluster.md): the size is a bound for large events and no brake for others."""
    settings = ScoringSettings(_env_file=None)
    assert 2 * settings.max_unwritten_records * 106 < 0.6 * settings.max_open_bytes
