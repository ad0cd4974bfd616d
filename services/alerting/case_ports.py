"""What the HTTP shell and the commands need of tables and log. All of it may wait; errors are the adapters' own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from services.alerting.cases import Case
from services.alerting.permission import DefaultGuard, Guard, SurveyFacts
from services.alerting.tokens import TokenKeys

MOST_ROWS: Final = 500
"""Rows of one page."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Which rows are wanted, newest first. ``equal``: values by column; ``after``: cursor of the page before."""

    equal: Mapping[str, str] = field(default_factory=dict)
    since_us: int = 0
    overdue: bool = False
    """Cases alone: only those that should have been closed by now."""
    after: tuple[int, str] | None = None
    """Moment (UTC microseconds) and id of the last row of the page before."""
    limit: int = 50


@dataclass(frozen=True, slots=True)
class StepTaken:
    """One step of a case, as it stands in the log."""

    taken_us: int
    step: str
    by: str
    owner: str
    outcome: str
    note: str


class CaseReader(Protocol):
    """What the tables say. Blocking."""

    def alerts(self, asked: Asked) -> Sequence[dict[str, Any]]:
        """Rows of view ``alerts`` by column, times in UTC microseconds, the newest first."""
        ...

    def cases(self, asked: Asked) -> Sequence[Case]:
        """Rows of view ``cases``, the newest first."""
        ...

    def case(self, case_id: str) -> Case | None:
        """One case; None if there is no alert of that id that somebody was called for."""
        ...

    def steps(self, case: Case) -> Sequence[StepTaken]:
        """Its steps in the order of the log."""
        ...

    def survey_facts(self, customer_id: str) -> SurveyFacts | None:
        """What the guard against asking too often goes by; None if no event of the customer is known."""
        ...

    def ready(self) -> None:
        """Returns if the tables answer and the views are there."""
        ...


class Append(Protocol):
    """Append records to topic ``touchpoints``, keyed by customer; returns when the log has acknowledged all. Blocking.

    May raise when only some are in the log: the records are sent again then, and count once.
    """

    def __call__(self, customers: Sequence[str], values: Sequence[bytes], timestamp_ms: int, /) -> None: ...


class StandingByError(Exception):
    """Another process decides and calls: it is the one to ask."""


class Resend(Protocol):
    """Send a call again that was given up, or that waits. LookupError: there is no such call; StandingByError."""

    async def __call__(self, call_id: str, /) -> None: ...


@dataclass(frozen=True, slots=True)
class CasePorts:
    """Everything `services.alerting.app.alerting_app` needs."""

    reader: CaseReader
    append: Append
    transient: tuple[type[Exception], ...]
    """Errors of the two that may pass: answered with 503."""
    now_us: Callable[[], int]
    api_keys: tuple[str, ...] = ()
    """Empty: none is asked for, which is for loopback only."""
    token_keys: TokenKeys | None = None
    """None: no links."""
    resend: Resend | None = None
    """None: nobody calls here."""
    guard: Callable[[], Guard] = DefaultGuard
    """Of the rules that hold now."""
