"""``touchstone import``: history from a file into the log."""

from __future__ import annotations

import gc
import json
import os
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Annotated, Any, Final

import typer

from infra.kafka.admin import KafkaAdmin
from infra.kafka.errors import ClusterUnreachableError
from infra.kafka.publish import Publisher
from schemas.topics import TOUCHPOINTS
from services.cli.addresses import locate
from services.cli.console import CommandError, ExitCode, print_json, print_table, say
from services.cli.progress import Progress
from services.cli.settings import load_settings
from services.importer.errors import ImporterError
from services.importer.files import open_source
from services.importer.importing import Counts, Import
from services.importer.judge import RefusedRow
from services.importer.mapping import Mapping, load_mapping

DELIVERY_TIMEOUT_S: Final = 60.0
"""How long Kafka may be away in the middle of an import before it stops."""
ADMIN_TIMEOUT_S: Final = 10.0
PROBLEMS_SHOWN: Final = 5
INTERRUPTED: Final = 130


def import_file(
    file: Annotated[Path, typer.Argument(help="Parquet, CSV or NDJSON; the text forms also packed (.gz, .zst).")],
    mapping: Annotated[
        Path, typer.Option("--mapping", "-m", help="TOML file that says which column feeds which field.")
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Judge every row and send nothing.")] = False,
    rejected: Annotated[
        Path | None,
        typer.Option("--rejected", help="Where refused rows go; default FILE.rejected.ndjson beside the file."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts as JSON.")] = False,
) -> None:
    """Bring history in: every row of a file becomes an event, by a mapping.

    touchstone import orders.parquet --mapping orders.toml --dry-run

    touchstone import orders.parquet --mapping orders.toml

    Importing the same file again adds nothing, so an import that was interrupted is simply run again. Mappings are
    explained in docs/import.md; docs/mappings has examples.

    Exit code 0: every row was taken; 1: some were refused; 2: the file or the mapping is wrong.
    """
    try:
        plan = _prepare(file, mapping)
        refusals = _Refusals(None if dry_run else _rejected_path(file, rejected))
        with refusals:
            counts, took_s = _dry_run(plan, refusals) if dry_run else _run(plan, refusals)
    except ImporterError as error:
        raise CommandError(str(error), ExitCode.WRONG_USE) from error
    _report(counts, took_s, refusals, dry_run=dry_run, as_json=as_json)
    if counts.refused:
        raise typer.Exit(ExitCode.NO)


class _KafkaLog:
    """The topic touchpoints, keyed by customer; `append` returns when all is acknowledged."""

    def __init__(self, bootstrap: str) -> None:
        with KafkaAdmin(bootstrap, timeout_s=ADMIN_TIMEOUT_S) as admin:
            if TOUCHPOINTS not in admin.topics():
                raise CommandError(
                    f"Kafka at {bootstrap} has no topic {TOUCHPOINTS}; `touchstone up` makes it", ExitCode.UNREACHABLE
                )
        self._publisher = Publisher(bootstrap, timeout_s=DELIVERY_TIMEOUT_S)

    def append(self, keys: Sequence[str], values: Sequence[bytes], timestamp_ms: int) -> None:
        """Send and wait. ClusterUnreachableError when Kafka does not acknowledge in time."""
        self._publisher.publish(TOUCHPOINTS, keys, values, timestamp_ms)


class _Refusals:
    """Refused rows: all into a file that is made for the first one, the first few also for the person."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.first: list[RefusedRow] = []
        self._file: IO[str] | None = None

    def __enter__(self) -> _Refusals:
        if self.path is not None:
            # What an earlier import refused would be taken for this one's.
            self.path.unlink(missing_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, refused: RefusedRow, columns: dict[str, Any]) -> None:
        """Keep one, with the columns it came from."""
        if len(self.first) < PROBLEMS_SHOWN:
            self.first.append(refused)
        if self.path is None:
            return
        if self._file is None:
            self._file = self._open(self.path)
        first = refused.problems[0]
        line = {
            "row": refused.row,
            "reason": first.reason,
            "field": first.field,
            "detail": first.detail,
            "problems": [problem._asdict() for problem in refused.problems[1:]],
            "columns": columns,
            "event": refused.event,
        }
        self._file.write(json.dumps(line, ensure_ascii=False, default=str) + "\n")

    def _open(self, path: Path) -> IO[str]:
        try:
            # Lone surrogates of a damaged source must not end the import.
            return path.open("w", encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            raise CommandError(
                f"refused rows cannot be written to {path} ({error.strerror}); name another place with --rejected",
                ExitCode.WRONG_USE,
            ) from error


def _prepare(file: Path, mapping_path: Path) -> Import:
    try:
        text = mapping_path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"the mapping {mapping_path} cannot be read: {error}", ExitCode.WRONG_USE) from error
    mapping: Mapping = load_mapping(text, mapping_path.name)
    say(f"reading {file}")
    plan = Import(open_source(file, mapping), mapping, mapping_path.name)
    for note in plan.notes:
        say(note)
    return plan


def _rejected_path(file: Path, given: Path | None) -> Path:
    if given is not None:
        return given
    name = f"{file.name}.rejected.ndjson"
    return file.with_name(name) if os.access(file.parent, os.W_OK) else Path(name)


def _dry_run(plan: Import, refusals: _Refusals) -> tuple[Counts, float]:
    return _loop(plan, None, refusals)


def _run(plan: Import, refusals: _Refusals) -> tuple[Counts, float]:
    return _loop(plan, _KafkaLog(locate(load_settings()).kafka_bootstrap), refusals)


def _loop(plan: Import, log: _KafkaLog | None, refusals: _Refusals) -> tuple[Counts, float]:
    counts = Counts()
    started_s = time.monotonic()
    # A chunk is some hundred thousand objects and no cycle: the collector would take a fifth of the time for nothing.
    gc.disable()
    with Progress("importing" if log is not None else "judging", plan.rows) as progress:
        try:
            for counts in plan.run(log, clock_us=_now_us, refuse=refusals.add):
                progress.update(counts.rows, f"{counts.refused:,} refused" if counts.refused else "")
        except KeyboardInterrupt:
            say(_where_stopped(counts, plan))
            raise typer.Exit(INTERRUPTED) from None
        except ClusterUnreachableError as error:
            raise CommandError(f"{error}\n{_where_stopped(counts, plan)}", ExitCode.UNREACHABLE) from error
        finally:
            gc.enable()
    return counts, time.monotonic() - started_s


def _where_stopped(counts: Counts, plan: Import) -> str:
    return (
        f"stopped after {counts.rows:,} of {plan.rows:,} rows ({counts.accepted:,} acknowledged by Kafka). "
        "Run the same command again: what is in the log already adds nothing."
    )


def _now_us() -> int:
    return time.time_ns() // 1000


def _report(counts: Counts, took_s: float, refusals: _Refusals, *, dry_run: bool, as_json: bool) -> None:
    kept_at = str(refusals.path) if refusals.path is not None and counts.refused else None
    if as_json:
        print_json(
            {
                "dry_run": dry_run,
                "rows": counts.rows,
                "accepted": counts.accepted,
                "refused": counts.refused,
                "skipped": counts.skipped,
                "kinds": dict(counts.kinds.most_common()),
                "reasons": dict(counts.reasons.most_common()),
                "earliest": _iso(counts.earliest_us),
                "latest": _iso(counts.latest_us),
                "seconds": round(took_s, 3),
                "rows_per_s": round(counts.rows / max(took_s, 1e-9)),
                "rejected_file": kept_at,
            }
        )
        return
    print_table(
        ["rows", f"{counts.rows:,}"],
        [
            ["accepted" + (" (nothing was sent)" if dry_run else ""), f"{counts.accepted:,}"],
            ["refused", f"{counts.refused:,}"],
            *([["skipped by a rule", f"{counts.skipped:,}"]] if counts.skipped else []),
        ],
    )
    if counts.kinds:
        print()
        print_table(["kind", "events"], [[kind, f"{count:,}"] for kind, count in counts.kinds.most_common()])
    if counts.earliest_us is not None:
        print(f"\nfrom {_iso(counts.earliest_us)} to {_iso(counts.latest_us)}")
    say(f"{counts.rows / max(took_s, 1e-9):,.0f} rows/s in {took_s:.1f} s")
    for refused in refusals.first:
        problem = refused.problems[0]
        say(f"row {refused.row}: {problem.reason}: {problem.field.lstrip('/') or 'row'}: {problem.detail}")
    if kept_at is not None:
        say(f"all {counts.refused:,} refused rows, with their reasons: {kept_at}")
    if not dry_run and counts.accepted:
        say("next: touchstone status, until nothing waits to be scored")


def _iso(time_us: int | None) -> str | None:
    return None if time_us is None else datetime.fromtimestamp(time_us / 1e6, UTC).isoformat()
