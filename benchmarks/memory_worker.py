"""A scoring worker whose tables are memory alone: Faust, record batches and the core, as `services.scoring.main`.

``--read-only`` leaves the core out too: what is left is fetching and committing.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from typing import Any, Final

from benchmarks.memory_tables import MemoryTables
from schemas.topics import CONSUMER_GROUP, TOUCHPOINTS
from services.scoring import readings
from services.scoring.cache import StateCache
from services.scoring.core import Core
from services.scoring.record_batches.app import StreamOptions, build_app
from services.scoring.record_batches.batch import RecordBatch
from services.scoring.record_batches.worker import run_worker
from services.scoring.risk.model import DEFAULT
from services.scoring.settings import ScoringSettings
from services.scoring.shell import Shell, ShellLimits
from services.scoring.step import Scorer


class _Reader:
    """Takes record batches and does nothing."""

    async def handle(self, batches: list[RecordBatch]) -> None:
        for batch in batches:
            batch.acknowledge()

    async def on_partitions_revoked(self, revoked: set[Any]) -> None:
        """Nothing is kept."""

    async def on_partitions_assigned(self, assigned: set[Any]) -> None:
        """Nothing is kept."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory_worker", description=__doc__)
    parser.add_argument("--read-only", action="store_true")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    settings = ScoringSettings()
    stream = StreamOptions(settings.kafka_bootstrap, TOUCHPOINTS, CONSUMER_GROUP)
    if settings.ready_file is not None:
        settings.ready_file.touch()
    if options.read_only:
        reader = _Reader()
        return run_worker(build_app(stream, reader.handle, reader))
    scorer = Scorer.of(DEFAULT)
    tables: Final = MemoryTables()
    core = Core(
        StateCache(settings.cache_customers, scorer.touchpoints, scorer.models),
        scorer,
        readings.shipped(),
        tables,
        lambda: os.urandom(8),
    )
    limits = ShellLimits(settings.max_unwritten_records, settings.write_interval_ms / 1000)
    shell = Shell(core, tables, tables, limits, ())
    app = build_app(stream, shell.handle, shell)
    app.beside(shell.run)
    return run_worker(app)


if __name__ == "__main__":
    sys.exit(main())
