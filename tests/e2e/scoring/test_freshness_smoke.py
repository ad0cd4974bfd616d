"""From HTTP to the view that people query. How long it takes is measured by the benchmark."""

from __future__ import annotations

import sys
from datetime import UTC, datetime

import httpx
import pytest

from infra.clickhouse.client import ClickHouse
from infra.embedded.ports import free_port
from infra.embedded.probes import http_ok
from tests.e2e.scoring.parts import DEADLINE_S, NO_REVIEWS, Machine, Part

pytestmark = pytest.mark.stack


def post(url: str, event_id: str, kind: str, **more: str) -> None:
    event = {
        "event_id": event_id,
        "customer_id": "fresh-1",
        "source": "shop",
        "kind": kind,
        "touchpoint": "support.phone",
        "occurred_at": datetime.now(UTC).isoformat(),
        **more,
    }
    answer = httpx.post(f"{url}/v1/events", json=event, timeout=30)
    assert answer.status_code == 202, answer.text


def score_of(tables: ClickHouse) -> tuple[int, float] | None:
    """Events and score of the customer as people see them."""
    rows = tables.query("SELECT events, score FROM touchstone.customer_scores WHERE customer_id = 'fresh-1'")
    return (int(rows[0][0]), float(rows[0][1])) if rows else None


def test_an_event_moves_the_score_that_people_query(stage: Machine, tables: ClickHouse) -> None:
    port = free_port()
    ingest = Part(
        "ingest",
        (sys.executable, "-m", "services.ingest.main"),
        stage.folder,
        {**stage.environment(), "TOUCHSTONE_INGEST_PORT": str(port)},
    )
    try:
        stage.start_worker(**NO_REVIEWS)
        stage.until(lambda: http_ok("127.0.0.1", port, "/health/ready"), "ingest is ready")
        stage.until(lambda: stage.members() == 1, "the worker reads the log", 2 * DEADLINE_S)
        scores = []
        for number, (kind, more) in enumerate(
            [("interaction", {"outcome": "succeeded"}), ("complaint_opened", {"case_id": "7"}), ("incident", {})], 1
        ):
            post(f"http://127.0.0.1:{port}", f"fresh-{number}", kind, **more)
            found: list[tuple[int, float]] = []

            def is_shown(wanted: int = number, found: list[tuple[int, float]] = found) -> bool:
                seen = score_of(tables)
                found[:] = [seen] if seen is not None else []
                return bool(found) and found[0][0] == wanted

            stage.until(is_shown, f"event {number} is in the scores")
            scores.append(found[0][1])
        assert scores[0] > 60 > scores[1] > scores[2], "content at first, less so with every trouble"
    finally:
        assert ingest.end() == 0
