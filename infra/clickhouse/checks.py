"""Whether risk models still hold, as it was found: table `model_checks`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from infra.clickhouse.client import ClickHouse, quoted
from schemas.tables import DATABASE, MODEL_ACTIVATIONS, MODEL_CHECKS

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class CheckRow:
    """A row, in the order of the table's columns, which say what each means; times as UTC microseconds."""

    version: str
    judged_at_us: int
    checked_at_us: int
    horizon_days: int
    verdict: str
    flattered: bool
    n: int
    expected: float
    observed: int
    allowed_low: float
    allowed_high: float
    spread: float
    auc: float
    brier: float
    ece: float
    log_loss: float


@dataclass(frozen=True, slots=True)
class Held:
    """What is known of a model: its latest check (None and zeros without one) and its latest activation by the log.

    Times are UTC microseconds; ``verdict`` as in the table.
    """

    version: str
    activated_at_us: int | None
    checked_at_us: int | None
    verdict: str
    ece: float


def save_check(client: ClickHouse, row: CheckRow) -> None:
    """Keep what a check found. Raises ClickHouseError."""
    version, judged_at_us, checked_at_us, *found = astuple(row)
    times = [_EPOCH + timedelta(microseconds=us) for us in (judged_at_us, checked_at_us)]
    client.insert_rows(MODEL_CHECKS.name, MODEL_CHECKS.names, [(version, *times, *found)])


def latest_checks(client: ClickHouse, versions: Sequence[str]) -> list[Held]:
    """Of each of some models what is known, in their order. Of its checks that on the latest window counts, and of
    these the last one. Raises ClickHouseError."""
    if not versions:
        return []
    among = f"WHERE version IN ({quoted(list(versions))}) GROUP BY version"
    place = "(judged_at, checked_at)"
    checks = {
        version: found
        for version, *found in client.query(
            f"SELECT version, toUnixTimestamp64Micro(argMax(checked_at, {place})), argMax(verdict, {place}), "
            f"argMax(ece, {place}) FROM {DATABASE}.{MODEL_CHECKS.name} {among}"
        )
    }
    activated = dict(
        client.query(
            "SELECT version, toUnixTimestamp64Micro(max(activated_at)) "
            f"FROM {DATABASE}.{MODEL_ACTIVATIONS.name} {among}"
        )
    )
    return [Held(version, activated.get(version), *checks.get(version, (None, "", 0.0))) for version in versions]
