"""Kinds of event and the families that keep what was felt apart from what was done."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Family(StrEnum):
    """Experience is what customers felt; behaviour is what they did; the two never mix in one number."""

    EXPERIENCE = "experience"
    CONTACT = "contact"
    STAY = "stay"
    SAY = "say"
    SPEND = "spend"
    INTERNAL = "internal"


FAMILIES: Final[dict[Family, tuple[str, ...]]] = {
    Family.EXPERIENCE: (
        "interaction",
        "survey_response",
        "emotion",
        "complaint_opened",
        "complaint_resolved",
        "incident",
        "follow_up",
    ),
    Family.CONTACT: ("survey_sent", "outreach"),
    Family.STAY: ("renewal", "cancellation", "subscription"),
    Family.SAY: ("review", "referral"),
    Family.SPEND: ("purchase", "refund"),
    Family.INTERNAL: ("review_due", "model_activated", "case_step"),
}

KINDS: Final[tuple[str, ...]] = tuple(kind for kinds in FAMILIES.values() for kind in kinds)
"""In the order of the Avro enum; new kinds go to the end, under a new schema version."""

FAMILY_OF: Final[dict[str, Family]] = {kind: family for family, kinds in FAMILIES.items() for kind in kinds}

OUTCOMES: Final[tuple[str, ...]] = ("succeeded", "failed", "abandoned")

RESERVED_KINDS: Final[frozenset[str]] = frozenset(FAMILIES[Family.INTERNAL])
"""Kinds that only Touchstone itself writes; senders are refused."""

NOT_FOLDED: Final[tuple[str, ...]] = ("review_due", "case_step")
"""Kinds that stand among a customer's events and are nothing that the customer lived through: they move the state's
place in the log, and no score, count or time in it. (An activation of a model belongs to no customer at all.)"""
