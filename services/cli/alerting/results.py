"""``touchstone alerts recovery`` and ``economics``: what became of the customers, and what it cost and brought."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Final

import polars as pl
import typer

from infra.clickhouse.client import ClickHouse
from infra.clickhouse.models import active_model, list_models
from services.alerting.recovery import COLUMNS, Difference, Kind, Recovery
from services.alerting.recovery import recovery as recovered
from services.alerting.recovery_sql import RECOVERY_SQL
from services.cli.console import CommandError, ExitCode, print_json, print_table, say
from services.cli.learning.asking import DRAWS, MOST_HORIZON_DAYS, moment_us, tables
from services.cli.settings import load_settings
from services.cli.visible import visible
from services.learning.activity import DAY_US
from services.scoring.risk.model import DEFAULT, RiskModel

AsJson = Annotated[bool, typer.Option("--json", help="Print as JSON.")]
OfRule = Annotated[str, typer.Option("--rule", metavar="NAME", help="Only this rule.", show_default=False)]

_TITLES: Final = {"score_change": "change of score", "returned": "came back", "spend": "spend"}
_ECONOMICS: Final = (
    "rule",
    "alerts",
    "called",
    "held_out",
    "over_budget",
    "delivered",
    "value_at_risk_reached",
    "cost",
    "break_even",
    "expected_benefit",
    "horizon_days",
    "called_mature",
    "held_out_mature",
    "called_returned",
    "held_out_returned",
    "spend_called",
    "spend_held_out",
    "realised_benefit",
)


def recovery(
    rule: OfRule = "",
    since: Annotated[
        str, typer.Option("--since", metavar="DATE", help="Only what began then or later.", show_default=False)
    ] = "",
    horizon: Annotated[
        int | None,
        typer.Option(
            "--horizon",
            metavar="DAYS",
            min=1,
            max=MOST_HORIZON_DAYS,
            help="How long customers are watched; default: the horizon of the active risk model.",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say whether customers fared better after their case than others whom nobody called.

    An effect where the rule holds some alerts out by chance, an association with customers alike where it does not;
    nothing where there are too few. Differences are means of called minus means of the others, with 95 % intervals.

    touchstone alerts recovery --rule leaving-and-valuable --horizon 30

    Exit code 0: done; 1: nothing can be said yet; 2: wrong use; 3: ClickHouse cannot be reached.
    """
    since_us = moment_us(since) if since else 0
    settings = load_settings()
    with tables(settings) as client:
        model = _model(client)
        days = horizon or max(1, round(model.horizon_days))
        parameters = {
            "rule": rule,
            "since": since_us,
            "horizon_us": days * DAY_US,
            "comings": list(model.activity_kinds),
        }
        rows = client.query(RECOVERY_SQL, parameters)
    found = recovered(pl.DataFrame(rows, schema=COLUMNS, orient="row"), DRAWS)
    if as_json:
        print_json({"horizon_days": days, "rules": [asdict(each) for each in found]})
    else:
        for each in found:
            _print(each, days)
    if not any(each.kind is not Kind.NOTHING for each in found):
        raise CommandError(
            f"nothing can be said yet: no rule has enough customers whose {days} days are over", ExitCode.NO
        )


def _print(found: Recovery, days: int) -> None:
    print(f"{visible(found.rule)}: {found.called:,} called, {found.others:,} not, {days} days")
    if found.measures:
        print_table(
            ["", "called", "others", "difference", "95 % interval"],
            [[_TITLES[name], *_cells(name, difference)] for name, difference in found.measures.items()],
        )
    if found.unmatched:
        print(f"{found.unmatched:,} more were called whom nobody was like")
    print(f"{found.said}\n")


def _cells(name: str, found: Difference) -> list[str]:
    def shown(value: float, sign: str = "") -> str:
        return f"{value:{sign}.1%}" if name == "returned" else f"{value:{sign},.2f}"

    interval = f"{shown(found.low, '+')} to {shown(found.high, '+')}"
    return [shown(found.called), shown(found.others), shown(found.difference, "+"), interval]


def economics(rule: OfRule = "", as_json: AsJson = False) -> None:
    """Say what the alerts of each rule cost and bring: what is known, what is set, what is assumed.

    Known: alerts, calls, value at risk when they fired, spend since. Set: cost_of_contact of the rules. Assumed: one
    contact for each delivered alert; of the expected benefit, that one contact in ten holds a customer. The realised
    benefit compares spend of called and held out customers, and is there only with a hold-out.

    touchstone alerts economics

    Exit code 0: done; 1: there are no alerts; 3: ClickHouse cannot be reached.
    """
    settings = load_settings()
    with tables(settings) as client:
        rows = client.query(
            f"SELECT {', '.join(_ECONOMICS)} FROM touchstone.alert_economics "
            "WHERE %(rule)s = '' OR rule = %(rule)s ORDER BY rule",
            {"rule": rule},
        )
    found = [dict(zip(_ECONOMICS, row, strict=True)) for row in rows]
    if as_json:
        print_json(found)
    elif found:
        _print_economics(found)
    if not found:
        raise CommandError("there are no alerts about customers" + (f" of rule {rule}" if rule else ""), ExitCode.NO)


def _print_economics(found: list[dict[str, Any]]) -> None:
    head = [
        "rule",
        "alerts",
        "called",
        "held out",
        "delivered",
        "value reached",
        "cost",
        "pays from",
        "expected",
        "realised",
    ]
    print_table(
        head,
        [
            [
                visible(row["rule"], 40),
                *(f"{row[name]:,}" for name in ("alerts", "called", "held_out", "delivered")),
                f"{row['value_at_risk_reached']:,.2f}",
                f"{row['cost']:,.2f}",
                f"{row['break_even']:.1%}",
                f"{row['expected_benefit']:,.2f}",
                "not known" if row["realised_benefit"] is None else f"{row['realised_benefit']:,.2f}",
            ]
            for row in found
        ],
    )
    say("known: alerts, calls, value at risk when they fired, spend; set: what a contact costs (cost_of_contact)")
    say("assumed: one contact for each delivered alert; expected: that one in ten holds the customer's value at risk")
    days = found[0]["horizon_days"]
    say(f"realised: spend of called minus held out customers within {days:g} days, from 20 of both on (hold_out)")


def _model(client: ClickHouse) -> RiskModel:
    """The model that judges now."""
    stored = active_model(list_models(client))
    return DEFAULT if stored is None else RiskModel.from_json(stored.parameters)
