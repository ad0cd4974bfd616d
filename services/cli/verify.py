"""``touchstone verify``: does the stream's state say what its events say?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from infra.clickhouse.errors import ClickHouseError
from infra.kafka.errors import KafkaInfraError
from services.cli.console import CommandError, ExitCode, print_json, say
from services.cli.settings import load_settings
from services.cli.verification.against import BY_LOG, BY_SQL, Compared, by_log, by_sql, uncompared
from services.cli.verification.deployment import Deployment, deployment
from services.cli.verification.population import Population, sample
from services.cli.verification.report import Report, document, print_summary, print_sums
from services.cli.verification.sums import accounts
from services.scoring.risk.model import ModelError
from services.scoring.verify.refold import ShareTooLargeError


def verify(
    sample_size: Annotated[
        int | None,
        typer.Option("--sample", min=1, help="So many customers, the same each time.", show_default=False),
    ] = None,
    customer: Annotated[
        list[str] | None, typer.Option("--customer", help="This customer; may be repeated.", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=0, help="Print so many differences of each check.")] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Hold customers' states to their events: by SQL over the table, by a fold of the log from offset 0, by the sums.

    May run while the stream does: each customer is compared as of where their own state stands.

    touchstone verify --sample 1000

    Exit code 0: equal; 1: something differs; 2: wrong use; 3: it could not be checked.
    """
    if sample_size is not None and customer:
        raise CommandError("--sample and --customer exclude each other", ExitCode.WRONG_USE)
    settings = load_settings()
    with checking(), deployment(settings) as found:
        population = _population(found, sample_size, customer)
        report = Report(limit, quiet=as_json, left_out=uncompared(found))
        report.accounts = accounts(found)
        if not as_json:
            print_sums(report.accounts)
        run_checks(found, population, report)
        if population.names and not report.customers:
            raise CommandError(
                f"neither a state nor an event of {', '.join(population.names)}: nothing to compare", ExitCode.WRONG_USE
            )
        if as_json:
            print_json(document(found, report))
        else:
            print_summary(found, report)
    raise typer.Exit(ExitCode.DONE if report.equal else ExitCode.NO)


@contextmanager
def checking() -> Iterator[None]:
    """What keeps from checking is no difference: it ends with another code, whatever the fault is."""
    try:
        yield
    except (KafkaInfraError, ClickHouseError, ModelError, ShareTooLargeError) as error:
        raise CommandError(f"it could not be checked: {error}", ExitCode.UNREACHABLE) from error


def run_checks(found: Deployment, population: Population, report: Report) -> None:
    """Both checks, or SQL's alone where the beginning of the log is gone."""
    checks: list[tuple[str, Callable[[], Iterator[Compared]]]] = [(BY_SQL, lambda: by_sql(found, population))]
    if found.log_is_whole:
        checks.append((BY_LOG, lambda: by_log(found, population)))
    else:
        say(f"{gone(found)}. States are checked by SQL alone")
    for against, check in checks:
        report.begin(against)
        for compared in check():
            report.take(compared)


def gone(found: Deployment) -> str:
    """What to tell when a fold from the beginning is impossible."""
    parts = ", ".join(f"partition {at} begins at {begin:,}" for at, begin in sorted(found.begins.items()) if begin)
    return f"the log does not begin at offset 0 any more ({parts}); topic touchpoints should have retention.ms=-1"


def _population(found: Deployment, sample_size: int | None, customer: list[str] | None) -> Population:
    if sample_size is not None:
        return sample(found.client, sample_size)
    return Population(tuple(sorted(set(customer))) if customer else None)
