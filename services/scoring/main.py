"""A scoring worker: `python -m services.scoring.main`. The pipeline, readable from top to bottom."""

from __future__ import annotations

import logging
import os
import sys
import time
from pathlib import Path
from typing import Final

from faust.types import TP
from prometheus_client import start_http_server
from pydantic import ValidationError

from infra.clickhouse.client import connect
from infra.clickhouse.errors import ClickHouseError
from infra.clickhouse.errors import TransientError as TablesTransientError
from infra.clickhouse.settings import ClickHouseSettings
from infra.kafka.errors import ClusterUnreachableError
from infra.kafka.follow import Follower
from infra.kafka.publish import Publisher
from infra.kafka.stops import StopRegister
from infra.logs import LogSettings, set_up
from infra.memory import memory_limit_bytes
from schemas.topics import CONSUMER_GROUP, REJECTED, REJECTED_GROUP, TOUCHPOINTS
from services.scoring import metrics, readings
from services.scoring.adapters import ClickHouseTables, KafkaTopics
from services.scoring.cache import StateCache
from services.scoring.core import Core
from services.scoring.flood import FloodLimit, Floods
from services.scoring.halts import Halts
from services.scoring.metered import metered
from services.scoring.model_checks import ModelChecks
from services.scoring.record_batches.app import StreamOptions, build_app
from services.scoring.record_batches.worker import run_worker
from services.scoring.reviews import Reviews
from services.scoring.risk.model import ModelError
from services.scoring.settings import ScoringSettings
from services.scoring.shell import Shell, ShellLimits
from services.scoring.step import Scorer

_log: Final = logging.getLogger("touchstone.scoring")

EXIT_WRONG_SETTINGS: Final = 2
EXIT_UNREACHABLE: Final = 3
MOST_RETRY_S: Final = 2
"""The shell tries again for ever, and says meanwhile that it waits. A client that tried again by itself for longer
would look like a worker that is stuck."""
STEP_LIMIT_S: Final = 30.0
"""A worker that folded or wrote something this lately is not stuck."""
TRANSIENT: Final = (TablesTransientError, ClusterUnreachableError)


def now_us() -> int:
    """The process's clock, microseconds UTC."""
    return time.time_ns() // 1000


def main() -> int:
    """Run until SIGTERM; returns the exit code."""
    try:
        settings, where, logs = ScoringSettings(), ClickHouseSettings(), LogSettings()
    except ValidationError as error:
        print(f"wrong settings: {error}", file=sys.stderr)
        return EXIT_WRONG_SETTINGS
    set_up(settings.log_level, logs)
    try:
        with connect(where) as patient:
            unlogged = ClickHouseTables(patient).show_default()
            base = ClickHouseTables(patient).base_model()
    except (ClickHouseError, ModelError) as error:
        _log.error("the tables cannot be used: %s", error)
        return EXIT_UNREACHABLE
    for version in unlogged:
        _log.warning("model %s does not judge: the log does not activate it; see `touchstone models activate`", version)
    client = connect(where.model_copy(update={"retry_s": min(where.retry_s, MOST_RETRY_S)}))
    tables = metered(ClickHouseTables(client))
    scorer = Scorer.of(base)
    cache = StateCache(settings.cache_customers, scorer.touchpoints, scorer.models)
    register = StopRegister(settings.kafka_bootstrap)
    floods = (
        Floods(
            FloodLimit(settings.flood_rejected, settings.flood_window_records),
            ClickHouseTables(client).rejected_offsets,
            register.released_until,
        )
        if settings.flood_rejected
        else None
    )
    core = Core(cache, scorer, readings.shipped(), tables, lambda: os.urandom(8), floods)

    async def go_on(partition: int, until: int) -> None:
        await shell.release(partition, until)
        await app.go_on(TP(TOUCHPOINTS, partition))

    halts = Halts(register, lambda partition, at: app.halt(TP(TOUCHPOINTS, partition), at), go_on, TRANSIENT)
    shell = Shell(
        core,
        tables,
        metered(KafkaTopics(Publisher(settings.kafka_bootstrap))),
        ShellLimits(settings.max_unwritten_records, settings.write_interval_ms / 1000),
        TRANSIENT,
        metrics.count,
        halts,
    )
    reviews = Reviews(
        lambda partitions, limit: tables.crossings(partitions, limit, base),
        metered(KafkaTopics(Publisher(settings.kafka_bootstrap))).publish_reviews,
        lambda: shell.partitions,
        lambda: shell.behind or shell.importing,
        now_us,
        settings.review_interval_s,
        TRANSIENT,
    )
    app = build_app(
        StreamOptions(
            settings.kafka_bootstrap,
            TOUCHPOINTS,
            CONSUMER_GROUP,
            # One set being written, one being folded.
            max_open_records=2 * settings.max_unwritten_records,
            max_open_bytes=settings.max_open_bytes,
        ),
        shell.handle,
        shell,
    )
    app.beside(shell.run)
    app.beside(halts.run)
    metrics.STOPPED.set_function(lambda: len(halts))
    app.beside(lambda: _review(reviews, settings.ready_file))
    metrics.watch_cache(cache)

    def judging() -> dict[int, str]:
        return {at: version for at, version in core.timeline.current().items() if at in shell.partitions}

    metrics.MODELS.set_function(judging)
    checks = ModelChecks(tables.load_checks, lambda: judging().values(), (ClickHouseError,))
    app.beside(checks.run)
    metrics.MODEL_CHECKS.set_function(lambda: checks.latest)
    metrics.watch_shell(shell)
    metrics.watch_memory(app.ledger, settings.max_open_bytes, 2 * settings.max_unwritten_records, memory_limit_bytes())
    metrics.REVIEWS.set_function(lambda: reviews.appended)
    if settings.metrics_port:
        # Several workers of one machine are told the same port.
        start_http_server(settings.metrics_port + settings.worker - 1, settings.metrics_host, metrics.REGISTRY)
    _log.info("worker %d judges with model %s where the log activates no other", settings.worker, base.version)
    follower = Follower(
        settings.kafka_bootstrap, REJECTED, REJECTED_GROUP, metrics.counting_refusals(tables.write_refusals)
    )
    follower.start()
    try:
        # Positions move when a set is written; on a busy machine a large one takes its time, and that is no stall.
        return run_worker(
            app,
            excused=lambda: shell.waiting_for_tables or shell.idle_s() < STEP_LIMIT_S,
            on_sight=metrics.sighted,
        )
    finally:
        follower.stop()
        client.close()


async def _review(reviews: Reviews, ready_file: Path | None) -> None:
    if ready_file is not None:
        ready_file.parent.mkdir(parents=True, exist_ok=True)
        ready_file.touch()
    await reviews.run()


if __name__ == "__main__":
    sys.exit(main())
