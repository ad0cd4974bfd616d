"""A checker that cannot fail is worthless: bugs are planted from outside of the product, and each must be found.

The start scripts in ``planted/`` replace one function and then call the service's own main. Each bug comes with a plan
under which it shows; the same plan must be green without it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from tests.faults.plan import INGEST, INGEST_KAFKA, WORKER, WORKER_TABLES, Fault, Kind, LoadPlan, Plan
from tests.faults.runner import Outcome, run_plan
from tests.faults.stack import Stack

TRIES: Final = 3
"""A kill must hit the moment at which the bug shows; three chances make a miss unlikely."""


@dataclass(frozen=True, slots=True)
class Bug:
    """A planted bug. ``instead_of``: the part that its script stands in for, as `Stack` names it."""

    name: str
    instead_of: str
    shows_as: frozenset[str]
    """Invariants of which at least one must be called violated."""
    plan: Plan


_LOAD: Final = LoadPlan(seconds=10.0, events=2_500, customers=120, late=0.05)


def _bug(name: str, instead_of: str, shows_as: str, *faults: Fault, **load: Any) -> Bug:
    return Bug(name, instead_of, frozenset(shows_as.split()), Plan(900, replace(_LOAD, **load), faults))


BUGS: Final = (
    _bug(
        "commit_before_state",
        "worker",
        "I2",
        # What is folded can be committed, and cannot be written.
        Fault(4.0, Kind.HANG, WORKER_TABLES, 2.5),
        Fault(5.5, Kind.KILL, WORKER),
        customers=40,
    ),
    _bug("no_offset_guard", "worker", "I5", Fault(4.0, Kind.KILL, WORKER), Fault(8.0, Kind.KILL, WORKER)),
    _bug("no_deduplication", "worker", "I2 I5"),
    _bug(
        "swallowed_exception",
        "worker",
        "I2",
        Fault(2.0, Kind.TABLE_AWAY, "customer_state", 8.0),
        customers=300,
    ),
    _bug(
        "verdict_before_acknowledgement",
        "ingest",
        "I1",
        Fault(4.0, Kind.HANG, INGEST_KAFKA, 3.0),
        Fault(6.0, Kind.KILL, INGEST),
    ),
    _bug("late_event_dropped", "worker", "I5"),
)


def find(bug: Bug) -> Outcome | None:
    """Plant it and look for it; the run that found it, or None."""
    program = ("-m", f"tests.faults.planted.{bug.name}")
    with Stack(worker=program) if bug.instead_of == "worker" else Stack(ingest=program) as stack:
        for number in range(TRIES):
            outcome = run_plan(stack, replace(bug.plan, seed=bug.plan.seed + number))
            if bug.shows_as & {violation.invariant for violation in outcome.violations}:
                return outcome
    return None


def hunt(names: Sequence[str], say: Callable[[str], None]) -> int:
    """All bugs, or those named, and their plans on the product as it is; returns 1 if one was missed or one was red."""
    chosen = [bug for bug in BUGS if not names or bug.name in names]
    unknown = set(names) - {bug.name for bug in BUGS}
    if unknown:
        say(f"no such bug: {', '.join(sorted(unknown))}; there are {', '.join(bug.name for bug in BUGS)}")
        return 2
    failed = 0
    with Stack() as stack:
        for bug in chosen:
            outcome = run_plan(stack, bug.plan)
            failed += not outcome.ok
            say(f"without {bug.name}: {'green' if outcome.ok else 'RED'}")
            for violation in outcome.violations:
                say(f"  {violation}")
    for bug in chosen:
        found = find(bug)
        failed += found is None
        if found is None:
            say(f"{bug.name}: NOT FOUND")
        else:
            say(f"{bug.name}: found in run {found.plan.seed - bug.plan.seed + 1}")
            for violation in found.violations:
                say(f"  {violation}")
    return 1 if failed else 0
