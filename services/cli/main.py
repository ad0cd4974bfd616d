"""The command ``touchstone``: a table of commands, each in a file of its own, imported when it is run.

To add a command, write ``services/cli/NAME.py`` with a typer function and add a line to COMMANDS.
"""

from __future__ import annotations

import importlib
import os
import sys
from dataclasses import dataclass
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a command lives, and its line in the list of ``touchstone --help``."""

    module: str
    function: str
    help: str


COMMANDS: dict[str, Entry] = {
    "up": Entry("services.cli.up", "up", "Start the single-machine stack."),
    "down": Entry("services.cli.down", "down", "Stop it."),
    "status": Entry("services.cli.status", "status", "What runs, how far it is, what was counted."),
    "import": Entry("services.cli.import_", "import_file", "Bring in history from a Parquet, CSV or NDJSON file."),
    "simulate": Entry("services.cli.simulate", "simulate", "Send a company's customers, whose truth is known."),
    "sql": Entry("services.cli.sql", "sql", "Ask ClickHouse, with a login that may only read."),
    "customer": Entry("services.cli.customer", "customer", "Tell a customer's story: what was felt, what it did."),
    "verify": Entry("services.cli.verify", "verify", "Hold customers' states to the table of events and to the log."),
    "rebuild": Entry("services.cli.rebuild", "rebuild", "Make customers' states anew from the log, compare, swap."),
    "fit": Entry(
        "services.cli.learning.fit", "fit", "Learn a risk model from your own history, and say what it is worth."
    ),
    "models": Entry("services.cli.learning.models", "models", "The risk models: list, show, compare, activate, check."),
    "risk": Entry("services.cli.learning.risk", "risk", "How likely each customer is to leave, as of a date."),
    "infer": Entry(
        "services.cli.learning.infer",
        "infer",
        "How journeys that nobody rated may have felt, kept apart from what was.",
    ),
    "alerts": Entry("services.cli.alerting.app", "alerts", "Who must hear what: rules, cases, what calling brought."),
    "rejected": Entry("services.cli.rejected", "rejected", "What was refused, why, and its bytes."),
    "demo": Entry("services.cli.demo", "demo", "The main job on this machine, start to end."),
    "doctor": Entry("services.cli.doctor", "doctor", "Check this machine and the stack, and say what to do."),
}

EPILOG = "Exit codes: 0 done, 1 the answer is no, 2 wrong use, 3 a part cannot be reached."


class _LazyCommand(TyperCommand):
    """Stands in the list of commands; becomes the real one when it is to be run or to explain itself."""

    def __init__(self, name: str, entry: Entry) -> None:
        super().__init__(name, help=entry.help, rich_markup_mode=None)
        self._entry = entry

    def make_context(self, *args: Any, **more: Any) -> Any:
        return self._load().make_context(*args, **more)

    def _load(self) -> Any:
        function = getattr(importlib.import_module(self._entry.module), self._entry.function)
        if isinstance(function, typer.Typer):  # commands of its own
            group = typer.main.get_command(function)
            group.name = self.name
            return group
        alone = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
        alone.command(self.name, context_settings={"help_option_names": ["-h", "--help"]})(function)
        return typer.main.get_command(alone)


class _LazyGroup(TyperGroup):
    def list_commands(self, _context: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _context: Any, name: str) -> Any:
        entry = COMMANDS.get(name)
        return None if entry is None else _LazyCommand(name, entry)


app = typer.Typer(
    cls=_LazyGroup,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EPILOG,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"touchstone {version('touchstone-cx')}")
        raise typer.Exit


@app.callback()
def touchstone(
    version: bool = typer.Option(False, "--version", callback=_show_version, is_eager=True, help="Print the version."),
) -> None:
    """Measure how customers experience a company, event by event: who is about to leave, why, and what it costs.

    Start with: touchstone up, then touchstone status.
    """


def main() -> None:
    """Entry of the console script; ends the process."""
    from services.cli.console import CommandError, reported

    try:
        with reported():
            app(prog_name="touchstone")
    except CommandError as error:
        print(f"touchstone: {error}", file=sys.stderr)
        sys.exit(error.code)
    except BrokenPipeError:
        # The reader of our results has seen enough (`touchstone ... | head`); nothing more can be written there.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


if __name__ == "__main__":
    main()
