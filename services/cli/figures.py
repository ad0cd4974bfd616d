"""What the running parts tell about themselves: lag, counts, verdicts. A part that does not answer is named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from pydantic import SecretStr

from infra.clickhouse.errors import ClickHouseError
from infra.clickhouse.settings import ClickHouseSettings
from infra.embedded.probes import http_get
from infra.kafka.errors import KafkaInfraError
from schemas.topics import ALERTING_GROUP, CONSUMER_GROUP, LOYALTY_SIGNALS, TOUCHPOINTS
from services.cli.addresses import Addresses
from services.cli.ask import ask
from services.cli.settings import StackSettings

TIMEOUT_S = 5.0
# Ingest's counters of events, from its start on: received = accepted + refused + retried.
INGEST_COUNTERS = "touchstone_ingest_events_"

Result = TypeVar("Result")

if TYPE_CHECKING:  # the client library loads when Kafka is asked
    from infra.kafka.stops import StopEntry

_STORED = """
WITH transform(log_partition, {partitions}, {committed}, 0) AS committed
SELECT countIf(kind != 'review_due'), countIf(kind = 'review_due'), countIf(log_offset < committed)
FROM touchstone.touchpoints FINAL
"""
_REPEATED = """
WITH transform(log_partition, {partitions}, {committed}, 0) AS committed
SELECT count(), countIf(conflict), countIf(log_offset < committed) FROM touchstone.repeated_events FINAL
"""
_REJECTED = """
WITH transform(log_partition, {partitions}, {committed}, 0) AS committed
SELECT countIf(stage = 'log'), countIf(stage = 'ingest'), countIf(stage = 'log' AND log_offset < committed)
FROM touchstone.rejected_events FINAL
"""
_ACTIVATIONS = """
WITH transform(log_partition, {partitions}, {committed}, 0) AS committed
SELECT countIf(log_offset < committed) FROM touchstone.model_activations FINAL
"""
_ALERTS = """
SELECT
    (SELECT count() FROM touchstone.loyalty_signals FINAL),
    (SELECT countIf(fate = 'waiting') FROM touchstone.alert_log FINAL)
"""
_CALLS = """
SELECT countIf(state = 'delivered'), countIf(state IN ('waiting', 'failing')), countIf(state = 'dead')
FROM touchstone.alert_deliveries
"""
_CASES = "SELECT countIf(state != 'closed'), countIf(overdue) FROM touchstone.cases"
_RESENT = "SELECT count() FROM touchstone.resent_events FINAL"


@dataclass(frozen=True, slots=True)
class Lag:
    """Where the scoring group stands, in records. ``committed`` and ``waiting`` by partition.

    ``stopped``: partitions that stand still under a flood of rejections.
    """

    accepted: int
    committed: dict[int, int]
    waiting: dict[int, int]
    members: int
    stopped: tuple[StopEntry, ...] = ()

    @property
    def waiting_total(self) -> int:
        return sum(self.waiting.values())


@dataclass(frozen=True, slots=True)
class Stored:
    """Events by what became of them, ever.

    ``resent``: of those rejected or refused how many were fixed and sent again; they count as events besides.
    ``unaccounted`` are committed records that no table has: always 0.
    """

    stored: int
    reviews: int
    duplicate: int
    conflicting: int
    rejected: int
    refused: int
    resent: int
    unaccounted: int


@dataclass(frozen=True, slots=True)
class AlertFigures:
    """Alerting: signals, what waits, how calls fared, and cases, ever.

    ``unread``: signals that alerting has not decided by; None while Kafka does not answer.
    """

    signals: int
    unread: int | None
    alerts_waiting: int
    calls_delivered: int
    calls_waiting: int
    calls_dead: int
    cases_open: int
    cases_overdue: int


@dataclass(slots=True)
class Figures:
    """All numbers that could be had; ``faults`` names the parts that did not answer, with the reason."""

    verdicts: dict[str, int] | None = None
    lag: Lag | None = None
    stored: Stored | None = None
    alerting: AlertFigures | None = None
    faults: dict[str, str] = field(default_factory=dict)


def gather(settings: StackSettings, where: Addresses) -> Figures:
    """Ask every part; takes at most a few seconds for each that does not answer."""
    figures = Figures()
    figures.verdicts = _asked(figures, "ingest", lambda: read_verdicts(where))
    figures.lag = _asked(figures, "kafka", lambda: read_lag(where))
    committed = figures.lag.committed if figures.lag is not None else {}
    figures.stored = _asked(figures, "clickhouse", lambda: read_stored(settings, where, committed))
    if figures.stored is not None:
        unread = None if figures.lag is None else _asked(figures, "kafka", lambda: read_unread(where))
        figures.alerting = _asked(figures, "clickhouse", lambda: read_alert_figures(settings, where, unread))
    return figures


def _asked(figures: Figures, part: str, ask: Callable[[], Result]) -> Result | None:
    try:
        return ask()
    except (KafkaInfraError, ClickHouseError, ConnectionError) as error:
        figures.faults[part] = str(error)
        return None


def read_verdicts(where: Addresses) -> dict[str, int]:
    """Events received, accepted, refused, ... by ingest since its start. ConnectionError when it does not answer."""
    status, body = http_get(where.ingest_host, where.ingest_port, "/metrics", timeout_s=TIMEOUT_S)
    if status != 200:
        raise ConnectionError(f"ingest at {where.ingest_url} does not answer: {body if status == 0 else status}")
    from prometheus_client.parser import text_string_to_metric_families

    counts: dict[str, int] = {}
    for family in text_string_to_metric_families(body):
        totals = [sample.value for sample in family.samples if sample.name == f"{family.name}_total"]
        if family.name.startswith(INGEST_COUNTERS) and totals:
            counts[family.name.removeprefix(INGEST_COUNTERS)] = int(sum(totals))
    return counts


def read_lag(where: Addresses) -> Lag:
    """Positions of the scoring group on the journal. KafkaInfraError when it cannot be had."""
    from infra.kafka.admin import KafkaAdmin
    from infra.kafka.stops import StopRegister

    with KafkaAdmin(where.kafka_bootstrap, timeout_s=TIMEOUT_S) as admin:
        lags = admin.group_lag(CONSUMER_GROUP, TOUCHPOINTS)
        members = admin.group_state(CONSUMER_GROUP).members
    committed = {at.partition: at.committed or 0 for at in lags}
    # One that was let go on in another way, such as by a setting, is past what it told.
    stopped = tuple(
        stop
        for stop in StopRegister(where.kafka_bootstrap, timeout_s=TIMEOUT_S).stops()
        if committed.get(stop.partition, 0) <= stop.offset
    )
    return Lag(sum(at.end for at in lags), committed, {at.partition: at.lag for at in lags}, members, stopped)


def read_stored(settings: StackSettings, where: Addresses, committed: dict[int, int]) -> Stored:
    """Counts of the tables. ``committed`` must have been read before. ClickHouseError when they cannot be had."""
    partitions = {
        "partitions": list(committed) or [0],
        "committed": list(committed.values()) or [0],
    }
    clickhouse = clickhouse_settings(settings, where)
    [(stored, reviews, stored_below)] = ask(clickhouse, _STORED.format(**partitions))
    [(repeated, conflicting, repeated_below)] = ask(clickhouse, _REPEATED.format(**partitions))
    [(rejected, refused, rejected_below)] = ask(clickhouse, _REJECTED.format(**partitions))
    [(activations_below,)] = ask(clickhouse, _ACTIVATIONS.format(**partitions))
    [(resent,)] = ask(clickhouse, _RESENT)
    accounted = stored_below + repeated_below + rejected_below + activations_below
    unaccounted = sum(committed.values()) - accounted
    return Stored(stored, reviews, repeated, conflicting, rejected, refused, resent, unaccounted)


def read_unread(where: Addresses) -> int:
    """Signals that alerting has not decided by. KafkaInfraError when it cannot be had."""
    from infra.kafka.admin import KafkaAdmin

    with KafkaAdmin(where.kafka_bootstrap, timeout_s=TIMEOUT_S) as admin:
        return sum(at.lag for at in admin.group_lag(ALERTING_GROUP, LOYALTY_SIGNALS))


def read_alert_figures(settings: StackSettings, where: Addresses, unread: int | None) -> AlertFigures:
    """Counts of alerting. ClickHouseError when they cannot be had."""
    clickhouse = clickhouse_settings(settings, where)
    [(signals, waiting)] = ask(clickhouse, _ALERTS)
    [(delivered, calls_waiting, dead)] = ask(clickhouse, _CALLS)
    [(cases, overdue)] = ask(clickhouse, _CASES)
    return AlertFigures(signals, unread, waiting, delivered, calls_waiting, dead, cases, overdue)


def clickhouse_settings(settings: StackSettings, where: Addresses, *, reader: bool = False) -> ClickHouseSettings:
    """How a command reaches ClickHouse, with either login: it waits little and does not try again."""
    credentials = settings.credentials()
    return ClickHouseSettings(
        host=where.clickhouse_host,
        port=where.clickhouse_port,
        http_port=where.clickhouse_http_port,
        user=settings.clickhouse_reader if reader else settings.clickhouse_user,
        password=SecretStr(credentials.reader if reader else credentials.owner),
        connect_timeout_s=int(TIMEOUT_S),
        retry_s=0,
    )
