"""What the commands of learning have in common: moments, kinds, the tables, and how a refusal ends a command."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from difflib import get_close_matches
from functools import partial
from typing import Annotated, Final

import numpy as np
import typer

from infra.clickhouse.client import ClickHouse, connect
from services.cli.addresses import locate
from services.cli.console import CommandError, ExitCode
from services.cli.figures import clickhouse_settings
from services.cli.learning.history import History, known_kinds
from services.cli.reading import quiet_driver
from services.cli.settings import StackSettings
from services.learning.activity import DAY_US
from services.learning.errors import BadHistory, LearningError
from services.learning.measures import Draws

STATEMENT_S: Final = 600
"""A history may be the whole table."""
DRAWS: Final[Draws] = partial(np.random.default_rng, 0)
"""The same folds and bootstrap samples at every fit: the same events give the same model."""
MOST_HORIZON_DAYS: Final = 3650
_LATEST: Final = datetime(2149, 1, 1, tzinfo=UTC)
"""Days are counted in 16 bits."""

Horizon = Annotated[
    int | None,
    typer.Option(
        "--horizon",
        metavar="DAYS",
        min=1,
        max=MOST_HORIZON_DAYS,
        help="Not coming back for so many days is leaving; default: from the customers' own gaps.",
        show_default=False,
    ),
]
MoreKinds = Annotated[list[str] | None, typer.Argument(metavar="[KIND]...", hidden=True)]
"""Further kinds behind the first of --activity."""


def moment_us(given: str, option: str = "--asof") -> int:
    """UTC microseconds of a date (its midnight) or an ISO 8601 moment; without a zone it is UTC. CommandError."""
    try:
        moment = datetime.fromisoformat(given)
    except ValueError:
        raise CommandError(
            f"{option} {given} is no date: write it as 2026-03-01 or 2026-03-01T12:00:00Z", ExitCode.WRONG_USE
        ) from None
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    if not datetime(1971, 1, 1, tzinfo=UTC) <= moment <= _LATEST:
        raise CommandError(f"{option} {given} must lie between 1971 and {_LATEST.year}", ExitCode.WRONG_USE)
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return since.days * DAY_US + since.seconds * 1_000_000 + since.microseconds


def day_of(at_us: int) -> str:
    """The UTC date of a moment."""
    return datetime.fromtimestamp(at_us / 1e6, UTC).date().isoformat()


def kinds_of(activity: Sequence[str] | None, more: Sequence[str] | None) -> list[str] | None:
    """Kinds that count as coming back, as given; None if none was. CommandError for a kind that does not exist."""
    if more and not activity:
        raise CommandError(f"{' '.join(more)}: name kinds of event after --activity", ExitCode.WRONG_USE)
    given = [kind for part in (*(activity or ()), *(more or ())) for kind in part.split(",") if kind]
    known = known_kinds()
    for kind in given:
        if kind not in known:
            near = get_close_matches(kind, known, n=2, cutoff=0.6)
            hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(known)}"
            raise CommandError(f"--activity {kind} is no kind of event: {hint}", ExitCode.WRONG_USE)
    return list(dict.fromkeys(given)) or None


@contextmanager
def tables(settings: StackSettings) -> Iterator[ClickHouse]:
    """The server that the settings name, with the login that owns the tables and patience for long statements."""
    quiet_driver()
    where = clickhouse_settings(settings, locate(settings)).model_copy(update={"timeout_s": STATEMENT_S})
    with connect(where) as client:
        yield client


@contextmanager
def learning(what: str) -> Iterator[None]:
    """Refusals of learning become CommandError: wrong use where an option is at fault, else the answer is no."""
    try:
        yield
    except BadHistory as error:
        raise CommandError(f"{what}: {error}", ExitCode.WRONG_USE) from error
    except LearningError as error:
        raise CommandError(f"{what}: {error}", ExitCode.NO) from error


def some_events(history: History, as_of: str) -> None:
    """CommandError if there is nothing to learn from."""
    if history.events.is_empty():
        where = f" of source {history.source}" if history.source else ""
        raise CommandError(
            f"no event{where} happened before {as_of}: choose a later moment with --asof, or bring history in with "
            "`touchstone import`",
            ExitCode.NO,
        )


def silence_note(history: History, as_of_us: int, horizon_days: int) -> str | None:
    """What to say when the newest event is so old that everybody seems to have left."""
    last_us = history.last_us
    if last_us is None or as_of_us - last_us <= horizon_days * DAY_US:
        return None
    return (
        f"the newest event is of {day_of(last_us)}, more than a horizon before: everybody looks as if they had left. "
        f"For a history that ends there use --asof {day_of(last_us + DAY_US)}"
    )
