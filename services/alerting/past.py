"""What a planner must know of the calls that were made: rebuilt from the tables after a restart."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from services.alerting.alert import Alert, Call, Fate, Turn
from services.alerting.rules.durations import DAY_US


@dataclass(frozen=True, slots=True)
class PastCall:
    """A call that was made, to all its receivers."""

    turn: Turn
    rule: str
    made_us: int
    alert_ids: tuple[str, ...]
    call_ids: Mapping[str, str]
    """Id of the call, by receiver."""
    notice: bool = False


@dataclass(frozen=True, slots=True)
class Past:
    """Calls that were made."""

    calls: Sequence[PastCall] = ()
    """Of the last day at least, and those that tell of an alert which still waits."""
    open: Sequence[PastCall] = ()
    """Of any age: firing, and no resolved call about them was made."""
    unnoticed: Sequence[Alert] = ()
    """Firing turns over budget, of which no call tells yet."""

    @classmethod
    def of(cls, calls: Iterable[Call], unnoticed: Sequence[Alert] = ()) -> Self:
        """From rows of table ``alert_calls``: those of the last day, all that are open, and those about these."""
        rows: dict[tuple[Turn, str, tuple[str, ...]], list[Call]] = {}
        for call in sorted(calls, key=lambda call: (call.made_us, call.call_id)):
            rows.setdefault((call.turn, call.rule, tuple(sorted(call.alert_ids))), []).append(call)
        answered = {call.about for some in rows.values() for call in some if call.turn is Turn.RESOLVED}
        made: list[PastCall] = []
        still: list[PastCall] = []
        for (turn, rule, alert_ids), some in rows.items():
            past = PastCall(
                turn,
                rule,
                some[0].made_us,
                alert_ids,
                {call.receiver: call.call_id for call in some},
                bool(json.loads(some[0].document).get("over_budget", False)),
            )
            made.append(past)
            if turn is Turn.FIRING and not answered.intersection(past.call_ids.values()):
                still.append(past)
        return cls(made, still, unnoticed)

    def after(self, calls: Sequence[Call], fates: Mapping[tuple[str, Turn], Fate], waited: Iterable[Alert]) -> Self:
        """The past after a plan was written: ``waited`` are the alerts that it was made of.

        Calls of the last day before the newest are kept; what is open is kept whatever its age.
        """
        fresh = type(self).of(calls)
        answered = {call.about for call in calls if call.turn is Turn.RESOLVED}
        newest_us = max((call.made_us for call in fresh.calls), default=0)
        made = [call for call in self.calls if call.made_us > newest_us - DAY_US] + list(fresh.calls)
        still = [call for call in self.open if not answered.intersection(call.call_ids.values())] + list(fresh.open)
        told = {alert_id for call in fresh.calls for alert_id in call.alert_ids}
        over = [alert for alert in waited if fates.get((alert.alert_id, alert.turn)) is Fate.OVER_BUDGET]
        unnoticed = [alert for alert in (*self.unnoticed, *over) if alert.alert_id not in told]
        return type(self)(made, still, unnoticed)
