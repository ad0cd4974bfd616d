"""Risk models that differ from the documented one in some numbers."""

from __future__ import annotations

import json
from typing import Any

from services.scoring.risk.model import DEFAULT, RiskModel

ANXIOUS = {
    "bands.elevated_enter": 0.3,
    "bands.elevated_leave": 0.25,
    "bands.high_enter": 0.5,
    "bands.high_leave": 0.4,
    "bands.dwell_hours": 0.001,
}
"""Sees danger early."""
CALM = {
    "bands.elevated_enter": 0.97,
    "bands.elevated_leave": 0.96,
    "bands.high_enter": 0.99,
    "bands.high_leave": 0.98,
    "bands.dwell_hours": 0.001,
}


def model_like_default(version: str, changes: dict[str, Any]) -> RiskModel:
    """The default under another name, with other values of what is named with dots. KeyError for unknown names."""
    document = json.loads(DEFAULT.to_json()) | {"version": version}
    for name, value in changes.items():
        *groups, last = name.split(".")
        place = document
        for group in groups:
            place = place[group]
        place[last]  # a misspelt name must not be added
        place[last] = value
    return RiskModel.from_json(json.dumps(document))
