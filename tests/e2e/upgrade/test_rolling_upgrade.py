"""Versions 1 and 2 of the event at once: producers and workers of both, in the right order and in the wrong one."""

from __future__ import annotations

import itertools
import json
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import httpx
import pytest
from typer.testing import CliRunner

from infra.clickhouse.migrate import migrate
from infra.embedded.ports import free_port
from infra.embedded.probes import http_ok
from infra.kafka.admin import KafkaAdmin
from schemas.identity import identify
from schemas.topics import CONSUMER_GROUP, TOUCHPOINTS
from schemas.versions import HEADER_BYTES, VERSIONS
from services.cli.main import app
from services.simulator import SimulationConfig, simulate
from tests.e2e.checker import Expected, Fate, check, check_rows, read_topic
from tests.e2e.scoring.parts import DEADLINE_S, Machine, Part

pytestmark = pytest.mark.stack

SEED: Final = 20_260_412
CUSTOMERS: Final = 300
BATCH: Final = 5
PAUSE_S: Final = 0.03
MORE: Final = 100
"""Records that each step of the upgrade must see done with before the next one."""
SETTINGS: Final = {
    "TOUCHSTONE_SCORING_REVIEW_INTERVAL_S": "2",  # a new worker's timer appends what an old worker has to read
    "TOUCHSTONE_SCORING_WRITE_INTERVAL_MS": "20",
}
INGEST: Final = "services.ingest.main"
WORKER: Final = "services.scoring.main"
AS_BEFORE: Final = "tests.e2e.upgrade.version_one"


@dataclass(frozen=True)
class Ingest:
    """A running ingest process."""

    part: Part
    port: int
    is_new: bool

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1/events"

    def end(self) -> None:
        assert self.part.end() == 0, self.part.tail()


def start_worker(stage: Machine, name: str, *, new: bool) -> Part:
    argv = (sys.executable, "-m", *(() if new else (AS_BEFORE,)), WORKER)
    worker = Part(name, argv, stage.folder, {**stage.environment(), **SETTINGS})
    stage.workers.append(worker)
    return worker


def end_worker(stage: Machine, worker: Part) -> None:
    stage.workers.remove(worker)
    assert worker.end() == 0, worker.tail()


@contextmanager
def ingest(stage: Machine, name: str, *, new: bool) -> Iterator[Ingest]:
    """Start one; it becomes ready in its own time."""
    port = free_port()
    argv = (sys.executable, "-m", *(() if new else (AS_BEFORE,)), INGEST)
    part = Part(name, argv, stage.folder, {**stage.environment(), "TOUCHSTONE_INGEST_PORT": str(port)})
    try:
        yield Ingest(part, port, new)
    finally:
        part.kill()


@pytest.fixture(scope="module")
def admin(stage: Machine) -> Iterator[KafkaAdmin]:
    """Kept open: it is asked many times a second."""
    with KafkaAdmin(stage.bootstrap) as one:
        yield one


def committed(admin: KafkaAdmin) -> int:
    return sum(at.committed or 0 for at in admin.group_lag(CONSUMER_GROUP, TOUCHPOINTS))


def have_joined(admin: KafkaAdmin, workers: int) -> bool:
    state = admin.group_state(CONSUMER_GROUP)
    return (state.state, state.members) == ("STABLE", workers)


def is_ready(one: Ingest) -> bool:
    assert one.part.alive, one.part.tail()
    return http_ok("127.0.0.1", one.port, "/health/ready")


class Sending:
    """Events to whatever ingest processes there are: one batch in ten twice, journeys to those that know them."""

    def __init__(self, events: list[dict[str, Any]]) -> None:
        self._batches = (events[start : start + BATCH] for start in range(0, len(events), BATCH))
        self._chance = random.Random(SEED)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sending")
        self._lock = threading.Lock()
        self._to: list[Ingest] = []
        self.acknowledged: dict[bytes, str] = {}
        """Journey, or the empty name, by identity."""
        self.repeats = 0
        self.told: Counter[bool] = Counter()
        """Events sent to new (True) and old ingest."""
        self.broken: BaseException | None = None

    def to(self, *some: Ingest) -> None:
        """From now on; a batch under way to another has its answer when this returns."""
        with self._lock:
            self._to = list(some)

    def __enter__(self) -> Sending:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        assert self.broken is None, self.broken

    def _run(self) -> None:
        try:
            with httpx.Client(timeout=30) as client:
                for turn in itertools.count():
                    if self._stop.wait(PAUSE_S):
                        return
                    with self._lock:
                        self._send(client, self._to[turn % len(self._to)])
        except BaseException as error:
            self.broken = error

    def _send(self, client: httpx.Client, to: Ingest) -> None:
        batch = next(self._batches)
        if to.is_new:
            for event in batch:
                if self._chance.random() < 0.5:
                    event["journey"] = self._chance.choice(("claim", "onboarding.first-order", "return"))
        for again in range(2 if self._chance.random() < 0.1 else 1):
            response = client.post(to.url, json=batch)
            assert response.status_code == 202, response.text
            assert response.json()["accepted"] == len(batch), response.text
            self.repeats += again * len(batch)
        self.told[to.is_new] += len(batch)
        for event in batch:
            self.acknowledged[identify(event["source"], event["event_id"])[0]] = event.get("journey", "")


def simulated(prefix: str, customers: int) -> list[dict[str, Any]]:
    simulation = simulate(SimulationConfig(customers, time.time_ns() // 1_000, seed=SEED, id_prefix=prefix))
    events = [dict(event) for event in simulation.events]
    random.Random(SEED).shuffle(events)
    return events


def journeys(stage: Machine, customers_like: str) -> dict[bytes, str]:
    with stage.client() as client:
        frame = client.frame(
            "SELECT event_id, toString(journey) AS journey FROM touchstone.touchpoints FINAL "
            f"WHERE kind != 'review_due' AND customer_id LIKE '{customers_like}%'"
        )
    return dict(frame.iter_rows())


def versions_in_log(stage: Machine) -> Counter[int]:
    numbers = {version.header: version.version for version in VERSIONS}
    log = read_topic(stage.bootstrap, TOUCHPOINTS)
    return Counter(numbers[(record.value or b"")[:HEADER_BYTES]] for records in log.values() for record in records)


@pytest.fixture(scope="module")
def new_ingest(stage: Machine) -> Iterator[Ingest]:
    with ingest(stage, "new-ingest", new=True) as one:
        yield one


def command(stage: Machine, to: Ingest, *arguments: str) -> Any:
    """What the command ``touchstone`` says, as JSON; in this process, which saves a start."""
    settings = {**stage.environment(), "TOUCHSTONE_INGEST_PORT": str(to.port)}
    ended = CliRunner().invoke(app, [*arguments, "--json"], env=settings)
    assert ended.exit_code == 0, ended.output
    return json.loads(ended.stdout)


def test_workers_first_then_ingest_and_nothing_is_rejected_on_the_way(
    stage: Machine, new_ingest: Ingest, admin: KafkaAdmin
) -> None:
    sending = Sending(simulated("rolling-", CUSTOMERS))

    def until_more_is_done(when: str) -> None:
        bound = committed(admin) + MORE

        def is_done() -> bool:
            assert sending.broken is None, sending.broken
            return committed(admin) >= bound

        stage.until(is_done, f"{MORE} more records are done with {when}")

    new = new_ingest
    with ingest(stage, "old-ingest", new=False) as old:
        old_worker = start_worker(stage, "old-worker", new=False)
        stage.until(lambda: is_ready(old) and is_ready(new), "ingest is ready")
        unknown = {**simulated("unknown-", 1)[0], "journey": "claim"}
        told = httpx.post(old.url, json=[unknown], timeout=30).json()["results"][0]
        assert (told["verdict"], told["reason"], told["field"]) == ("drop", "unknown_field", "/journey")

        sending.to(old)
        with sending:
            stage.until(lambda: have_joined(admin, 1), "the old worker reads the log", 2 * DEADLINE_S)
            until_more_is_done("by old parts on old tables")
            with stage.client() as tables:
                assert "0004_journey.sql" in migrate(tables)
            new_worker = start_worker(stage, "new-worker", new=True)
            until_more_is_done("by the old worker on new tables")
            stage.until(lambda: have_joined(admin, 2), "workers of both versions share the log", 2 * DEADLINE_S)
            until_more_is_done("by both workers")
            end_worker(stage, old_worker)
            stage.until(lambda: have_joined(admin, 1), "the new worker is left", 2 * DEADLINE_S)
            until_more_is_done("by the new worker")
            sending.to(new, old)
            until_more_is_done("behind both kinds of ingest")
            sending.to(new)
            old.end()
            until_more_is_done("by new parts alone")
        stage.until_quiet()
    assert stage.workers == [new_worker]
    stage.settle()

    assert min(sending.told.values()) > 0
    expected = Expected(SEED)
    with stage.client() as tables:
        check(stage.bootstrap, tables, expected)
        check_rows(tables, expected)
    assert expected.count(Fate.REJECTED) == expected.count(Fate.CONFLICTING) == 0
    assert expected.count(Fate.REPEATED) == sending.repeats > 0
    assert journeys(stage, "rolling-") == sending.acknowledged
    found = versions_in_log(stage)
    assert min(found[1], found[2]) > 0
    print(f"{sending.told[False]} to old ingest, {sending.told[True]} to new; records by version: {dict(found)}")


def test_ingest_first_loses_nothing_and_resend_brings_it_in(
    stage: Machine, new_ingest: Ingest, admin: KafkaAdmin
) -> None:
    """The wrong order: what is new is rejected by the old worker, with the remedy, and counts once it is sent again."""
    events = simulated("wrong-order-", 6)[:120]
    for event in events[::3]:
        event["journey"] = "claim"
    sent = {identify(event["source"], event["event_id"])[0]: event.get("journey", "") for event in events}
    with stage.client() as tables:
        migrate(tables)  # as every upgrade begins; done already after the test before
    old_worker = start_worker(stage, "late-old-worker", new=False)
    stage.until(lambda: is_ready(new_ingest), "ingest is ready")
    for start in range(0, len(events), 20):
        answer = httpx.post(new_ingest.url, json=events[start : start + 20], timeout=30)
        assert answer.json()["accepted"] == 20, answer.text
    stage.until(lambda: have_joined(admin, 1), "the old worker reads the log", 2 * DEADLINE_S)
    stage.until_quiet()
    assert journeys(stage, "wrong-order-") == {event_id: "" for event_id, journey in sent.items() if not journey}
    end_worker(stage, old_worker)
    start_worker(stage, "new-worker-at-last", new=True)

    unknown = ("--stage", "log", "--reason", "unknown_schema")
    rejected = command(stage, new_ingest, "rejected", "--limit", "1000", *unknown)
    assert len(rejected) == 40
    assert all("touchstone rejected resend --reason unknown_schema" in row["detail"] for row in rejected)
    done = command(stage, new_ingest, "rejected", "resend", *unknown)
    assert done["counts"] == {"accepted": 40, "fit": 0, "refused": 0, "resent before": 0}
    stage.until(lambda: have_joined(admin, 1), "the new worker reads the log", 2 * DEADLINE_S)
    stage.until_quiet()
    assert journeys(stage, "wrong-order-") == sent
    assert not command(stage, new_ingest, "rejected", "--left", *unknown)
    verified = command(stage, new_ingest, "verify")
    stage.settle()
    new_ingest.end()
    assert verified["equal"], json.dumps(verified, indent=1)
    for account in verified["sums"]:
        assert account["received"] == account["stored"] + account["duplicate"] + account["rejected"]
    assert sum(account["rejected"] for account in verified["sums"]) == 40
