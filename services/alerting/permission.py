"""The guard against asking too often: may this customer be asked for feedback now? Pure.

Whoever waits for an answer is not asked for another one. View ``survey_permission`` says the same in SQL for the
default guard.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

DAY_US: Final = 86_400_000_000
FEEDBACK_UNANSWERED: Final = "feedback_unanswered"
COMPLAINT_OPEN: Final = "complaint_open"
ASKED_LATELY: Final = "asked_lately"


class Guard(Protocol):
    """The rules file's ``survey_guard``."""

    @property
    def days_between(self) -> float:
        """Between two requests for feedback or other contacts by us."""
        ...

    @property
    def complaint_open(self) -> bool:
        """Nobody is asked while a complaint of theirs is open."""
        ...

    @property
    def feedback_unanswered(self) -> bool:
        """Nobody is asked while nobody has come back to them about unhappy feedback."""
        ...


@dataclass(frozen=True, slots=True)
class DefaultGuard:
    """Where the rules file sets none; view ``survey_permission`` goes by it."""

    days_between: float = 14.0
    complaint_open: bool = True
    feedback_unanswered: bool = True


@dataclass(frozen=True, slots=True)
class SurveyFacts:
    """What is known of a customer. Times are UTC microseconds, 0: never."""

    feedback_us: int
    """Latest unhappy answer or complaint."""
    follow_up_us: int
    open_complaints: int
    asked_us: int
    """Latest survey or outreach sent."""


@dataclass(frozen=True, slots=True)
class Permission:
    """The answer."""

    allowed: bool
    reasons: tuple[str, ...]
    """Why not."""
    ask_again_us: int
    """When time alone will allow it; 0: now, or not before somebody answers the customer."""


def permission(facts: SurveyFacts | None, guard: Guard, now_us: int) -> Permission:
    """Whether a customer may be asked. ``facts`` None: nothing is known of the customer, so nothing forbids it."""
    if facts is None:
        return Permission(True, (), 0)
    again_us = facts.asked_us + round(guard.days_between * DAY_US) if facts.asked_us else 0
    held = {
        FEEDBACK_UNANSWERED: guard.feedback_unanswered and facts.feedback_us > facts.follow_up_us,
        COMPLAINT_OPEN: guard.complaint_open and facts.open_complaints > 0,
        ASKED_LATELY: again_us > now_us,
    }
    reasons = tuple(name for name, holds in held.items() if holds)
    return Permission(not reasons, reasons, again_us if reasons == (ASKED_LATELY,) else 0)
