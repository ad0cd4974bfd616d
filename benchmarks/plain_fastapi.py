"""The edge as it is commonly written: FastAPI, a pydantic model, kafka-python, waiting for each acknowledgement.

For comparison only. ``python -m benchmarks.plain_fastapi PORT BOOTSTRAP``.
"""

from __future__ import annotations

import json
import sys
from datetime import datetime
from decimal import Decimal
from typing import Any

import uvicorn
from fastapi import FastAPI
from kafka import KafkaProducer
from pydantic import BaseModel


class Event(BaseModel):
    """A touchpoint event, all kinds in one model."""

    event_id: str
    customer_id: str
    occurred_at: datetime
    source: str
    kind: str
    touchpoint: str
    channel: str | None = None
    outcome: str | None = None
    metric: str | None = None
    rating: float | None = None
    emotion: str | None = None
    intensity: float | None = None
    amount: Decimal | None = None
    currency: str | None = None
    text: str | None = None
    attributes: dict[str, str] = {}


def make_app(bootstrap: str) -> FastAPI:
    """One route; each event is a JSON record, acknowledged before the next is sent."""
    producer = KafkaProducer(
        bootstrap_servers=bootstrap,
        acks="all",
        key_serializer=str.encode,
        value_serializer=lambda value: json.dumps(value).encode(),
    )
    app = FastAPI()

    def post_events(events: list[Event]) -> dict[str, Any]:
        for event in events:
            producer.send("touchpoints", key=event.customer_id, value=event.model_dump(mode="json")).get(timeout=10)
        return {"accepted": len(events)}

    app.add_api_route("/v1/events", post_events, methods=["POST"], status_code=202)
    return app


if __name__ == "__main__":
    uvicorn.run(make_app(sys.argv[2]), port=int(sys.argv[1]), log_level="warning", access_log=False)
