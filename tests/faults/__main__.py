"""Seeded faults on the real stack: ``python -m tests.faults run --runs 20 --seed 1``.

A red run prints its seed and plan and keeps the logs of all parts; ``--runs 1 --seed N`` carries out the same plan.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from tests.faults import results
from tests.faults.disk import enter_namespace
from tests.faults.plan import Plan, make_kill_plan, make_plan

RESULTS: Final = Path(".touchstone/faults.jsonl")
RUNS_A_STACK: Final = 15
"""Then a fresh one: the checks read the tables whole, and a run should not grow longer than its load."""


def say(line: str) -> None:
    print(line, flush=True)


def run(plans: Sequence[Plan], out: Path, runs_a_stack: int) -> int:
    """Carry out plans one after another; returns 1 if one was red."""
    from tests.faults.runner import Outcome, attempt
    from tests.faults.stack import Stack

    red: list[Outcome] = []
    with ExitStack() as held:
        stack: Stack | None = None
        for number, plan in enumerate(plans, start=1):
            if stack is None or stack.runs >= runs_a_stack:
                held.close()
                stack = held.enter_context(Stack(seed=plan.seed))
            outcome = attempt(stack, plan, is_last=stack.runs + 1 >= runs_a_stack or number == len(plans))
            results.append(out, outcome.as_json())
            say(f"{number:4}/{len(plans)} {outcome}")
            if not outcome.ok:
                red.append(outcome)
                kept = out.parent / "faults-red" / f"seed-{plan.seed}-{time.time_ns() // 1_000_000_000}"
                stack.keep_logs(kept)
                say(f"{plan}\n" + "\n".join(f"  {violation}" for violation in outcome.violations))
                say(f"  logs: {kept}; again: make faults RUNS=1 SEED={plan.seed}")
                # Whatever is wrong stays wrong: the next run begins on a stack of its own.
                stack = None
    say(f"{len(plans)} runs, {len(red)} red; results in {out}")
    return 1 if red else 0


def main(arguments: Sequence[str]) -> int:
    """Returns the exit code: 0 all green, 1 a red run."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run", help="carry out plans")
    running.add_argument("--runs", type=int, default=20)
    running.add_argument("--seed", type=int, default=1, help="of the first run; each next one has the next seed")
    running.add_argument("--seconds", type=float, default=14.0, help="of load in each run")
    running.add_argument("--kills", action="store_true", help="one kill a run and nothing else: times of recovery")
    running.add_argument("--out", type=Path, default=RESULTS, help="file to add a JSON line to for each run")
    running.add_argument("--runs-a-stack", type=int, default=RUNS_A_STACK)
    summing = commands.add_parser("summary", help="sum up a file of results")
    summing.add_argument("file", type=Path, nargs="?", default=RESULTS)
    showing = commands.add_parser("plan", help="show the plan of a seed")
    showing.add_argument("--seed", type=int, required=True)
    planting = commands.add_parser("planted", help="plant bugs one by one and see each found")
    planting.add_argument("names", nargs="*")
    options = parser.parse_args(arguments)
    if options.command == "summary":
        say(results.summary(results.read(options.file)))
        return 0
    if options.command == "plan":
        say(str(make_plan(options.seed)))
        return 0
    enter_namespace([*arguments])
    # Told to end, everything that was started is ended.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    for name in [name for name in os.environ if name.startswith("TOUCHSTONE_")]:
        del os.environ[name]  # a run is the same wherever it is made
    if options.command == "planted":
        from tests.faults.hunt import hunt

        return hunt(options.names, say)
    seeds = range(options.seed, options.seed + options.runs)
    plans = [make_kill_plan(seed) if options.kills else make_plan(seed, seconds=options.seconds) for seed in seeds]
    return run(plans, options.out, options.runs_a_stack)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
