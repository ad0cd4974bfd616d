"""Rejected events fixed and sent again: judged here by ingest's own rules, sent through ingest, written down.

An event keeps its id, so however often it is sent it counts once. The entry in `resent_events` is written after ingest
has taken the event: a crash in between costs a duplicate in the log and no number.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from infra.clickhouse.client import ClickHouse
from schemas.identity import identify
from schemas.tables import DATABASE, RESENT_EVENTS
from services.cli.console import CommandError, ExitCode
from services.cli.http_sender import REFUSALS_KEPT, Sender
from services.cli.mending import Event, UnreadableEventError, WrongChangeError, changed, event_of
from services.ingest.admit import RefusedBodyError, admit
from services.ingest.limits import Limits

Which = tuple[str, int, int]
"""Stage, partition, offset."""

PAGE: Final = 500
"""Rejected events fetched at once."""
_ONE_OF_A_KIND: Final = ("event_id",)


@dataclass(frozen=True, slots=True)
class Changes:
    """How events are fixed. ``event`` replaces one whole."""

    set_to: tuple[str, ...] = ()
    unset: tuple[str, ...] = ()
    event: Event | None = None

    @classmethod
    def of(cls, set_to: Sequence[str], unset: Sequence[str], file: Path | None, *, several: bool) -> Changes:
        """CommandError (wrong use) when they cannot be made."""
        if several and file is not None:
            raise CommandError("--file is one event: name the one it stands for", ExitCode.WRONG_USE)
        if several and any(change.partition("=")[0] in _ONE_OF_A_KIND for change in set_to):
            raise CommandError("--set event_id would make several events one: resend them singly", ExitCode.WRONG_USE)
        try:
            changed({}, set_to, unset)
            event = None if file is None else event_of("ingest", file.read_bytes())
        except (OSError, UnreadableEventError) as error:
            raise CommandError(f"{file}: {error}", ExitCode.WRONG_USE) from error
        except WrongChangeError as error:
            raise CommandError(str(error), ExitCode.WRONG_USE) from error
        return cls(tuple(set_to), tuple(unset), event)

    def applied(self, stage: str, payload: bytes) -> Event:
        """The fixed event. UnreadableEventError when there is nothing to fix."""
        return changed(self.event if self.event is not None else event_of(stage, payload), self.set_to, self.unset)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one: ``accepted``, ``fit`` (nothing was sent, as asked), ``refused`` or ``resent before``."""

    which: Which
    verdict: str
    event: Event | None = None
    problems: tuple[dict[str, str], ...] = ()
    """Reason, field and detail of each."""
    at: datetime | None = None
    """When it was resent before."""


ACCEPTED: Final = "accepted"
FIT: Final = "fit"
REFUSED: Final = "refused"
BEFORE: Final = "resent before"


def resend(
    client: ClickHouse,
    sender: Sender | None,
    rows: Sequence[tuple[Which, bytes]],
    changes: Changes,
    *,
    limits: Limits,
    now: Callable[[], datetime],
    again: bool = False,
) -> Iterator[Outcome]:
    """Fix and send some; without ``sender`` only judge. Raises what the sender and the tables raise."""
    earlier = {} if again else sent_before(client, [which for which, _ in rows])
    fit: list[tuple[Which, Event]] = []
    for which, payload in rows:
        if which in earlier:
            yield Outcome(which, BEFORE, at=earlier[which])
            continue
        try:
            event = changes.applied(which[0], payload)
        except UnreadableEventError as error:
            yield _refused(which, None, {"reason": "", "field": "", "detail": f"{error}; give the event with --file"})
            continue
        problems = _judged(event, limits, now())
        if problems:
            yield _refused(which, event, *problems)
        elif sender is None:
            yield Outcome(which, FIT, event)
        else:
            fit.append((which, event))
    # So few at once that the sender tells every refusal.
    for start in range(0, len(fit), REFUSALS_KEPT):
        assert sender is not None
        yield from _sent(client, sender, fit[start : start + REFUSALS_KEPT], now)


def _judged(event: Event, limits: Limits, now: datetime) -> list[dict[str, str]]:
    """What ingest would say to it; empty when it would take it."""
    try:
        admission = admit(
            json.dumps(event).encode(), lines=False, received_at_us=int(now.timestamp() * 1e6), limits=limits
        )
    except RefusedBodyError as error:
        return [_told(error.problem)]
    return [_told(problem) for refused in admission.refused for problem in refused.problems]


def _told(problem: Any) -> dict[str, str]:
    return {"reason": str(problem.reason), "field": problem.field, "detail": problem.detail}


def _refused(which: Which, event: Event | None, *problems: dict[str, str]) -> Outcome:
    return Outcome(which, REFUSED, event, problems)


def _sent(
    client: ClickHouse, sender: Sender, some: Sequence[tuple[Which, Event]], now: Callable[[], datetime]
) -> Iterator[Outcome]:
    verdicts = sender.send([event for _, event in some], lambda _: None)
    told = {str(refusal.get("event_id")): refusal for refusal in verdicts.refusals}
    outcomes, entries = [], []
    for which, event in some:
        refusal = told.get(event["event_id"])
        if refusal is not None:
            problem = {name: str(refusal.get(name) or "") for name in ("reason", "field", "detail")}
            outcomes.append(_refused(which, event, problem))
            continue
        outcomes.append(Outcome(which, ACCEPTED, event))
        event_id, _ = identify(event["source"], event["event_id"])
        entries.append((*which, now(), event["customer_id"], event_id, json.dumps(event, ensure_ascii=False)))
    client.insert_rows(RESENT_EVENTS.name, RESENT_EVENTS.names, entries)
    yield from outcomes


def sent_before(client: ClickHouse, which: Sequence[Which]) -> dict[Which, datetime]:
    """Of some rejected events those that were sent again, and when last."""
    if not which:
        return {}
    places = ", ".join(f"('{stage}', {partition}, {offset})" for stage, partition, offset in which)
    rows = client.query(
        f"SELECT stage, log_partition, log_offset, resent_at FROM {DATABASE}.{RESENT_EVENTS.name} FINAL "
        f"WHERE (stage, log_partition, log_offset) IN ({places})"
    )
    return {(stage, partition, offset): at for stage, partition, offset, at in rows}
