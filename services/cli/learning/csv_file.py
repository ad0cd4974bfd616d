"""A table as a CSV file, or on standard output."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import polars as pl

from services.cli.console import CommandError, ExitCode, say

STDOUT: Final = "-"


def writable(out: Path) -> None:
    """CommandError at once, not after the work."""
    if str(out) == STDOUT:
        return
    if out.is_dir() or not out.absolute().parent.is_dir():
        what = "is a folder" if out.is_dir() else "lies in a folder that does not exist"
        raise CommandError(f"--out {out} {what}: name a file in a folder that exists", ExitCode.WRONG_USE)


def write_csv(rows: pl.DataFrame, out: Path) -> None:
    """Write all or nothing. CommandError where it cannot be written."""
    if str(out) == STDOUT:
        sys.stdout.write(rows.write_csv())
        sys.stdout.flush()
        return
    # A file that is there is whole.
    partial = out.with_name(f".{out.name}.partial")
    try:
        rows.write_csv(partial)
        partial.replace(out)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise CommandError(f"{out} cannot be written: {error.strerror}", ExitCode.WRONG_USE) from error
    say(f"{rows.height:,} rows in {out}")
