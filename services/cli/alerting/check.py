"""``touchstone alerts check``: what is wrong with a rules file, and what it says."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from services.alerting.rules.durations import duration_text
from services.alerting.rules.model import Focus, Rule, RuleSet
from services.alerting.rules.read import Finding, Read, RulesError, read_rules
from services.alerting.rules.yaml_text import MOST_BYTES
from services.cli.console import CommandError, ExitCode, paint, print_json, print_table, say

RulesPath = Annotated[Path, typer.Argument(metavar="RULES", help="Rules file, YAML.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print as JSON.")]


def check(rules: RulesPath, as_json: AsJson = False) -> None:
    """Check a rules file: every error and doubt with its line, and what to do. Calls nobody.

    touchstone alerts check docs/alerting/rules.example.yml

    Exit code 0: it can be used; 1: it cannot; 2: there is no such file.
    """
    try:
        found = read_file(rules)
    except RulesError as error:
        if as_json:
            print_json(_document(None, error.findings, []))
        else:
            for finding in error.findings:
                print(f"{paint('error', 'red')}  {finding}")
        count = len(error.findings)
        raise CommandError(
            f"{rules} cannot be used: {count} {'error' if count == 1 else 'errors'}", ExitCode.NO
        ) from error
    if as_json:
        print_json(_document(found.rules, [], found.warnings))
        return
    for warning in found.warnings:
        print(f"{paint('warning', 'yellow')}  {warning}")
    _print(found.rules)
    say(f"{rules} can be used: version {found.rules.rules_version[:12]}")


def read_file(path: Path) -> Read:
    """The rules in a file; raises `RulesError`, or `CommandError` where there is no such file."""
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise CommandError(
            f"{path} cannot be read: {error.strerror}; give the path of a rules file", ExitCode.WRONG_USE
        ) from error
    return read_rules(content, str(path))


def _print(rules: RuleSet) -> None:
    every: list[Rule | Focus] = [*rules.rules, *rules.focus]
    rows = [
        [
            each.name,
            each.severity,
            each.owner,
            _condition(each),
            f"{each.budget.per_hour}/h {each.budget.per_day}/d",
            ", ".join(each.receivers),
        ]
        for each in every
    ]
    if rows:
        print_table(["rule", "severity", "owner", "when", "budget", "receivers"], rows)


def _condition(rule: Rule | Focus) -> str:
    if isinstance(rule, Rule):
        return rule.when.text
    return f"{rule.measure} by {rule.by}, {duration_text(rule.window_us)} against {duration_text(rule.against_us)}"


def _document(rules: RuleSet | None, errors: list[Finding], warnings: list[Finding]) -> dict[str, Any]:
    return {
        "usable": rules is not None,
        "rules_version": rules.rules_version if rules is not None else None,
        "rules": [rule.name for rule in rules.rules] if rules is not None else [],
        "focus": [focus.name for focus in rules.focus] if rules is not None else [],
        "errors": [asdict(finding) for finding in errors],
        "warnings": [asdict(finding) for finding in warnings],
    }
