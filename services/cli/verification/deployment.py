"""What a check works on: the tables, the log, how far the stream has come, and the model that judges at first."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from infra.clickhouse import activations
from infra.clickhouse.client import ClickHouse, connect
from infra.kafka.admin import KafkaAdmin
from schemas.topics import CONSUMER_GROUP, TOUCHPOINTS
from services.cli.addresses import Addresses, locate
from services.cli.figures import clickhouse_settings
from services.cli.reading import quiet_driver
from services.cli.settings import StackSettings
from services.scoring.risk.model import DEFAULT, RiskModel

STATEMENT_S: Final = 600
"""A recompute may read a whole table."""
RETRY_S: Final = 30
"""How long a statement that failed for a passing reason is tried again."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """Positions are by partition, read before anything else: what is committed is in the tables."""

    client: ClickHouse
    where: Addresses
    begins: dict[int, int]
    """Offset of the oldest record that the log still has."""
    committed: dict[int, int]
    """Records below are done with: their effects are written."""
    model: RiskModel
    """Judges where the log has activated no other."""
    unlogged: tuple[str, ...]
    """Models that have judged without an event in the log that says from where on: those of releases that chose the
    model otherwise."""

    @property
    def log_is_whole(self) -> bool:
        """Nothing has been deleted from its beginning."""
        return not any(self.begins.values())


def positions(bootstrap: str) -> tuple[dict[int, int], dict[int, int]]:
    """Where the log begins and how far the stream has committed, by partition. KafkaInfraError."""
    with KafkaAdmin(bootstrap) as admin:
        committed = {at.partition: at.committed or 0 for at in admin.group_lag(CONSUMER_GROUP, TOUCHPOINTS)}
        return admin.beginning_offsets(TOUCHPOINTS), committed


def end_of(bootstrap: str, partition: int) -> int:
    """Offset that the next record of a partition of the log gets. KafkaInfraError."""
    with KafkaAdmin(bootstrap) as admin:
        return admin.end_offsets(TOUCHPOINTS)[partition]


@contextmanager
def deployment(settings: StackSettings) -> Iterator[Deployment]:
    """The running system that the settings name. Raises what Kafka's and ClickHouse's clients raise."""
    quiet_driver()
    where = locate(settings)
    begins, committed = positions(where.kafka_bootstrap)
    patient = clickhouse_settings(settings, where).model_copy(update={"timeout_s": STATEMENT_S, "retry_s": RETRY_S})
    with connect(patient) as client:
        unlogged = tuple(name for name in activations.unlogged(client) if not is_documented(name))
        yield Deployment(client, where, begins, committed, base_model(client), unlogged)


def base_model(client: ClickHouse) -> RiskModel:
    """The documented default, with the kinds that the states count as coming back. ModelError, ClickHouseError."""
    stored = activations.documented(client, DEFAULT.version)
    return DEFAULT if stored is None else RiskModel.from_json(stored)


def is_documented(version: str) -> bool:
    """Whether a model is this release's documented default, or a variant of it."""
    return version.split("+")[0] == DEFAULT.version
