"""The pages and files of operations, read as what they say."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import promql_parser
import yaml
from markdown_it import MarkdownIt

ROOT: Final = Path(__file__).parents[3]
TELEMETRY: Final = ROOT / "docs" / "telemetry.md"
RUNBOOK: Final = ROOT / "docs" / "runbook.md"
RULES: Final = ROOT / "infra" / "prometheus" / "touchstone.rules.yml"
OF_PROMETHEUS: Final = frozenset({"up"})
TARGET_LABELS: Final = frozenset({"job", "instance"})


@dataclass(frozen=True, slots=True)
class Documented:
    """A row of the catalogue. ``labels``: their values; empty where any number can come."""

    name: str
    type: str
    labels: dict[str, set[str]] = field(default_factory=dict)
    unit: str = ""
    meaning: str = ""
    use: str = ""


def catalogue() -> dict[str, list[Documented]]:
    """Metrics by the heading that they stand under."""
    found: dict[str, list[Documented]] = {}
    heading, cells = "", []
    inside = False
    for token in MarkdownIt("commonmark").enable("table").parse(TELEMETRY.read_text("utf-8")):
        if token.type == "heading_open":
            inside = True
        elif token.type == "inline" and inside:
            heading, inside = token.content, False
        elif token.type == "tr_open":
            cells = []
        elif token.type == "inline":
            cells.append(token.content)
        elif token.type == "tr_close" and len(cells) == 6 and cells[0] != "metric":
            name, kind, labels, unit, meaning, use = cells
            found.setdefault(heading, []).append(Documented(name.strip("`"), kind, _labels(labels), unit, meaning, use))
    return found


def _labels(text: str) -> dict[str, set[str]]:
    parts = [part.partition(":") for part in text.split(";") if part]
    return {name.strip("` "): set(re.findall(r"`([^`]+)`", values)) for name, _, values in parts}


def documented() -> dict[str, Documented]:
    """All metrics of the catalogue by name."""
    return {row.name: row for rows in catalogue().values() for row in rows}


def alerts() -> list[dict[str, Any]]:
    """The alarms, as in their file."""
    groups: list[dict[str, Any]] = yaml.safe_load(RULES.read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def sections() -> dict[str, str]:
    """Sections of the runbook by heading."""
    parts = re.split(r"^## (.+)$", RUNBOOK.read_text("utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@dataclass(frozen=True, slots=True)
class Selected:
    """A metric that an expression asks for, with the labels that it is told by."""

    name: str
    labels: dict[str, str]


def selected(expression: str) -> list[Selected]:
    """Parses PromQL; raises ValueError when it cannot."""
    found: list[Selected] = []

    def walk(node: Any) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            found.append(Selected(node.name or "", {m.name: m.value for m in node.matchers.matchers}))
            return
        for name in ("expr", "lhs", "rhs", "param", "vs", "vector_selector", "args"):
            child = getattr(node, name, None)
            for each in child if isinstance(child, list) else [child]:
                if each is not None and type(each).__module__.startswith("promql_parser"):
                    walk(each)

    walk(promql_parser.parse(expression))
    return found


def grouped_by(expression: str) -> set[str]:
    """Labels of `by (...)` clauses."""
    return {name.strip() for clause in re.findall(r"\bby \(([^)]*)\)", expression) for name in clause.split(",")} - {""}


def base(name: str, known: dict[str, Documented]) -> str:
    """The catalogue's name of a series: histograms stand there without suffix."""
    for suffix in ("_bucket", "_sum", "_count"):
        stem = name.removesuffix(suffix)
        if stem != name and stem in known and known[stem].type == "histogram":
            return stem
    return name


def faults_of(expression: str, known: dict[str, Documented]) -> list[str]:
    """What an expression asks for that does not exist."""
    faults: list[str] = []
    asked = selected(expression)
    if not asked:
        faults.append("asks for no metric")
    labels: set[str] = {"le"}
    for one in asked:
        if one.name in OF_PROMETHEUS:
            labels |= TARGET_LABELS
            continue
        row = known.get(base(one.name, known))
        if row is None:
            faults.append(f"{one.name} is not in the catalogue")
            continue
        labels |= set(row.labels) | TARGET_LABELS
        for name, value in one.labels.items():
            if name in TARGET_LABELS or name == "__name__":
                continue
            if name not in row.labels:
                faults.append(f"{one.name} has no label {name}")
            elif row.labels[name] and not set(value.split("|")) <= row.labels[name]:
                faults.append(f"{one.name}: {name} is never {value}")
    faults += [f"by ({name}): no metric has it" for name in grouped_by(expression) - labels]
    return faults
