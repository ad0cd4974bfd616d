"""Scoring held still while states are swapped: what a worker has in memory was made from the states before.

Workers of the stack on this machine are stopped where they stand (SIGSTOP: they write no more), until Kafka has put
them out of their group: from then on it refuses their commits as well. They are killed afterwards; their supervisor
starts them anew, and they begin with what is in the table then. A kill at any moment costs nothing, see
docs/delivery.md. Workers elsewhere are not ours to stop: while their group has members nothing is swapped.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from infra.clickhouse.client import ClickHouse
from infra.embedded.state import ProcessId
from infra.kafka.admin import KafkaAdmin
from schemas.tables import CUSTOMER_STATE, DATABASE
from schemas.topics import CONSUMER_GROUP
from services.cli.addresses import running_stack
from services.cli.console import CommandError, ExitCode
from services.cli.settings import StackSettings
from services.cli.verification.deployment import Deployment

SCORING: Final = "scoring-"
EMPTY_S: Final = 60.0
"""A group puts out a member that stands still after its session's timeout, 10 s; more for a busy machine."""
STILL_S: Final = 60.0
"""What was on its way into the table when its worker was held may take this long to arrive."""
_POLL_S: Final = 0.1


@contextmanager
def held_workers(settings: StackSettings, found: Deployment) -> Iterator[None]:
    """No worker writes states inside. CommandError (the answer is no) when there are workers that cannot be held."""
    workers = _local_workers(settings, found)
    bootstrap = found.where.kafka_bootstrap
    _require_at_most(bootstrap, len(workers))
    try:
        for worker in workers:
            _send(worker, signal.SIGSTOP)
        deadline_s = time.monotonic() + (EMPTY_S if workers else 0.0)
        while _members(bootstrap) and time.monotonic() < deadline_s:
            time.sleep(_POLL_S)
        _require_at_most(bootstrap, 0)
        _until_still(found.client)
        yield
        # One that joined meanwhile may have read states of before.
        _require_at_most(bootstrap, 0)
    finally:
        for worker in workers:
            _send(worker, signal.SIGKILL)


def _local_workers(settings: StackSettings, found: Deployment) -> list[ProcessId]:
    """The scoring processes of the stack on this machine, if that is the one in question."""
    stack = running_stack(settings.data_dir)
    if stack is None or found.where.kafka_bootstrap != f"127.0.0.1:{stack.ports.get('kafka')}":
        return []
    recorded = [child.process for child in stack.children if child.name.startswith(SCORING)]
    return [process for process in recorded if process is not None and process.is_alive()]


def _members(bootstrap: str) -> int:
    with KafkaAdmin(bootstrap) as admin:
        return admin.group_state(CONSUMER_GROUP).members


def _require_at_most(bootstrap: str, ours: int) -> None:
    elsewhere = _members(bootstrap) - ours
    if elsewhere > 0:
        raise CommandError(
            f"{elsewhere} scoring workers run elsewhere (group {CONSUMER_GROUP}): they hold states in memory that were "
            "made from those before. End them, then rebuild with --swap; ingest and queries may go on",
            ExitCode.NO,
        )


def _send(worker: ProcessId, number: signal.Signals) -> None:
    if worker.is_alive():
        with suppress(ProcessLookupError):
            os.kill(worker.pid, number)


def _until_still(client: ClickHouse) -> None:
    """Wait until nothing that was sent before is still being written."""
    sql = (
        "SELECT count() FROM system.processes "
        f"WHERE query ILIKE 'INSERT INTO {DATABASE}.{CUSTOMER_STATE.name}%' AND is_initial_query"
    )
    deadline_s = time.monotonic() + STILL_S
    while client.query(sql) != [(0,)]:
        if time.monotonic() > deadline_s:
            raise CommandError(
                f"states are still being written after {STILL_S:.0f} s; nothing was swapped", ExitCode.UNREACHABLE
            )
        time.sleep(_POLL_S)
