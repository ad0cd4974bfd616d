"""``touchstone fit``: learn a risk model from the deployment's own history, and keep it to be looked at."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import polars as pl
import typer

from infra.clickhouse.models import StoredModel, active_model, list_models, save_model
from services.cli.console import CommandError, ExitCode, print_json, say
from services.cli.learning.asking import (
    DRAWS,
    Horizon,
    MoreKinds,
    day_of,
    kinds_of,
    learning,
    moment_us,
    silence_note,
    some_events,
    tables,
)
from services.cli.learning.experience import experience_of
from services.cli.learning.history import FELT, LEARNT_FROM, SHOWN, History, read_history
from services.cli.learning.levels import levels
from services.cli.learning.quality import Window, judged_at, latest_window, refitted
from services.cli.learning.told import document, line, print_fit, print_qualities
from services.cli.learning.translate import to_learnt, to_risk_model
from services.cli.settings import load_settings
from services.cli.verification.deployment import is_documented
from services.learning import fitting
from services.learning.fitting import ExperienceAt
from services.learning.judging import risks
from services.learning.measures import Quality
from services.learning.model import LearntModel
from services.scoring.risk.model import DEFAULT, Bands, ModelError, RiskModel

DOCUMENTED: Final = "default-"
"""Versions that begin so are the documented defaults."""
_VERSION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def fit(
    asof: Annotated[
        str | None,
        typer.Option("--asof", metavar="DATE", help="Learn as on that date, UTC; default: now.", show_default=False),
    ] = None,
    horizon: Horizon = None,
    activity: Annotated[
        list[str] | None,
        typer.Option(
            "--activity",
            metavar="KIND...",
            help="Kinds of event that count as coming back; default: those of the model that judges now.",
            show_default=False,
        ),
    ] = None,
    more_kinds: MoreKinds = None,
    version: Annotated[
        str | None,
        typer.Option("--version", metavar="NAME", help="Name of the model; default fitted-DATE-N.", show_default=False),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option("--report", metavar="FOLDER", help="Write a page with pictures there.", show_default=False),
    ] = None,
    save: Annotated[bool, typer.Option("--save/--no-save", help="Keep the model in table models.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was found as JSON.")] = False,
) -> None:
    """Learn from the deployment's own history who is about to leave, and say what that is worth.

    The model is kept and judges nobody yet: look at it with `touchstone models`, then activate it. Fitting again the
    same day, or every night, is safe; the events decide, and the same events give the same model.

    touchstone fit

    touchstone fit --horizon 60 --activity purchase renewal --no-save

    Exit code 0: done; 1: there is too little history; 2: wrong use; 3: ClickHouse cannot be reached.
    """
    kinds = kinds_of(activity, more_kinds)
    as_of_us = time.time_ns() // 1000 if asof is None else moment_us(asof)
    if report is not None and report.exists() and not report.is_dir():
        raise CommandError(f"--report {report} is a file: name a folder", ExitCode.WRONG_USE)
    settings = load_settings()
    with tables(settings) as client:
        stored = list_models(client)
        name = checked_version(version, stored, datetime.now(UTC))
        columns = (*LEARNT_FROM, *FELT) if report is None else (*LEARNT_FROM, *FELT, *SHOWN)
        history = read_history(client, columns, before_us=as_of_us)
        experience = experience_of(history)
        fitted = fit_on(history, as_of_us, name, horizon, kinds, judging_model(stored), experience)
        if save:
            judge = to_risk_model(fitted.model, fitted.bands)
            save_model(client, name, judge.to_json(), fitted.model.model_dump_json())
    page = None if report is None else _write_report(fitted, history, as_of_us, experience, report)
    if as_json:
        print_json({**_document(fitted, saved=save), "report": None if page is None else str(page)})
    else:
        _print(fitted, saved=save)


@dataclass(frozen=True, slots=True)
class Fitted:
    """A new model, what must be said, and how the procedure did on the latest window beside the model that judges.

    ``earlier``: such a fit as of the window's start; None where there was too little history by then.
    """

    model: LearntModel
    judging: RiskModel
    notes: tuple[str, ...]
    bands: Bands
    window: Window | None
    earlier: LearntModel | None
    beside: tuple[tuple[str, Quality], ...]


def fit_on(
    history: History,
    as_of_us: int,
    version: str,
    horizon: int | None,
    kinds: Sequence[str] | None,
    judging: RiskModel,
    experience: ExperienceAt | None = None,
) -> Fitted:
    """Learn from a history. Without ``kinds``, those of the model that judges, if they ever happened.

    CommandError where there is too little of it.
    """
    as_of = day_of(as_of_us)
    some_events(history, as_of)
    events, notes = history.events, list(history.notes)
    if kinds is None:
        kinds = usual_kinds(history, judging)
    with learning(f"as of {as_of}"):
        model = fitting.fit(
            events,
            as_of_us,
            version=version,
            draws=DRAWS,
            horizon_days=horizon,
            kinds=kinds,
            experience=experience,
        )
    silence = silence_note(history, as_of_us, model.horizon_days)
    notes += [silence] if silence else []
    if set(model.kinds) != set(judging.activity_kinds):
        notes.append(
            f"{judging.version} and the customers' states count {' or '.join(judging.activity_kinds)} as coming back: "
            "a model that counts other kinds can be looked at, and activated after `touchstone rebuild --swap "
            f"{' '.join(f'--activity {kind}' for kind in model.kinds)}`"
        )
    window = latest_window(events, as_of_us, model.horizon_days, model.kinds)
    bands = levels(model, events, risks(model, events, as_of_us, experience), as_of_us)
    earlier = None if window is None else refitted(events, window, model.kinds, experience)
    beside = _beside(events, earlier, judging, window, experience)
    return Fitted(model, judging, tuple(notes), bands, window, earlier, beside)


def _beside(
    events: pl.DataFrame,
    earlier: LearntModel | None,
    judging: RiskModel,
    window: Window | None,
    experience: ExperienceAt | None,
) -> tuple[tuple[str, Quality], ...]:
    """The same fit as of the start of the latest window, and the model that judges, by who left in it."""
    if window is None or earlier is None:
        return ()
    theirs = to_learnt(judging, earlier.horizon_days, earlier.kinds)
    return (
        (f"such a fit on {day_of(window.start_us)}", judged_at(earlier, events, window, experience)),
        (f"{judging.version} (judges now)", judged_at(theirs, events, window, experience)),
    )


def usual_kinds(history: History, judging: RiskModel) -> tuple[str, ...] | None:
    """The kinds of the model that judges if one of them ever happened, else None."""
    happened = set(history.events.get_column("kind").cast(str).unique().to_list())
    return judging.activity_kinds if happened & set(judging.activity_kinds) else None


def judging_model(stored: list[StoredModel]) -> RiskModel:
    """The model that judges; the documented default where none was activated, or only an older default."""
    active = active_model(stored)
    if active is None or (active.version.startswith(DOCUMENTED) and not is_documented(active.version)):
        return DEFAULT
    try:
        return RiskModel.from_json(active.parameters)
    except ModelError as error:
        raise CommandError(f"the active model {active.version} cannot be read: {error}", ExitCode.NO) from error


def checked_version(given: str | None, stored: list[StoredModel], now: datetime) -> str:
    """A name that is free: as given, or made of the date. CommandError if it cannot be used."""
    taken = {model.version for model in stored}
    if given is None:
        number = 1
        while (name := f"fitted-{now:%Y%m%d}-{number}") in taken:
            number += 1
        return name
    if not _VERSION.fullmatch(given) or given.startswith(DOCUMENTED):
        raise CommandError(
            f"--version {given}: use up to 100 letters, digits, dots, dashes and underscores, not beginning with "
            f"{DOCUMENTED}",
            ExitCode.WRONG_USE,
        )
    if given in taken:
        raise CommandError(
            f"--version {given}: a model of that name exists, and models never change; take another name",
            ExitCode.WRONG_USE,
        )
    return given


def _write_report(
    fitted: Fitted, history: History, as_of_us: int, experience: ExperienceAt | None, folder: Path
) -> Path:
    from services.cli.learning.reporting import report_content  # pictures load slowly
    from services.learning.report import write_report

    content = report_content(fitted, history, as_of_us, time.time_ns() // 1000, experience)
    try:
        page = write_report(folder, content)
    except OSError as error:
        raise CommandError(f"--report {folder} cannot be written: {error.strerror}", ExitCode.WRONG_USE) from error
    say(f"report in {page}")
    return page


def _print(fitted: Fitted, *, saved: bool) -> None:
    model = fitted.model
    print_fit(model)
    bands = fitted.bands
    line("bands", f"elevated from {bands.elevated_enter:.2f}, high from {bands.high_enter:.2f}")
    print()
    if fitted.beside and fitted.window is not None:
        window = fitted.window
        print(f"by who left from {day_of(window.start_us)} to {day_of(window.end_us)}, from what was known before:")
        print_qualities(fitted.beside)
    else:
        print("too little history for a window to compare it on with the model that judges now")
    for note in fitted.notes:
        say(note)
    if saved:
        print(f"\nkept as {model.version}; it judges nobody yet. Next:")
        print(f"  touchstone models compare {fitted.judging.version} {model.version}    what it would change, for whom")
        print(f"  touchstone models activate {model.version}    it judges from then on")
    else:
        print("\nnot kept (--no-save)")


def _document(fitted: Fitted, *, saved: bool) -> dict[str, Any]:
    window = fitted.window
    found = document(fitted.model)
    return {
        **found,
        "bands": asdict(fitted.bands),
        "notes": [*found["notes"], *fitted.notes],
        "saved": saved,
        "window": None if window is None else {"from": day_of(window.start_us), "until": day_of(window.end_us)},
        "beside": [{"model": name, **quality.model_dump()} for name, quality in fitted.beside],
        "judging": fitted.judging.version,
    }
