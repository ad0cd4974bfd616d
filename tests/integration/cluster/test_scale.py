"""Several ingest processes and scoring workers at once; workers go from one to four and back while events come."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from infra.kafka.runtime import KafkaRuntime
from schemas.identity import identify
from services.simulator import SimulationConfig, simulate
from tests.e2e.checker import Expected, Fate, check
from tests.e2e.scoring.parts import DEADLINE_S, Machine, machine
from tests.integration.cluster.ingest import ingests

pytestmark = pytest.mark.stack

SEED = 20_260_307
CUSTOMERS = 300
BATCH = 5
PAUSE_S = 0.03
SETTINGS = {
    # What timers append must be as exact as the rest, whoever's timer it is.
    "TOUCHSTONE_SCORING_REVIEW_INTERVAL_S": "2",
    # Small sets, so that each change of hands finds some on their way.
    "TOUCHSTONE_SCORING_WRITE_INTERVAL_MS": "20",
}


class Senders:
    """One thread for each ingest process; a batch in ten is sent once more, through another process."""

    def __init__(self, urls: list[str], batches: list[list[dict[str, Any]]]) -> None:
        self._urls = urls
        # Should the machine be so slow that they do not suffice, they come again: as repeats.
        self._batches = itertools.cycle(batches)
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self.acknowledged: list[tuple[str, str]] = []
        """(source, event id) of each verdict, repeats too."""
        self.broken: list[BaseException] = []

    def run(self, number: int) -> None:
        try:
            self._send(number)
        except BaseException as error:
            self.broken.append(error)

    def _send(self, number: int) -> None:
        chance = random.Random(SEED + number)
        clients = [httpx.Client(base_url=url, timeout=30) for url in self._urls]
        try:
            while not self._stop.wait(PAUSE_S):
                with self._lock:
                    batch = next(self._batches)
                for turn in range(2 if chance.random() < 0.1 else 1):
                    response = clients[(number + turn) % len(clients)].post("/v1/events", json=batch)
                    assert response.status_code == 202, response.text
                    assert response.json()["accepted"] == len(batch)
                    with self._lock:
                        self.acknowledged += [(event["source"], event["event_id"]) for event in batch]
        finally:
            for client in clients:
                client.close()

    def stop(self) -> None:
        self._stop.set()


@contextmanager
def sending(urls: list[str], batches: list[list[dict[str, Any]]]) -> Iterator[Senders]:
    senders = Senders(urls, batches)
    threads = [threading.Thread(target=senders.run, args=(number,)) for number in range(len(urls))]
    for thread in threads:
        thread.start()
    try:
        yield senders
    finally:
        senders.stop()
        for thread in threads:
            thread.join()
    assert not senders.broken, senders.broken


@pytest.fixture
def scene(kafka_runtime: KafkaRuntime, tmp_path: Path) -> Iterator[Machine]:
    with machine(kafka_runtime, tmp_path) as made:
        yield made


def test_from_one_worker_to_four_and_back_every_event_counts_once(scene: Machine, tmp_path: Path) -> None:
    simulation = simulate(SimulationConfig(CUSTOMERS, time.time_ns() // 1_000, seed=SEED, id_prefix="scale-"))
    events = [dict(event) for event in simulation.events]
    random.Random(SEED).shuffle(events)  # no order is promised between processes
    batches = [events[start : start + BATCH] for start in range(0, len(events), BATCH)]

    def until_more_is_done(records: int) -> None:
        bound = scene.committed() + records

        def is_done() -> bool:
            assert not sent.broken, sent.broken
            return scene.committed() >= bound

        scene.until(is_done, f"{records} more records are done with")

    workers = [scene.start_worker(**SETTINGS)]
    with ingests(2, scene.bootstrap, tmp_path, {}) as running, sending([one.url for one in running], batches) as sent:
        scene.until(lambda: scene.members() == 1, "one worker reads the log", 2 * DEADLINE_S)
        until_more_is_done(300)
        workers += [scene.start_worker(**SETTINGS) for _ in range(3)]
        scene.until(lambda: scene.members() == 4, "four workers share the log", 2 * DEADLINE_S)
        until_more_is_done(300)
        leaving, scene.workers = scene.workers[1:], scene.workers[:1]
        assert not any(worker.end() for worker in leaving), "\n".join(worker.tail() for worker in leaving)
        scene.until(lambda: scene.members() == 1, "one is left", 2 * DEADLINE_S)
        until_more_is_done(300)
    assert scene.workers == workers[:1]
    scene.settle()

    expected = Expected(SEED)
    with scene.client() as tables:
        check(scene.bootstrap, tables, expected)
    acknowledged = [identify(source, event_id)[0] for source, event_id in sent.acknowledged]
    assert set(acknowledged) <= expected.stored_ids
    assert len(expected.stored_ids) - expected.reviews == len(set(acknowledged))
    assert expected.count(Fate.REPEATED) == len(acknowledged) - len(set(acknowledged)) > 0
    print(f"{len(acknowledged)} acknowledged, {len(set(acknowledged))} different, {expected.reviews} reviews")
