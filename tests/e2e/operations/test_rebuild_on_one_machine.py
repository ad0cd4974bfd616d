"""The single machine's own workers are held for the swap and started anew; ingest and queries do not notice."""

from __future__ import annotations

import json
from typing import Any

import pytest

from infra.clickhouse.client import connect
from infra.clickhouse.settings import ClickHouseSettings
from tests.e2e.command import Touchstone, wait_for
from tests.e2e.operations.damage import invent_state

pytestmark = pytest.mark.stack


def test_workers_are_held_and_started_anew_while_ingest_goes_on(touchstone: Touchstone) -> None:
    touchstone.json("simulate", "-n", "25", "--seed", "77")
    before = touchstone.settled()
    where = before["addresses"]
    password = json.loads((touchstone.folder / ".touchstone" / "credentials.json").read_text())["clickhouse_password"]
    port, http_port = where["clickhouse_port"], where["clickhouse_http_port"]
    with connect(ClickHouseSettings(port=port, http_port=http_port, password=password)) as tables:
        # Of a real customer the next review would write the right state again, out of the worker's memory.
        invent_state(tables, "nobody")
    worker = touchstone.pid_of("scoring-1")
    compared = touchstone.json("rebuild", code=1)
    assert compared["swapped"] is False
    assert [shown["customer"] for shown in compared["checks"]["log"]["shown"]] == ["nobody"]
    assert touchstone.pid_of("scoring-1") == worker

    with touchstone.start("simulate", "-n", "25", "--seed", "78", "--rate", "150", "--json") as sender:
        done: dict[str, Any] = touchstone.json("rebuild", "--swap")
        assert done["swapped"] is True
        out, err = sender.communicate(timeout=240)
    assert sender.returncode == 0, err
    sent = json.loads(out)
    assert sent["refused"] == sent.get("retries", 0) == 0
    wait_for(lambda: touchstone.running_pid("scoring-1") not in (None, worker), "the worker is started anew")
    after = touchstone.settled()
    assert after["lag"]["accepted"] >= before["lag"]["accepted"] + sent["accepted"]
    assert touchstone.json("verify")["equal"]
    assert touchstone.rows("SELECT count() AS n FROM customer_state WHERE customer_id = 'nobody'") == [{"n": 0}]
