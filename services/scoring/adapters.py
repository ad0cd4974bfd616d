"""The stream's ports over ClickHouse and Kafka. Part of the composition root: nothing else imports it."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from infra.clickhouse import activations, checks, events, signals, states
from infra.clickhouse.client import ClickHouse, quoted
from infra.kafka.follow import Followed
from infra.kafka.publish import Publisher
from schemas.activation import Activation
from schemas.rejected import STAGE_INGEST, STAGE_LOG, encode_rejected
from schemas.signal import encode_signals
from schemas.tables import DATABASE, REJECTED_EVENTS, REPEATED_EVENTS
from schemas.topics import LOYALTY_SIGNALS as SIGNALS_TOPIC
from schemas.topics import REJECTED, TOUCHPOINTS
from services.scoring.cache import StoredStates
from services.scoring.due import due_sql
from services.scoring.model_checks import ModelCheck
from services.scoring.ports import RejectedRecord, RepeatedEvent, StateRows
from services.scoring.refusals import refusal
from services.scoring.risk.model import DEFAULT, RiskModel
from services.scoring.state import Ints

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
DEFAULTS: Final = "default-"
"""How the versions of documented defaults begin."""


def moment(us: int) -> datetime:
    """Microseconds since 1970 as the time the native protocol wants."""
    return _EPOCH + timedelta(microseconds=us)


class ClickHouseTables:
    """`ports.Tables` over a ClickHouse server. Threads may share it."""

    def __init__(self, client: ClickHouse) -> None:
        self._client = client

    def load_states(self, customers: Sequence[str]) -> StoredStates:
        return states.load(self._client, customers)

    def find_earlier(self, keys: Sequence[tuple[str, bytes]]) -> pl.DataFrame:
        return events.find_earlier(self._client, keys)

    def load_activations(self, partition: int, before: int) -> list[Activation]:
        return activations.load(self._client, partition, before)

    def load_checks(self, versions: Sequence[str]) -> list[ModelCheck]:
        """What is known of some models: when they were activated, when they were checked, what was found."""
        return [
            ModelCheck(
                version=held.version,
                activated_s=None if held.activated_at_us is None else held.activated_at_us / 1e6,
                checked_s=None if held.checked_at_us is None else held.checked_at_us / 1e6,
                drifted={"drifted": True, "holds": False}.get(held.verdict),
                calibration_error=None if held.checked_at_us is None else held.ece,
            )
            for held in checks.latest_checks(self._client, versions)
        ]

    def write_activations(self, some: Sequence[Activation]) -> None:
        activations.write(self._client, some)

    def write_events(
        self,
        frame: pl.DataFrame,
        valence: npt.NDArray[np.float32],
        weight: npt.NDArray[np.float32],
        partitions: Ints,
        offsets: Ints,
    ) -> None:
        events.write_events(self._client, frame, valence, weight, partitions, offsets)

    def write_rejected(self, records: Sequence[RejectedRecord]) -> None:
        self._client.insert_rows(
            REJECTED_EVENTS.name,
            REJECTED_EVENTS.names,
            [
                (
                    STAGE_LOG,
                    record.log_partition,
                    record.log_offset,
                    moment(record.rejected_at_us),
                    record.reason,
                    "",
                    record.detail,
                    "",
                    "",
                    record.payload,
                )
                for record in records
            ],
        )

    def rejected_offsets(self, partition: int, first: int, before: int) -> list[int]:
        """Offsets of a partition's rejected records from ``first`` on and below ``before``, ascending."""
        rows = self._client.query(
            f"SELECT DISTINCT log_offset FROM {DATABASE}.{REJECTED_EVENTS.name} WHERE stage = '{STAGE_LOG}' "
            f"AND log_partition = {partition} AND log_offset >= {first} AND log_offset < {before} ORDER BY log_offset"
        )
        return [offset for (offset,) in rows]

    def write_refusals(self, records: Sequence[Followed]) -> None:
        """Keep what ingest refused, from topic ``rejected``."""
        read = [refusal(record.partition, record.offset, record.timestamp_ms, record.value) for record in records]
        self._client.insert_rows(
            REJECTED_EVENTS.name,
            REJECTED_EVENTS.names,
            [
                (
                    STAGE_INGEST,
                    row.log_partition,
                    row.log_offset,
                    moment(row.rejected_at_us),
                    row.reason,
                    row.field,
                    row.detail,
                    row.source,
                    row.customer_id,
                    row.payload,
                )
                for row in read
                if row is not None
            ],
        )

    def write_repeated(self, repeated: Sequence[RepeatedEvent]) -> None:
        self._client.insert_rows(
            REPEATED_EVENTS.name,
            REPEATED_EVENTS.names,
            [
                (
                    event.log_partition,
                    event.log_offset,
                    moment(event.received_at_us),
                    event.customer_id,
                    event.event_id,
                    event.conflict,
                )
                for event in repeated
            ],
        )

    def write_signals(self, frame: pl.DataFrame) -> None:
        signals.write_signals(self._client, frame)

    def save_states(self, rows: StateRows) -> None:
        # The store asks for the members, not for the type.
        states.save(self._client, rows)  # type: ignore[arg-type]

    def crossings(self, partitions: Sequence[int], limit: int, base: RiskModel) -> list[tuple[str, int, int]]:
        """Customers whose band as of now is another than their state's: (customer_id, log_partition, log_offset).

        ``base`` judges where the log has activated no other.
        """
        latest = {at: last.parameters for at, last in activations.latest(self._client).items()}
        # One that counted other behaviours judged by states that are gone.
        judging = {at: text for at, text in latest.items() if _counts(text) == set(base.activity_kinds)}
        statements = due_sql(partitions, judging, limit, lambda text: quoted([text]), base.to_json())
        rows = [row for statement in statements for row in self._client.query(statement)]
        return [(customer, partition, offset) for customer, partition, offset in rows[:limit]]

    def base_model(self) -> RiskModel:
        """The documented default that judges where the log has activated no other: with the kinds that the states count
        as coming back. ModelError when its row cannot be read."""
        stored = activations.documented(self._client, DEFAULT.version)
        return DEFAULT if stored is None else RiskModel.from_json(stored)

    def show_default(self) -> list[str]:
        """Show the documented default, which judges where the log has activated no other. Returns the models that are
        shown as active all the same without an event in the log: they do not judge."""
        if activations.documented(self._client, DEFAULT.version) is None:
            activations.show_default(self._client, DEFAULT.version, DEFAULT.to_json(), DEFAULTS)
        return [version for version in activations.unlogged(self._client) if not version.startswith(DEFAULTS)]


@functools.lru_cache(maxsize=64)
def _counts(parameters: str) -> frozenset[str]:
    """What a model counts as coming back."""
    return frozenset(RiskModel.from_json(parameters).activity_kinds)


class KafkaTopics:
    """`ports.Topics` over a Kafka cluster. For one thread at a time."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher

    def publish_signals(self, frame: pl.DataFrame) -> None:
        judged_us = frame.get_column("judged_at").to_numpy()
        self._publisher.publish(
            SIGNALS_TOPIC,
            frame.get_column("customer_id").to_list(),
            encode_signals(frame),
            int(judged_us.max()) // 1000,
        )

    def publish_rejected(self, records: Sequence[RejectedRecord]) -> None:
        self._publisher.publish(
            REJECTED,
            [f"{record.log_partition}:{record.log_offset}" for record in records],
            [
                encode_rejected(
                    stage=STAGE_LOG,
                    received_at_us=record.rejected_at_us,
                    reason=record.reason,
                    field="",
                    detail=f"{record.log_partition}:{record.log_offset}: {record.detail}",
                    payload=record.payload,
                )
                for record in records
            ],
            max(record.rejected_at_us for record in records) // 1000,
        )

    def publish_reviews(self, customers: Sequence[str], values: Sequence[bytes], timestamp_ms: int) -> None:
        """`reviews.Publish`."""
        self._publisher.publish(TOUCHPOINTS, customers, values, timestamp_ms)
