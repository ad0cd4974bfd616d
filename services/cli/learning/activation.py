"""A risk model made to judge: one event in each partition of the log, and the wait until the tables show it.

The log decides: what stands behind the event in its partition is judged by the model, whoever reads it and when. What
is done here can be broken off and done again at any time; a partition that has the model already gets no second event.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from infra.clickhouse import activations
from infra.clickhouse.client import ClickHouse, connect
from infra.kafka.admin import KafkaAdmin
from infra.kafka.publish import Publisher
from schemas.activation import CUSTOMER, MAX_PARAMETERS_BYTES, Activation, encode_activation
from schemas.reasons import Reason
from schemas.rejected import STAGE_LOG
from schemas.tables import DATABASE, MODELS, REJECTED_EVENTS
from schemas.topics import CONSUMER_GROUP, TOUCHPOINTS
from services.cli.addresses import locate
from services.cli.console import CommandError, ExitCode
from services.cli.figures import clickhouse_settings
from services.cli.settings import StackSettings
from services.cli.verification.deployment import base_model
from services.scoring.risk.model import ModelError, RiskModel
from services.scoring.timeline import usable_model

SHOWN_S: Final = 60.0
"""A worker that is not behind writes an activation within a second; a rebalance after a kill takes 10."""
_POLL_S: Final = 0.1
_REFUSALS: Final = (Reason.UNUSABLE_MODEL, Reason.UNKNOWN_SCHEMA, Reason.OUT_OF_CONTRACT)


@dataclass(frozen=True, slots=True)
class Activated:
    """What came of it. The model judges in every partition if ``complete``; else what is said in `told`."""

    version: str
    activated_at_us: int
    """received_at of the events; of those before if none was sent."""
    partitions: tuple[int, ...]
    """All of the log's."""
    sent: tuple[int, ...]
    """Those that got an event now; all others had the model."""
    waiting: tuple[int, ...] = ()
    """Those whose event the tables do not show yet. It is in the log and counts as soon as a worker reads it."""
    refused: Mapping[int, str] | None = None
    """Why, by partition, where a worker refused the event: it does not count, and the former model goes on judging."""
    workers: int = 0
    """In the scoring group, when the wait was over."""

    @property
    def complete(self) -> bool:
        return not self.waiting and not self.refused

    def told(self) -> str:
        """One sentence for a person."""
        if self.refused:
            places = "; ".join(f"partition {at}: {why}" for at, why in sorted(self.refused.items()))
            return (
                f"workers refused model {self.version} ({places}). The former model goes on judging there: upgrade all "
                "workers if theirs is an older version, then activate it again"
            )
        if self.waiting:
            where = f"partition{'s' * (len(self.waiting) > 1)} {', '.join(map(str, self.waiting))}"
            why = "the scoring workers have not got there yet" if self.workers else "no scoring worker runs"
            return f"model {self.version} is activated in the log; {why}: it judges in {where} once they do"
        if not self.sent:
            return f"model {self.version} is active already"
        return f"model {self.version} judges from now on, in all {len(self.partitions)} partitions"


def activate(
    settings: StackSettings, version: str, parameters: str, now_us: int, *, shown_s: float = SHOWN_S
) -> Activated:
    """Make a model judge everything that follows in the log.

    ``parameters``: `RiskModel.to_json` of it. ``now_us``: the moment of activation; later than any before it will be
    used if the clock was put back. ``shown_s``: longest wait for the tables to show it.

    Done again it changes nothing, and completes what was broken off. CommandError (wrong use) when the model cannot
    judge here; KafkaInfraError and ClickHouseError when it could not be done: then some partitions may have the event
    already, so do it again.
    """
    where = locate(settings)
    with KafkaAdmin(where.kafka_bootstrap) as admin, connect(clickhouse_settings(settings, where)) as client:
        model = _usable(version, parameters, base_model(client).activity_kinds)
        partitions = tuple(sorted(admin.end_offsets(TOUCHPOINTS)))
        _require_one_meaning(client, model)
        active = {at for at, latest in activations.latest(client).items() if _same(latest, model)}
        lacking = tuple(at for at in partitions if at not in active)
        at_us = _later_than_all(client, now_us) if lacking else _last(client, version)
        if lacking:
            _send(where.kafka_bootstrap, model, parameters, lacking, at_us)
        waiting, refused = _until_shown(client, model, lacking, at_us, shown_s)
        workers = admin.group_state(CONSUMER_GROUP).members
    return Activated(version, at_us, partitions, lacking, waiting, refused, workers)


def _usable(version: str, parameters: str, counted: tuple[str, ...]) -> RiskModel:
    if len(parameters.encode()) > MAX_PARAMETERS_BYTES:
        raise CommandError(
            f"risk model {version} has more than {MAX_PARAMETERS_BYTES:,} bytes: too many for a record of the log",
            ExitCode.WRONG_USE,
        )
    try:
        return usable_model(version, parameters, counted)
    except ModelError as error:
        raise CommandError(f"it cannot be activated: {error}", ExitCode.WRONG_USE) from error


def _same(activation: Activation, model: RiskModel) -> bool:
    return activation.version == model.version and _says(activation.parameters, model)


def _says(parameters: str, model: RiskModel) -> bool:
    try:
        return RiskModel.from_json(parameters) == model
    except ModelError:  # of a release whose models had other numbers
        return False


def _require_one_meaning(client: ClickHouse, model: RiskModel) -> None:
    """Judgements name the version alone, so it must stand for one set of numbers."""
    for (parameters,) in client.query(
        f"SELECT DISTINCT parameters FROM {DATABASE}.model_activations WHERE version = %(version)s",
        {"version": model.version},
    ):
        if not _says(parameters, model):
            raise CommandError(
                f"a risk model {model.version} with other numbers has been active: give this one another version",
                ExitCode.WRONG_USE,
            )


def _later_than_all(client: ClickHouse, now_us: int) -> int:
    """The views go by the time of activation, the log by its order: the two must not disagree."""
    [(latest_us,)] = client.query(f"SELECT toUnixTimestamp64Micro(max(activated_at)) FROM {DATABASE}.{MODELS.name}")
    return max(now_us, int(latest_us) + 1)


def _last(client: ClickHouse, version: str) -> int:
    return max(at.activated_at_us for at in activations.latest(client).values() if at.version == version)


def _send(bootstrap: str, model: RiskModel, parameters: str, partitions: tuple[int, ...], at_us: int) -> None:
    publisher = Publisher(bootstrap)
    try:
        publisher.publish(
            TOUCHPOINTS,
            [CUSTOMER] * len(partitions),
            [encode_activation(model.version, parameters, at, at_us) for at in partitions],
            at_us // 1000,
            partitions,
        )
    finally:
        publisher.close()


def _until_shown(
    client: ClickHouse, model: RiskModel, partitions: tuple[int, ...], at_us: int, shown_s: float
) -> tuple[tuple[int, ...], dict[int, str]]:
    """Partitions that do not show the activation in time, and why workers refused it where they did."""
    deadline_s = time.monotonic() + shown_s
    while True:
        shown = {
            at
            for (at,) in client.query(
                f"SELECT log_partition FROM {DATABASE}.model_activations WHERE version = %(version)s "
                f"AND toUnixTimestamp64Micro(activated_at) = {at_us}",
                {"version": model.version},
            )
        }
        refused = {at: why for at, why in _refusals(client, at_us).items() if at in partitions and at not in shown}
        waiting = tuple(at for at in partitions if at not in shown and at not in refused)
        if not waiting or time.monotonic() > deadline_s:
            return waiting, refused
        time.sleep(_POLL_S)


def _refusals(client: ClickHouse, at_us: int) -> dict[int, str]:
    """Records of the moment that workers rejected: their timestamp is the activation's, to the millisecond."""
    reasons = ", ".join(f"'{reason}'" for reason in _REFUSALS)
    rows = client.query(
        f"SELECT log_partition, detail FROM {DATABASE}.{REJECTED_EVENTS.name} WHERE stage = '{STAGE_LOG}' "
        f"AND reason IN ({reasons}) AND toUnixTimestamp64Milli(rejected_at) = {at_us // 1000} "
        f"AND position(payload, %(customer)s) > 0",
        {"customer": CUSTOMER},
    )
    return dict(rows)
