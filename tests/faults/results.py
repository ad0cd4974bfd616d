"""Results of runs: a JSON line each, and what hundreds of them come to. Pure but for reading the file."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import orjson


def read(path: Path) -> list[dict[str, Any]]:
    """All lines of a file of results."""
    return [orjson.loads(line) for line in path.read_bytes().splitlines() if line.strip()]


def append(path: Path, result: dict[str, Any]) -> None:
    """Add a run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.write(orjson.dumps(result) + b"\n")


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that ``share`` of all do not exceed; NaN of none."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)] if values else math.nan


def summary(results: Iterable[dict[str, Any]]) -> str:
    """Counts, what was violated, and recovery times by fault, as text."""
    runs = list(results)
    red = [run for run in runs if not run["ok"]]
    lines = [
        f"runs                     {len(runs)}",
        f"red                      {len(red)}" + (f"  seeds {[run['seed'] for run in red]}" if red else ""),
        f"faults                   {sum(len(run['faults']) for run in runs)}",
        f"events acknowledged      {_sum(runs, 'acknowledged')}",
        f"events stored            {_sum(runs, 'stored')}",
        f"lost, surplus            {_sum(runs, 'lost')}, {_sum(runs, 'surplus')}",
        f"customers compared       {_sum(runs, 'customers')}",
        f"events of unknown fate   {_sum(runs, 'unknown')}",
        f"repeats sent             {_sum(runs, 'repeats_sent')}",
        f"conflicts sent           {_sum(runs, 'conflicts_sent')}",
        f"poison sent              {_sum(runs, 'poison_sent')}",
        f"slowest answer           {max((run.get('slowest_answer_s', 0) for run in runs), default=0):.1f} s",
        f"largest worker           {max((run.get('worker_mib', 0) for run in runs), default=0)} MiB",
        "",
        "violations",
        *_counted(Counter(text.split(":")[0] for run in red for text in run["violations"])),
        "",
        f"{'recovery after':<28}{'faults':>8}{'alone':>8}{'p50 s':>8}{'p99 s':>8}{'max s':>8}",
    ]
    by_fault: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for run in runs:
        for fault in run["faults"]:
            if "left_out" not in fault:
                by_fault[f"{fault['kind']} {fault['target']}"].append(fault)
    for name, faults in sorted(by_fault.items()):
        times = [fault["recovery_s"] for fault in faults if fault["alone"]]
        lines.append(f"{name:<28}{len(faults):>8}{len(times):>8}" + _times(times))
    killed = [
        fault["recovery_s"]
        for name, faults in by_fault.items()
        for fault in faults
        if name.startswith("kill ") and name != "kill all" and fault["alone"]
    ]
    lines.append(f"{'any one process killed':<28}{len(killed):>8}{len(killed):>8}" + _times(killed))
    left_out = Counter(
        fault["left_out"].split(":")[0] for run in runs for fault in run["faults"] if "left_out" in fault
    )
    if left_out:
        lines += ["", "left out", *_counted(left_out)]
    return "\n".join(lines)


def _sum(runs: Iterable[dict[str, Any]], name: str) -> int:
    # A run that never came to rest was not counted.
    return sum(run.get(name, 0) for run in runs)


def _counted(counts: Counter[str]) -> list[str]:
    return [f"  {name}: {count}" for name, count in sorted(counts.items())] or ["  none"]


def _times(times: Sequence[float]) -> str:
    return "".join(f"{quantile(times, share):>8.1f}" for share in (0.5, 0.99, 1.0))
