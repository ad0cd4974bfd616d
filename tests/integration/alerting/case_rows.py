"""Rows of alerting's tables, and events beside them, for tests of what is asked of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np

from infra.clickhouse import states
from infra.clickhouse.client import ClickHouse
from infra.clickhouse.events import write_events
from schemas.decode import decode
from schemas.encode import encode
from schemas.identity import identify
from schemas.tables import ALERT_ATTEMPTS, ALERT_CALLS, ALERT_LOG, ALERT_RULES
from services.scoring.ports import StateRows
from services.scoring.readings import read_frame, shipped

NOW: Final = datetime.now(UTC).replace(microsecond=0)
NEVER: Final = datetime(1970, 1, 1, tzinfo=UTC)

_ALERT: Final[dict[str, Any]] = {
    "alert_id": "a" * 32,
    "turn": "firing",
    "rule": "leaving",
    "rules_version": "v1",
    "customer_id": "ada",
    "subject": "ada",
    "at": NOW - timedelta(days=2),
    "fired_at": NOW - timedelta(days=2),
    "severity": "error",
    "owner": "retention",
    "due_at": NOW - timedelta(days=1),
    "summary": "ada is about to leave",
    "risk": 0.8,
    "band": "high",
    "score": 41.0,
    "value_at_risk": 120.0,
    "segment": "gold",
    "facts": "{}",
    "reasons": [("a complaint is open", 0.9)],
    "signal_id": "0" * 32,
    "log_partition": 0,
    "log_offset": 1,
    "fate": "called",
    "version": 1,
}


def put_alerts(client: ClickHouse, *rows: dict[str, Any]) -> None:
    """Turns of alerts, each said by what differs from `_ALERT`."""
    full = [{**_ALERT, **row} for row in rows]
    client.insert_rows(ALERT_LOG.name, ALERT_LOG.names, [tuple(row[name] for name in ALERT_LOG.names) for row in full])


def put_rule(client: ClickHouse, cost: float, hold_out: float = 0.0, rule: str = "leaving") -> None:
    """A reading of the rules file."""
    row = ("v1", NOW - timedelta(days=90), rule, "error", "retention", cost, hold_out, "{}")
    client.insert_rows(ALERT_RULES.name, ALERT_RULES.names, [row])


def put_call(client: ClickHouse, call_id: str, alert_ids: Sequence[str], receiver: str = "desk", **more: Any) -> None:
    """A call that goes at once."""
    row = {
        "call_id": call_id,
        "turn": "firing",
        "about": "",
        "rule": "leaving",
        "severity": "error",
        "receiver": receiver,
        "made_at": NOW - timedelta(days=2),
        "not_before": NEVER,
        "alert_ids": list(alert_ids),
        "document": "{}",
        **more,
    }
    client.insert_rows(ALERT_CALLS.name, ALERT_CALLS.names, [tuple(row[name] for name in ALERT_CALLS.names)])


def put_attempts(client: ClickHouse, call_id: str, *outcomes: tuple[str, int, str], receiver: str = "desk") -> None:
    """Attempts a minute apart: outcome, status, detail."""
    rows = [
        (
            call_id,
            number,
            receiver,
            NOW - timedelta(days=2) + timedelta(minutes=number),
            1000,
            outcome,
            status,
            detail,
            NOW + timedelta(minutes=number) if outcome == "failed" else NEVER,
        )
        for number, (outcome, status, detail) in enumerate(outcomes, start=1)
    ]
    client.insert_rows(ALERT_ATTEMPTS.name, ALERT_ATTEMPTS.names, rows)


def happened(event_id: str, customer: str, at: datetime, kind: str, **more: Any) -> bytes:
    """A record of an event that a sender sent."""
    identity, _ = identify("test", event_id)
    at_us = round(at.timestamp() * 1e6)
    return encode(
        {
            "event_id": identity,
            "customer_id": customer,
            "occurred_at": at_us,
            "received_at": at_us,
            "source": "test",
            "kind": kind,
            "touchpoint": "shop",
            **more,
        }
    )


def put_events(client: ClickHouse, records: Sequence[bytes], first_offset: int = 0) -> None:
    """Records as a worker stores them."""
    frame = decode(list(records), b"markmark").frame
    assert frame.height == len(records)
    readings = read_frame(shipped(), frame)
    offsets = np.arange(first_offset, first_offset + len(records), dtype=np.int64)
    valence, weight = readings.valence.astype(np.float32), readings.weight.astype(np.float32)
    write_events(client, frame, valence, weight, 0, offsets)


def put_states(client: ClickHouse, rows: StateRows) -> None:
    """States as a worker saves them."""
    states.save(client, states.StateRows(**{field.name: getattr(rows, field.name) for field in fields(rows)}))
