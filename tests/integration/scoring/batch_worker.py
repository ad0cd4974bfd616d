"""A worker process for the record batch tests: writes down what it was handed, then acknowledges late.

    python batch_worker.py BROKERS TOPIC GROUP JOURNAL [MODE [ARGUMENT]]

The journal gets one line per fact: `assigned 0,1`, `revoked 0,1`, `done PARTITION OFFSET,OFFSET,...`,
`held RECORDS` (in all, mode `hang`).
Modes: `late` (default; effects take ARGUMENT seconds and overlap with the next call), `raise` (the handler
fails after ARGUMENT records), `hang` (nothing is ever acknowledged), `block` (the event loop stands still),
`wait` (the first call waits ARGUMENT seconds, far longer than the poll interval, behind a queue of one).
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from pathlib import Path

from faust.types import TP

from services.scoring.record_batches.app import StreamOptions, build_app
from services.scoring.record_batches.batch import RecordBatch
from services.scoring.record_batches.progress import ProgressRule
from services.scoring.record_batches.worker import run_worker


class Journal:
    def __init__(self, path: Path) -> None:
        self._file = path.open("a", buffering=1)

    def write(self, fact: str, detail: str) -> None:
        self._file.write(f"{fact} {detail}\n")


class Listener:
    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        self._journal.write("revoked", ",".join(str(tp.partition) for tp in sorted(revoked)))

    async def on_partitions_assigned(self, assigned: set[TP]) -> None:
        self._journal.write("assigned", ",".join(str(tp.partition) for tp in sorted(assigned)))


class Handler:
    """Effects run beside the next call, as the scoring shell's writes do."""

    def __init__(self, journal: Journal, mode: str, argument: float) -> None:
        self._journal = journal
        self._mode = mode
        self._argument = argument
        self._records = 0
        self._writes: set[asyncio.Task[None]] = set()
        self.waiting = False

    async def __call__(self, batches: list[RecordBatch]) -> None:
        self._records += sum(len(batch) for batch in batches)
        if self._mode == "raise" and self._records >= self._argument:
            raise RuntimeError("planted failure")
        if self._mode == "block":
            time.sleep(self._argument)
        if self._mode == "wait" and not self.waiting:
            self.waiting = True
            await asyncio.sleep(self._argument)  # the duration of an outage, not a wait for a condition
        if self._mode == "stuck":
            # A call of a library that does not come back; its thread outlives the loop.
            self._writes.add(asyncio.create_task(asyncio.to_thread(time.sleep, self._argument)))
            return
        if self._mode == "hang":
            self._journal.write("held", str(self._records))
            return
        task = asyncio.create_task(self._write(batches))
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)

    async def _write(self, batches: list[RecordBatch]) -> None:
        if self._mode == "late":
            await asyncio.sleep(self._argument)  # the duration of an effect, not a wait for a condition
        for batch in batches:
            assert all(value is not None for value in batch.values)
            assert len(batch.keys) == len(batch.offsets) == len(batch.timestamps_ms) == len(batch)
            self._journal.write("done", f"{batch.partition} {','.join(map(str, batch.offsets.tolist()))}")
            batch.acknowledge()


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    brokers, topic, group, journal_path, *rest = sys.argv[1:]
    mode = rest[0] if rest else "late"
    argument = float(rest[1]) if len(rest) > 1 else 0.05
    journal = Journal(Path(journal_path))
    options = StreamOptions(
        brokers=brokers,
        topic=topic,
        group=group,
        max_batch_records=2_000,
        max_fetch_bytes=256 * 1024,
        max_open_records=8_000,
        max_call_records=4_000,
        session_timeout_s=6.0,
        heartbeat_interval_s=1.0,
        rebalance_timeout_s=6.0,
        drain_timeout_s=2.5,
        max_poll_interval_s=2.0 if mode == "wait" else 60.0,
    )
    handler = Handler(journal, mode, argument)
    app = build_app(options, handler, Listener(journal))
    if mode == "wait":
        app.conf.stream_buffer_maxsize = 1
    rule: ProgressRule[TP] = ProgressRule(stall_s=3.0, blind_s=60.0)
    return run_worker(app, rule=rule, watch_every_s=0.5, excused=lambda: handler.waiting)


if __name__ == "__main__":
    sys.exit(main())
