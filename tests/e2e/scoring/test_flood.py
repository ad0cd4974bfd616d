"""A partition full of junk stops with an alarm, the others go on; an operator lets it through; the sums are even."""

from __future__ import annotations

import time
from typing import Any

import orjson
import pytest
import typer
from confluent_kafka import Producer

from infra.clickhouse.client import ClickHouse
from schemas.decode import MARKER_BYTES, decode
from schemas.topics import TOUCHPOINTS
from services.cli.rejected import rejected
from services.cli.status import status
from tests.e2e.checker import Expected, check
from tests.e2e.scoring.load import Producing, make_load
from tests.e2e.scoring.parts import DEADLINE_S, NO_REVIEWS, Machine, Part

pytestmark = pytest.mark.stack

SEED = 20_260_307
POISONED = 3
LIMIT = 200
SETTINGS = {
    **NO_REVIEWS,
    "TOUCHSTONE_SCORING_WRITE_INTERVAL_MS": "20",
    "TOUCHSTONE_SCORING_FLOOD_REJECTED": str(LIMIT),
    "TOUCHSTONE_SCORING_FLOOD_WINDOW_RECORDS": "400",
}


def poison(stage: Machine, records: int) -> None:
    producer = Producer({"bootstrap.servers": stage.bootstrap, "linger.ms": 20})
    for number in range(records):
        producer.produce(TOUCHPOINTS, b"not an event %d" % number, b"k", POISONED)
    assert producer.flush(30) == 0


def stands_at(stage: Machine, worker: Part, offset: int) -> None:
    """Wait until the worker has said that it stopped there, and all that may be done is done."""
    stage.until(lambda: f"partition {POISONED} stopped at offset {offset}" in worker.log_path.read_text(), "it says so")

    def done() -> bool:
        return all(
            committed == (offset if partition == POISONED else end)
            for partition, (committed, end) in stage.positions().items()
        )

    stage.until(done, "the others are scored, and the poisoned one up to the stop")


def test_a_poisoned_partition_stops_and_the_others_go_on(
    stage: Machine,
    tables: ClickHouse,
    expected: Expected,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in stage.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(stage.folder)

    def told() -> tuple[int, Any]:
        capsys.readouterr()
        with pytest.raises(typer.Exit) as ended:
            status(as_json=True)
        out = capsys.readouterr().out
        return ended.value.exit_code, orjson.loads(out[out.index("{\n") :])

    def rejected_rows(offset: int) -> int:
        [(count,)] = tables.query(
            "SELECT count() FROM touchstone.rejected_events FINAL "
            f"WHERE stage = 'log' AND log_partition = {POISONED} AND log_offset >= {offset}"
        )
        return int(count)

    load = make_load(SEED, 4_000, "flood-", time.time_ns() // 1000)
    # Where it stops depends on all rejections in the window: the poison of the load itself comes later.
    poisoned = {reject.index for reject in decode([sent.value for sent in load.records], bytes(MARKER_BYTES)).rejects}
    before = [sent for place, sent in enumerate(load.records) if place % 2 and place not in poisoned]
    after = [sent for place, sent in enumerate(load.records) if place % 2 == 0 or place in poisoned]
    with Producing(stage.bootstrap, before, per_s=4_000):
        pass
    first = stage.positions()[POISONED][1]
    poison(stage, 1_500)
    stop = first + LIMIT - 1
    worker = stage.start_worker(**SETTINGS)
    stage.until(lambda: stage.members() == 1, "the worker reads the log", 2 * DEADLINE_S)
    with Producing(stage.bootstrap, after, per_s=2_000):
        stands_at(stage, worker, stop)
    assert rejected_rows(first) == LIMIT - 1

    code, document = told()
    assert code == 1
    assert document["lag"]["stopped"] == [{"partition": POISONED, "offset": stop, "rejected": LIMIT, "records": LIMIT}]

    rejected(what=["resume", str(POISONED)])
    stage.until_quiet()
    assert "goes on: released up to" in worker.log_path.read_text()
    assert rejected_rows(first) >= 1_500
    assert told()[1]["lag"]["stopped"] == []

    # What comes after the release is counted anew.
    again = stage.positions()[POISONED][1]
    poison(stage, 300)
    stands_at(stage, worker, again + LIMIT - 1)
    # Another worker meets the same flood at the same record, and writes nothing twice.
    stage.end_workers()
    worker = stage.start_worker(**SETTINGS)
    stands_at(stage, worker, again + LIMIT - 1)
    assert rejected_rows(again) == LIMIT - 1
    rejected(what=["resume", "all"])
    stage.until_quiet()
    assert stage.workers == [worker]
    stage.settle()
    check(stage.bootstrap, tables, expected)
    assert load.event_ids <= expected.stored_ids
