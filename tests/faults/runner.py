"""One run: a plan on a running stack, until everything is quiet again, and then the checks."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tests.faults.checks import Run, Violation, check_all, ends, note_refusals, refusals_missing, usage
from tests.faults.inject import Injected, Injector
from tests.faults.lag import lags, recovery_s
from tests.faults.load import make_load
from tests.faults.plan import INGEST, WORKER, Kind, Plan
from tests.faults.senders import Sending
from tests.faults.stack import Stack

_log: Final = logging.getLogger(__name__)

FINISH_S: Final = 120.0
"""For senders to have every answer after the last fault; far more than a stack needs that works."""
SETTLE_S: Final = 120.0
"""For the lag to be zero after that."""
_POLL_S: Final = 0.5
_CHECKS: Final = 20
"""Timers may append a review while the checks read: then they are made again."""


@dataclass(slots=True)
class Outcome:
    """What a run came to; `as_json` is its line in the file of results."""

    plan: Plan
    violations: list[Violation] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    faults: list[dict[str, Any]] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.violations

    def __str__(self) -> str:
        """In a line."""
        faults = [
            f"{fault['kind']} {fault['target']}"
            + (" (left out)" if "left_out" in fault else "")
            + (f" {fault['recovery_s']} s" if fault["recovery_s"] is not None else "")
            for fault in self.faults
        ]
        verdict = "ok " if self.ok else "RED"
        acknowledged = self.figures.get("acknowledged", 0)
        return f"{verdict} seed {self.plan.seed}: {acknowledged} acknowledged; {', '.join(faults)}"

    def as_json(self) -> dict[str, Any]:
        return {
            "seed": self.plan.seed,
            "ok": self.ok,
            "violations": [str(violation) for violation in self.violations],
            "faults": self.faults,
            **self.figures,
        }


def attempt(stack: Stack, plan: Plan, *, is_last: bool) -> Outcome:
    """A run of many: what fails in the tools themselves makes it red too, and ends no other run.

    ``is_last``: nothing comes after it on this stack, so what was left to be looked for later is looked for now.
    """
    started_s = time.monotonic()
    try:
        outcome = run_plan(stack, plan)
        if outcome.ok and is_last:
            outcome.violations += check_refusals(stack)
    except Exception as error:
        _log.exception("the run could not be carried out")
        outcome = Outcome(plan, [Violation("tools", f"{type(error).__name__}: {error}")])
    outcome.figures["run_s"] = round(time.monotonic() - started_s, 1)
    return outcome


def run_plan(stack: Stack, plan: Plan) -> Outcome:
    """Carry out a plan on a stack at rest. What the stack does wrong is in the outcome; what raises is our fault."""
    stack.runs += 1
    prefix = f"f{plan.seed}-{stack.runs}-"
    stack.prepare(fault.target for fault in plan.faults if fault.kind is Kind.CLOCK)
    load = make_load(plan.load, plan.seed, prefix, time.time_ns() // 1000)
    stack.keeper.forgive()
    stack.watch.forget()
    sending = Sending(load, ingest_port=stack.ports.ingest, bootstrap=stack.bootstrap)
    injector = Injector(stack, plan, sending.started_s)
    done = injector.finish()
    book = sending.finish(max(0.0, plan.load.seconds - sending.elapsed_s()) + FINISH_S)
    sent_s = sending.elapsed_s()
    outcome = Outcome(plan)
    settled = stack.settle(SETTLE_S)
    run = Run(plan, prefix, load, book)
    note_refusals(stack, run)
    if settled is None:
        last = stack.watch.samples[-1:]
        outcome.violations.append(Violation("I8", f"not done with after {SETTLE_S:.0f} s: {last}"))
    elif book.abandoned:
        outcome.violations.append(Violation("I8", f"{book.abandoned} sends had no answer after {FINISH_S:.0f} s"))
    if settled is not None:
        checking_s = time.monotonic()
        outcome.violations += _check_at_rest(stack, run)
        outcome.figures |= {**run.figures, "checks_s": round(time.monotonic() - checking_s, 2)}
    outcome.faults = _measured(stack, done)
    outcome.figures |= {
        "acknowledged": len(book.acknowledged),
        "unknown": len(book.unknown - book.acknowledged),
        "refused": len(book.refused),
        "repeats_sent": load.repeats,
        "conflicts_sent": load.conflicts,
        "poison_sent": load.poison,
        "statuses": dict(book.statuses),
        "slowest_answer_s": round(book.slowest_answer_s, 2),
        "sent_s": round(sent_s, 1),
        "settled_s": settled if settled is None else round(settled, 2),
        "exits": {name: kept.exits for name, kept in stack.keeper.kept.items() if kept.exits},
        "worker_mib": round(usage(stack, WORKER).get("memory_mib", 0)),
        "ingest_mib": round(usage(stack, INGEST).get("memory_mib", 0)),
    }
    return outcome


def check_refusals(stack: Stack) -> list[Violation]:
    """What earlier runs on this stack left to be looked for. The last thing to be asked of it."""
    deadline_s = time.monotonic() + SETTLE_S
    found: list[str] = []
    with stack.client() as client:
        while stack.refusals and time.monotonic() < deadline_s:
            found += refusals_missing(stack, client)
            time.sleep(_POLL_S)
    if stack.refusals:
        found.append(f"topic rejected was not done with after {SETTLE_S:.0f} s")
    return [Violation("I4", detail) for detail in found]


def _check_at_rest(stack: Stack, run: Run) -> list[Violation]:
    """Checks over a log that did not move meanwhile."""
    found: list[Violation] = []
    for _ in range(_CHECKS):
        before = ends(stack)
        with stack.client() as client:
            found = check_all(stack, run, client)
        if not found or (ends(stack) == before and stack.watch.is_quiet()):
            return found
        if stack.settle(SETTLE_S) is None:
            return [Violation("I8", "not quiet any more after it was"), *found]
    return found


def _measured(stack: Stack, done: Sequence[Injected]) -> list[dict[str, Any]]:
    measured = lags(stack.watch.samples)
    end_s = measured[-1][0] if measured else 0.0
    rows = []
    for one in done:
        others = [other for other in done if other is not one]
        until_s = min((other.began_s for other in others if other.began_s > one.over_s), default=end_s)
        recovered = recovery_s(measured, one.began_s, one.over_s, until_s)
        alone = recovered is not None and not any(
            other.began_s <= one.over_s and one.began_s <= other.over_s for other in others
        )
        rows.append(
            {
                "kind": one.fault.kind.value,
                "target": one.fault.target,
                "at_s": one.fault.at_s,
                "for_s": one.fault.for_s,
                "detail": one.fault.detail,
                # Where faults overlap or follow too closely nobody can say which of them it was.
                "alone": alone,
                "recovery_s": None if recovered is None else round(recovered, 2),
                **({"left_out": one.left_out} if one.left_out else {}),
                **({"how": one.how} if one.how else {}),
            }
        )
    return rows
