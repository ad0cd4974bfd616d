"""The whole stream, the same test for processes on this machine and for containers.

Without an engine both are left out: what it says of processes, tests/e2e says too, and more.
"""

from __future__ import annotations

import time

import httpx
import pytest

from schemas.identity import identify
from services.simulator import SimulationConfig, simulate
from tests.e2e.checker import Expected, Fate, check
from tests.e2e.scoring.parts import DEADLINE_S, Machine
from tests.integration.containers.images import leave_out_module_without_engine
from tests.integration.containers.places import KEY

leave_out_module_without_engine()

pytestmark = pytest.mark.stack

SEED = 20_260_308
BATCH = 100
SETTINGS = {"TOUCHSTONE_SCORING_REVIEW_INTERVAL_S": "2", "TOUCHSTONE_SCORING_WRITE_INTERVAL_MS": "20"}


def test_events_posted_are_scored_once_although_a_worker_is_killed(stream: tuple[Machine, str]) -> None:
    machine, url = stream
    simulation = simulate(SimulationConfig(40, time.time_ns() // 1_000, seed=SEED, id_prefix="stream-"))
    events = [dict(event) for event in simulation.events]
    batches = [events[start : start + BATCH] for start in range(0, len(events), BATCH)]
    with httpx.Client(base_url=url, timeout=30, headers={"authorization": f"Bearer {KEY}"}) as client:
        assert (
            client.post("/v1/events", json=batches[0], headers={"authorization": "Bearer another"}).status_code == 401
        )
        assert client.get("/metrics").status_code == 200

        def post(batch: list[dict[str, object]]) -> None:
            response = client.post("/v1/events", json=batch)
            assert response.status_code == 202, response.text
            assert response.json()["accepted"] == len(batch)

        worker = machine.start_worker(**SETTINGS)
        post([*batches[0]])
        machine.until(lambda: machine.members() == 1, "a worker reads the log", 2 * DEADLINE_S)
        machine.until(lambda: machine.committed() > 0, "the first records are done with")
        for batch in batches[1 : len(batches) // 2]:
            post(batch)
        machine.kill_worker(worker)
        machine.start_worker(**SETTINGS)
        for batch in batches[len(batches) // 2 :]:
            post(batch)
        post(batches[0])
        refused = client.post("/v1/events", json={"kind": "interaction"})
        assert refused.status_code == 422, refused.text
    machine.until(lambda: machine.members() == 1, "the next worker reads the log", 2 * DEADLINE_S)
    machine.settle()

    expected = Expected(SEED)
    with machine.client() as tables:
        check(machine.bootstrap, tables, expected)
        [(scored,)] = tables.query("SELECT count() FROM touchstone.customer_scores")
    assert scored == len({event["customer_id"] for event in events})
    assert expected.stored_ids >= {identify(event["source"], event["event_id"])[0] for event in events}
    assert len(expected.stored_ids) - expected.reviews == len(events)
    assert expected.count(Fate.REPEATED) == len(batches[0])
