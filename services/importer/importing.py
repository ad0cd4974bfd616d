"""The import as a loop: a chunk is read, mapped, judged, appended to the log; then the progress moves."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from services.importer.errors import MappingError
from services.importer.files import Chunk, SourceFile
from services.importer.identity import RowIds, find_twins
from services.importer.judge import Judged, RefusedRow, judge, to_events
from services.importer.mapping import Mapping, check_columns
from services.importer.plan import Plan, make_plan

CHUNK_ROWS: Final = 10_000
"""Large enough for columns to pay, small enough that an interruption repeats little."""


class Log(Protocol):
    """Where accepted events go."""

    def append(self, keys: Sequence[str], values: Sequence[bytes], timestamp_ms: int) -> None:
        """Return once all of them are acknowledged; raise if they are not."""


@dataclass(slots=True)
class Counts:
    """What became of the rows so far: rows = accepted + refused + skipped."""

    rows: int = 0
    accepted: int = 0
    refused: int = 0
    skipped: int = 0
    """Left out because a rule of the mapping says so."""
    kinds: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    earliest_us: int | None = None
    latest_us: int | None = None

    def add(self, judged: Judged) -> None:
        """Count a chunk."""
        self.rows += len(judged.values) + len(judged.refused) + judged.skipped
        self.accepted += len(judged.values)
        self.refused += len(judged.refused)
        self.skipped += judged.skipped
        self.kinds.update(judged.kinds)
        self.reasons.update(row.problems[0].reason.value for row in judged.refused)
        if judged.earliest_us is not None and judged.latest_us is not None:
            self.earliest_us = min(judged.earliest_us, self.earliest_us or judged.earliest_us)
            self.latest_us = max(judged.latest_us, self.latest_us or judged.latest_us)


@dataclass(frozen=True, slots=True)
class Survey:
    """What the first reading of a file found out."""

    rows: int
    twins: frozenset[int]


class Import:
    """One file with one mapping. ``name`` is how errors call the mapping.

    Reads the file once before anything is sent: to count it, to find rows that are alike, and to fail early if it
    is damaged. Raises `MappingError` or `SourceFileError`.
    """

    def __init__(self, source: SourceFile, mapping: Mapping, name: str) -> None:
        self._source = source
        self._mapping = mapping
        self._name = name
        columns = source.columns()
        if columns is not None:
            check_columns(mapping, columns, name, source.path.name)
        self._plan: Plan = make_plan(mapping, source.schema(), name)
        self.notes: list[str] = []
        """What should be said before it starts: columns that no row has."""
        self._survey = self._look()

    @property
    def rows(self) -> int:
        """Rows in the file."""
        return self._survey.rows

    def _look(self) -> Survey:
        rows = 0
        filled: set[str] = set()
        needs_ids = self._mapping.fields.event_id is None

        def contents() -> Iterator[Any]:
            nonlocal rows
            for chunk in self._source.chunks(CHUNK_ROWS):
                rows += len(chunk.rows) + len(chunk.bad)
                filled.update(name for name in chunk.frame.columns if chunk.frame[name].null_count() < len(chunk.rows))
                if needs_ids:
                    yield chunk.contents

        twins = find_twins(contents())
        if self._source.columns() is None and rows:
            # Only now is it known which members the lines have.
            self.notes = check_columns(self._mapping, sorted(filled), self._name, self._source.path.name, lenient=True)
        return Survey(rows, twins)

    def run(
        self,
        log: Log | None,
        *,
        clock_us: Callable[[], int],
        refuse: Callable[[RefusedRow, dict[str, Any]], None],
        chunk_rows: int = CHUNK_ROWS,
    ) -> Iterator[Counts]:
        """Yield the counts after each chunk that the log has acknowledged; without a log nothing is sent.

        ``refuse`` gets every refused row with its columns. Raises `MappingError` if not one row of the first chunk
        is accepted and more are to come: then it is the mapping that is wrong.
        """
        counts = Counts()
        ids = RowIds(self._mapping.dataset, self._survey.twins) if self._mapping.fields.event_id is None else None
        for chunk in self._source.chunks(chunk_rows):
            received_at_us = clock_us()
            judged = self._judge(chunk, ids, received_at_us)
            if log is not None and judged.values:
                log.append(judged.keys, judged.values, received_at_us // 1000)
            for row in judged.refused:
                refuse(row, self._columns(chunk, row))
            counts.add(judged)
            yield counts
            if counts.accepted == 0 and counts.refused == counts.rows < self.rows:
                first = judged.refused[0].problems[0]
                raise MappingError(
                    f"{self._name}: none of the first {counts.rows} rows is an event, so nothing was sent. "
                    f"The first refusal: {first.field.lstrip('/') or 'row'}: {first.detail}"
                )

    def _judge(self, chunk: Chunk, ids: RowIds | None, received_at_us: int) -> Judged:
        events = to_events(self._plan.apply(chunk.frame)) if len(chunk.rows) else []
        if ids is not None:
            for event, event_id in zip(events, ids.take(chunk.contents), strict=True):
                if event is not None:
                    event["event_id"] = event_id
        judged = judge(events, chunk.rows, received_at_us)
        judged.refused = sorted([*judged.refused, *chunk.bad], key=lambda row: row.row)
        return judged

    def _columns(self, chunk: Chunk, refused: RefusedRow) -> dict[str, Any]:
        at = bisect_left(chunk.rows, refused.row)
        if at == len(chunk.rows) or chunk.rows[at] != refused.row:
            return {}
        return chunk.frame.row(at, named=True)
