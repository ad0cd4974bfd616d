"""What the office needs of the tables and the log. Blocking; transient errors are the adapters' own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from services.alerting.alert import Alert, AlertState, Attempt, Call, Fate
from services.alerting.intake import Segments
from services.alerting.plan import Key
from services.alerting.rules.model import RuleSet
from services.alerting.sweep import Candidate


class Store(Protocol):
    """The tables of alerting."""

    def load_states(self, customers: Sequence[str]) -> dict[tuple[str, str], AlertState]: ...

    def write_states(self, states: Iterable[AlertState]) -> None: ...

    def segments(self, customers: Sequence[str]) -> Segments: ...

    def fates(self, alerts: Sequence[Alert]) -> dict[Key, Fate]: ...

    def write_alerts(self, alerts: Iterable[Alert], fates: Mapping[Key, Fate] | None = None) -> None: ...

    def waiting(self) -> list[Alert]: ...

    def over_budget_untold(self) -> list[Alert]: ...

    def past_calls(self, now_us: int, waiting: Sequence[Alert]) -> list[Call]: ...

    def write_calls(self, calls: Iterable[Call]) -> None: ...

    def unfinished(self) -> tuple[list[Call], list[Attempt]]: ...

    def write_rules(self, rules: RuleSet, now_us: int) -> None: ...

    def candidates(self, rules: RuleSet) -> list[Candidate]: ...

    def focus_alerts(self, rule: str) -> list[Alert]: ...

    def query(self, sql: str) -> list[tuple[Any, ...]]: ...


class Append(Protocol):
    """Append records to topic ``touchpoints``, keyed by customer."""

    def __call__(self, customers: Sequence[str], values: Sequence[bytes], timestamp_ms: int) -> None: ...
