"""``touchstone models``: the risk models there are: list, show, compare, activate, check."""

from __future__ import annotations

import time
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import typer
from pydantic import ValidationError

from infra.clickhouse.checks import save_check
from infra.clickhouse.models import StoredModel, active_model, choose_shadow, list_models, shadow_version
from services.cli.console import CommandError, ExitCode, paint, print_json, print_table, say
from services.cli.learning import activation
from services.cli.learning.asking import day_of, moment_us, some_events, tables
from services.cli.learning.checking import check_drift, check_row, print_drift
from services.cli.learning.compare import Subject, compare, comparison_document, flattered, print_comparison
from services.cli.learning.experience import experience_of
from services.cli.learning.fit import judging_model
from services.cli.learning.history import FELT, LEARNT_FROM, read_history
from services.cli.learning.quality import own_quality
from services.cli.learning.told import QUALITY_HEAD, document, line, moment, print_fit, quality_cells
from services.cli.learning.translate import to_learnt
from services.cli.settings import load_settings
from services.learning.errors import LearningError
from services.learning.model import LearntModel
from services.scoring.risk.model import DEFAULT, ModelError, RiskModel

ACTIVE: Final = "active"
SHADOW: Final = "shadow"
ALWAYS: Final = datetime(1971, 1, 1, tzinfo=UTC)
"""What was activated before was so from the beginning."""
CHANGES_SHOWN: Final = 10

models = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
AsJson = Annotated[bool, typer.Option("--json", help="Print as JSON.")]
Version = Annotated[str, typer.Argument(metavar="VERSION", help="Name of a model, as `touchstone models` lists it.")]


@models.callback()
def listed(context: typer.Context, as_json: AsJson = False) -> None:
    """List the risk models: which judges, what each was learnt from, how good it was out of sample.

    touchstone models

    touchstone models show fitted-20260301-1

    touchstone models compare default-2 fitted-20260301-1

    Exit code 0: done; 1: no such model, or it cannot be used; 2: wrong use; 3: ClickHouse cannot be reached.
    """
    if context.invoked_subcommand is not None:
        return
    with tables(load_settings()) as client:
        stored, beside = list_models(client), shadow_version(client)
    shown = [Known.of(model, stored, beside) for model in stored]
    if as_json:
        print_json([known.summary() for known in shown])
        return
    print_table(
        ["model", "state", "learnt until", "horizon", "coming back", *QUALITY_HEAD],
        [known.cells() for known in shown],
    )
    if not any(known.state == ACTIVE for known in shown):
        say(f"no model was activated: the documented {DEFAULT.version} judges")
    if len(shown) <= 1:
        say("`touchstone fit` learns a model from your own history")


@models.command()
def show(version: Version, as_json: AsJson = False) -> None:
    """Show all of one model: what it was learnt from, what each layer added, and every weight."""
    with tables(load_settings()) as client:
        stored, beside = list_models(client), shadow_version(client)
    known = Known.of(found(stored, version), stored, beside)
    if as_json:
        print_json({**known.summary(), "parameters": known.parameters(), "report": known.report_document()})
    else:
        print_model(known)


@models.command(name="compare")
def compare_models(
    first: Annotated[str, typer.Argument(metavar="A", help="A model, such as the one that judges now.")],
    second: Annotated[str, typer.Argument(metavar="B", help="Another one.")],
    asof: Annotated[
        str | None, typer.Option("--asof", metavar="DATE", help="As of that date, UTC; default: now.")
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=0, help="Show so many customers, the largest changes first.")
    ] = CHANGES_SHOWN,
    as_json: AsJson = False,
) -> None:
    """Judge everybody by two models: whose band would change, for whom most, and which one was right more often."""
    as_of_us = time.time_ns() // 1000 if asof is None else moment_us(asof)
    with tables(load_settings()) as client:
        stored = list_models(client)
        subjects = [Known.of(found(stored, version), stored).subject() for version in (first, second)]
        history = read_history(client, (*LEARNT_FROM, *FELT), before_us=as_of_us)
    comparison = compare(subjects[0], subjects[1], history, as_of_us, experience_of(history))
    if as_json:
        print_json(comparison_document(comparison, limit))
    else:
        print_comparison(comparison, limit)


@models.command()
def shadow(
    version: Annotated[
        str | None, typer.Argument(metavar="[VERSION]", help="A model; without it, say which runs in the shadow.")
    ] = None,
    off: Annotated[bool, typer.Option("--off", help="Let no model run in the shadow.")] = False,
    as_json: AsJson = False,
) -> None:
    """Let a model run beside the active one and judge nobody; view shadow_scores has both risks of every customer.

    touchstone models shadow fitted-20260301-1

    touchstone sql "SELECT * FROM shadow_scores ORDER BY abs(risk - shadow_risk) DESC LIMIT 10"
    """
    if off and version is not None:
        raise CommandError("name a model or say --off, not both", ExitCode.WRONG_USE)
    with tables(load_settings()) as client:
        if version is not None:
            _require_same_states(list_models(client), version)
        if version is not None or off:
            choose_shadow(client, version, datetime.now(UTC))
        beside = shadow_version(client)
    if as_json:
        print_json({"shadow": beside})
    elif beside is None:
        print("no model runs in the shadow")
    else:
        print(f"{beside} runs in the shadow: view shadow_scores has its risks beside those of the active model")


@models.command()
def activate(version: Version, as_json: AsJson = False) -> None:
    """Let a model judge everybody from now on. The log keeps the change, so that a replay makes it at the same place.

    touchstone models activate fitted-20260301-1

    The model before can be activated again in the same way. Exit code 1: not in force everywhere yet; do it again.
    """
    settings = load_settings()
    with tables(settings) as client:
        stored = list_models(client)
    known = Known.of(found(stored, version), stored)
    known.subject()
    done = activation.activate(settings, version, known.stored.parameters, time.time_ns() // 1000)
    if as_json:
        print_json({**asdict(done), "complete": done.complete, "told": done.told()})
    else:
        print(done.told())
    if not done.complete:
        raise typer.Exit(ExitCode.NO)


@models.command()
def check(
    version: Annotated[
        str | None, typer.Argument(metavar="[VERSION]", help="A model; default: the one that judges.")
    ] = None,
    asof: Annotated[
        str | None, typer.Option("--asof", metavar="DATE", help="As of that date, UTC; default: now.")
    ] = None,
    save: Annotated[bool, typer.Option("--save/--no-save", help="Keep the finding in table model_checks.")] = True,
    as_json: AsJson = False,
) -> None:
    """Does a model still hold? Its risks of one horizon ago, against who has come back since.

    The finding is kept in table model_checks; workers show the latest as metrics, and alarms watch them. As of a date
    that is still to come nothing is kept.

    For a scheduler: exit code 0: it holds, or there is too little for a verdict; 1: it has drifted, fit again.
    """
    now_us = time.time_ns() // 1000
    as_of_us = now_us if asof is None else moment_us(asof)
    with tables(load_settings()) as client:
        stored = list_models(client)
        chosen = found(stored, version or judging_model(stored).version)
        subject = Known.of(chosen, stored).subject()
        history = read_history(client, (*LEARNT_FROM, *FELT), before_us=as_of_us)
        some_events(history, moment(as_of_us))
        drift = check_drift(to_learnt(subject.model), history, as_of_us, experience_of(history))
        flattering = flattered(subject, drift.judged_at_us)
        # A window that has not ended yet would hide those that have.
        if save and as_of_us <= now_us:
            save_check(client, check_row(drift, now_us, flattered=bool(flattering)))
    for note in (*history.notes, *flattering):
        say(note)
    if as_json:
        print_json(drift.model_dump(mode="json"))
    else:
        print_drift(drift)
    if drift.drifted:
        raise typer.Exit(ExitCode.NO)


def _require_same_states(stored: list[StoredModel], version: str) -> None:
    """CommandError unless a model judges by the states that there are."""
    chosen, active = Known.of(found(stored, version), stored), active_model(stored)
    if active is None:
        raise CommandError("no model judges yet that another could run beside: start a worker", ExitCode.NO)
    if active.version == version:
        raise CommandError(f"{version} is the model that judges: it cannot run beside itself", ExitCode.WRONG_USE)
    kinds = chosen.subject().model.activity_kinds
    counted = Known.of(active, stored).subject().model.activity_kinds
    if set(kinds) != set(counted):
        raise CommandError(
            f"{version} counts {' or '.join(kinds)} as coming back, the customers' states {' or '.join(counted)}: fit "
            f"one with --activity {' '.join(counted)}, or make the states anew: `touchstone rebuild --swap --activity`",
            ExitCode.WRONG_USE,
        )


def found(stored: list[StoredModel], version: str) -> StoredModel:
    """The model of that name. CommandError if there is none."""
    for model in stored:
        if model.version == version:
            return model
    if version == DEFAULT.version:
        return documented()
    names = ", ".join(model.version for model in stored) or "none yet"
    raise CommandError(f"there is no model {version}; there are: {names}", ExitCode.NO)


def documented() -> StoredModel:
    """The documented default, which the tables have once a worker has started."""
    return StoredModel(DEFAULT.version, datetime(1970, 1, 1, tzinfo=UTC), DEFAULT.to_json(), "")


class Known:
    """A stored model with as much of it as can be read; ``fault`` says why it cannot judge here."""

    def __init__(self, stored: StoredModel, state: str) -> None:
        self.stored, self.state = stored, state
        self.fault = ""
        self.model: RiskModel | None = None
        self.report: LearntModel | None = None
        try:
            self.model = RiskModel.from_json(stored.parameters)
            self.report = LearntModel.model_validate_json(stored.report) if stored.report else None
        except (ModelError, LearningError) as error:
            self.fault = str(error)
        except ValidationError as error:
            self.fault = f"its report cannot be read: {error.error_count()} faults, first {error.errors()[0]['msg']}"

    @classmethod
    def of(cls, model: StoredModel, stored: list[StoredModel], beside: str | None = None) -> Known:
        """One of ``stored``; ``beside``: the one in the shadow."""
        active = active_model(stored)
        if active is not None and active.version == model.version:
            return cls(model, ACTIVE)
        if model.version == beside:
            return cls(model, SHADOW)
        if not model.was_active:
            return cls(model, "not activated")
        since = "from the start" if model.activated_at < ALWAYS else f"{model.activated_at:%Y-%m-%d}"
        return cls(model, f"was active ({since})")

    def subject(self) -> Subject:
        """To compare. CommandError if it cannot judge."""
        if self.model is None:
            raise CommandError(f"model {self.stored.version} cannot judge here: {self.fault}", ExitCode.NO)
        return Subject(self.model, None if self.report is None else self.report.span.as_of_us)

    def cells(self) -> list[str]:
        """A line of the list."""
        quality = None if self.report is None else own_quality(self.report)
        return [
            self.stored.version,
            f"{self.state}, cannot be read" if self.fault else self.state,
            "documented" if self.report is None else day_of(self.report.span.as_of_us),
            "-" if self.model is None else f"{self.model.horizon_days:g} d",
            "-" if self.model is None else ", ".join(self.model.activity_kinds),
            *quality_cells(quality),
        ]

    def summary(self) -> dict[str, Any]:
        """The same for a script."""
        return {
            "version": self.stored.version,
            "state": self.state,
            "activated_at": self.stored.activated_at.isoformat() if self.stored.was_active else None,
            "horizon_days": None if self.model is None else self.model.horizon_days,
            "activity": None if self.model is None else list(self.model.activity_kinds),
            "fault": self.fault or None,
            "learnt": None if self.report is None else document(self.report),
        }

    def parameters(self) -> dict[str, float] | None:
        """Every number of the formula by its dotted name."""
        return None if self.model is None else self.model.parameters()

    def report_document(self) -> dict[str, Any] | None:
        """Everything that the fit wrote down."""
        return None if self.report is None else self.report.model_dump(mode="json")


def print_model(known: Known) -> None:
    """For a person, on stdout."""
    model = known.model
    if known.report is not None:
        print_fit(known.report)
        print()
    else:
        line("model", known.stored.version)
    line("state", paint(known.state, "green") if known.state == ACTIVE else known.state)
    if model is None:
        line("fault", paint(known.fault, "red"))
        return
    if known.report is None:
        line("learnt by", "nobody: documented numbers, see docs/risk.md")
        line("leaving", f"no {' or '.join(model.activity_kinds)} within {model.horizon_days:g} days")
    levels = model.bands
    line("bands", f"elevated from {levels.elevated_enter:g}, below {levels.elevated_leave:g} no more")
    line("", f"high from {levels.high_enter:g}, below {levels.high_leave:g} no more; at least {levels.dwell_hours:g} h")
    used = [(name, weight) for name, weight in model.weights.items() if weight.slope]
    if not used:
        print("\nno evidence weighs anything: the base judges alone")
        return
    print("\nweights: log-odds = slope x (value held to low..high, less mean); what is not named weighs nothing")
    print_table(
        ["feature", "slope", "mean", "low", "high"],
        [
            [name, *(f"{value:.4f}" for value in (weight.slope, weight.mean, weight.low, weight.high))]
            for name, weight in used
        ],
    )
