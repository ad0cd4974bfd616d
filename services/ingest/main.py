"""The ingest process: ``python -m services.ingest.main``. Settings come from the environment."""

from __future__ import annotations

import gc
import sys

import uvicorn
from pydantic import ValidationError

from infra.guarded_http import HEAD_TIMEOUT_S, Server, guarded
from infra.kafka.errors import KafkaInfraError
from infra.kafka.producer import LogProducer, QueueFullError
from infra.logs import LogSettings, set_up
from infra.memory import memory_limit_bytes
from services.ingest.app import Edge, make_app
from services.ingest.metrics import Metrics
from services.ingest.settings import IngestSettings, SettingsError, load
from services.ingest.writer import Writer


def make_server(settings: IngestSettings) -> uvicorn.Server:
    """Everything wired; nothing listens yet."""
    metrics = Metrics()
    metrics.limits(
        inflight_bytes=settings.max_inflight_bytes,
        queued_records=settings.max_queued_records,
        memory_bytes=memory_limit_bytes(),
    )
    producer = LogProducer(
        settings.kafka_bootstrap,
        linger_ms=settings.linger_ms,
        # The client gives up first, so that it is the one to say which records are not in the log.
        delivery_timeout_ms=int(settings.delivery_timeout_s * 1_000),
        max_records=settings.max_queued_records,
    )
    writer = Writer(
        producer,
        busy=QueueFullError,
        delivery_timeout_s=settings.delivery_timeout_s + 1,
        metrics=metrics,
    )
    app = make_app(Edge(settings, writer, metrics), writer, settings)
    return Server(
        uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            loop="uvloop",
            http=guarded(min(HEAD_TIMEOUT_S, settings.receive_timeout_s)),
            ws="none",
            lifespan="on",
            access_log=False,
            server_header=False,
            proxy_headers=False,  # limits go by the address that connects; anybody can write a header
            log_level=settings.log_level,
            log_config=None,  # as everything else: infra.logs
            limit_concurrency=settings.max_connections,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=max(1, int(settings.stop_timeout_s)),
        )
    )


def main() -> int:
    """Serve until SIGTERM or SIGINT; returns the exit code."""
    try:
        settings = load()
        set_up(settings.log_level, LogSettings())
        server = make_server(settings)
    except (SettingsError, ValidationError, KafkaInfraError) as error:
        sys.stderr.write(f"ingest: {error}\n")
        return 2
    # What is loaded by now stays. Each batch makes thousands of short-lived containers without a cycle among them,
    # which the collector would walk again and again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    server.run()
    return 0 if server.started else 3


if __name__ == "__main__":
    sys.exit(main())
