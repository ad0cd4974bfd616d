"""The books of the log, partition by partition: each place once.

received = stored + duplicate + rejected + activations of risk models
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from infra.clickhouse.client import ClickHouse
from schemas.rejected import STAGE_LOG
from schemas.tables import DATABASE
from services.cli.verification.deployment import Deployment

NAMED: Final = 10
"""Places that are told by offset; the others are counted."""

_PLACES: Final = f"""
SELECT 0 AS fate, log_partition, log_offset FROM {DATABASE}.touchpoints FINAL
UNION ALL SELECT 1, log_partition, log_offset FROM {DATABASE}.repeated_events FINAL
UNION ALL SELECT 2, log_partition, log_offset FROM {DATABASE}.rejected_events FINAL WHERE stage = '{STAGE_LOG}'
UNION ALL SELECT 3, log_partition, log_offset FROM {DATABASE}.model_activations FINAL
"""


@dataclass(frozen=True, slots=True)
class Account:
    """Records of one partition from ``begin`` up to what is committed. ``missing`` are in no table, ``surplus`` stand
    in the tables more than once; some of both by offset."""

    partition: int
    begin: int
    received: int
    stored: int
    duplicate: int
    rejected: int
    activations: int
    missing: int
    surplus: int
    missing_at: list[int] = field(default_factory=list)
    surplus_at: list[int] = field(default_factory=list)

    @property
    def balanced(self) -> bool:
        return not self.missing and not self.surplus


def accounts(deployment: Deployment) -> list[Account]:
    """One account for each partition. ClickHouseError when they cannot be had."""
    client = deployment.client
    partitions = sorted(deployment.committed)
    begins = [deployment.begins[at] for at in partitions]
    ends = [deployment.committed[at] for at in partitions]
    # A bitmap takes a few bits for each place where numbers would take eight bytes.
    rows = client.query(
        f"SELECT log_partition, countIf(fate = 0), countIf(fate = 1), countIf(fate = 2), countIf(fate = 3), "
        f"groupBitmap(toUInt64(log_offset)) FROM ({_PLACES}) "
        f"WHERE log_offset >= transform(log_partition, {partitions}, {begins}, 0) "
        f"AND log_offset < transform(log_partition, {partitions}, {ends}, 0) GROUP BY log_partition"
    )
    counted = {row[0]: row[1:] for row in rows}
    return [
        _account(client, at, begin, end, *counted.get(at, (0, 0, 0, 0, 0)))
        for at, begin, end in zip(partitions, begins, ends, strict=True)
    ]


def _account(client: ClickHouse, at: int, begin: int, end: int, *counts: int) -> Account:
    stored, duplicate, rejected, activations, places = counts
    received = end - begin
    missing, surplus = received - places, stored + duplicate + rejected + activations - places
    here = f"({_PLACES}) WHERE log_partition = {at} AND log_offset >= {begin} AND log_offset < {end}"
    return Account(
        at,
        begin,
        received,
        stored,
        duplicate,
        rejected,
        activations,
        missing,
        surplus,
        _missing(client, here, begin, end) if missing else [],
        _surplus(client, here) if surplus else [],
    )


def _missing(client: ClickHouse, here: str, begin: int, end: int) -> list[int]:
    rows = client.query(
        "SELECT log_offset, next FROM (SELECT log_offset, leadInFrame(log_offset, 1, log_offset) OVER "
        "(ORDER BY log_offset ROWS BETWEEN CURRENT ROW AND 1 FOLLOWING) AS next "
        f"FROM (SELECT log_offset FROM {here} UNION ALL SELECT {begin - 1} UNION ALL SELECT {end})) "
        f"WHERE next > log_offset + 1 ORDER BY log_offset LIMIT {NAMED}"
    )
    found = (offset for after, until in rows for offset in range(after + 1, min(until, after + 1 + NAMED)))
    return list(found)[:NAMED]


def _surplus(client: ClickHouse, here: str) -> list[int]:
    rows = client.query(
        f"SELECT log_offset FROM {here} GROUP BY log_offset HAVING count() > 1 ORDER BY log_offset LIMIT {NAMED}"
    )
    return [offset for (offset,) in rows]
