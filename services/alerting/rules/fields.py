"""What a condition may ask for: the fields of a signal, and where each stands in view ``customer_scores``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["number", "text"]

BANDS: Final = ("low", "elevated", "high")
LONGEST_SUMMARY_NAME: Final = 80


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a signal."""

    name: str
    kind: Kind
    meaning: str
    column: str
    """In view ``customer_scores``. Empty: not there, the sweep gives it as an SQL expression (`segment`)."""
    values: tuple[str, ...] = ()
    """All there can be; empty: any."""
    lowest: float = float("-inf")
    highest: float = float("inf")


FIELDS: Final[dict[str, Field]] = {
    field.name: field
    for field in (
        Field("risk", "number", "P(does not come back within the horizon), 0 to 1", "risk", (), 0.0, 1.0),
        Field("band", "text", "risk band: low, elevated or high", "risk_band", BANDS),
        Field("from_band", "text", "band before the signal", "risk_band", BANDS),
        Field("score", "number", "experience score, 0 to 100, higher is better", "score", (), 0.0, 100.0),
        Field(
            "trend", "number", "where the score is heading, points; below 0 it gets worse", "trend", (), -100.0, 100.0
        ),
        Field("volatility", "number", "how haphazard the experience is, 0 to 1", "volatility", (), 0.0, 1.0),
        Field("confidence", "number", "weight of evidence behind the score, 0 to 1", "confidence", (), 0.0, 1.0),
        Field("value_at_risk", "number", "risk x expected spend, currency units", "value_at_risk"),
        Field("complaint_hours", "number", "age of the oldest open complaint; 0: none", "complaint_hours", (), 0.0),
        Field(
            "feedback_hours", "number", "unhappy feedback unanswered for so long; 0: none", "feedback_hours", (), 0.0
        ),
        Field("silence_days", "number", "days since the customer came back last", "silence_days", (), 0.0),
        Field(
            "usual_gap_days", "number", "own rhythm: usual days between comings; 0: unknown", "usual_gap_days", (), 0.0
        ),
        Field("worst_touchpoint", "text", "where the worst recent moment happened", "worst_touchpoint"),
        Field("segment", "text", "attribute `segment` of the latest event that has one", ""),
    )
}
"""In the order in which facts are told. ``from_band`` equals ``band`` in a sweep: nothing crosses there."""


def printable(name: str, longest: int = LONGEST_SUMMARY_NAME) -> str:
    """A name from outside as it may stand in a sentence: no control characters, cut with an ellipsis."""
    plain = name if name.isprintable() else "".join(c if c.isprintable() else " " for c in name)
    return plain if len(plain) <= longest else plain[: longest - 1] + "…"
