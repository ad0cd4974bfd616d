"""How every command speaks: results on stdout, messages on stderr, exit codes that a script can trust."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import IO, Any

import typer


class ExitCode(IntEnum):
    """What a command's end means."""

    DONE = 0
    NO = 1
    """The answer is no: verify differs, doctor found something, the stack is not healthy."""
    WRONG_USE = 2
    """Wrong arguments, settings or files."""
    UNREACHABLE = 3
    """A part cannot be reached."""


class CommandError(Exception):
    """Ends the command with a message on stderr and an exit code."""

    def __init__(self, message: str, code: ExitCode) -> None:
        super().__init__(message)
        self.code = code


def say(message: str) -> None:
    """A message to the person: stderr, at once."""
    print(message, file=sys.stderr, flush=True)


def print_json(value: Any) -> None:
    """A result for a script: one JSON document on stdout."""
    print(json.dumps(value, indent=2, ensure_ascii=False, default=str), flush=True)


def is_plain(stream: IO[Any] | None = None) -> bool:
    """True when colour and animation are unwanted: not a terminal, NO_COLOR, or TERM=dumb."""
    stream = stream or sys.stdout
    return bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb" or not stream.isatty()


def paint(text: str, colour: str) -> str:
    """``text`` in a colour (red, yellow, green, ...) where that is wanted."""
    return text if is_plain() else typer.style(text, fg=colour)


def print_table(head: list[str], rows: list[list[str]]) -> None:
    """Aligned columns on stdout; numbers (by their look) to the right."""
    table = [head, *rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(head))]
    numeric = [
        bool(rows) and all(row[column].replace(",", "").replace(".", "").lstrip("-").isdigit() for row in rows)
        for column in range(len(head))
    ]
    for row in table:
        cells = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        ]
        print("  ".join(cells).rstrip())


@contextmanager
def reported() -> Iterator[None]:
    """Turn the faults of our packages into CommandError. Imports the error trees only when something was raised."""
    try:
        yield
    except CommandError:
        raise
    except Exception as error:
        code = _code_of(error)
        if code is None:
            raise
        raise CommandError(str(error), code) from error


def _code_of(error: Exception) -> ExitCode | None:
    from infra.clickhouse import errors as clickhouse
    from infra.embedded import errors as embedded
    from infra.kafka import errors as kafka

    if isinstance(error, kafka.ClusterUnreachableError | clickhouse.TransientError):
        return ExitCode.UNREACHABLE
    if isinstance(error, embedded.PortTakenError):
        return ExitCode.WRONG_USE
    if isinstance(error, kafka.KafkaInfraError | clickhouse.ClickHouseError | embedded.StackError):
        return ExitCode.NO
    return None
