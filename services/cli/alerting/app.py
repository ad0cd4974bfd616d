"""``touchstone alerts``: the table of its commands."""

from __future__ import annotations

import typer

from services.cli.alerting.backtest import backtest
from services.cli.alerting.check import check

alerts = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@alerts.callback()
def about() -> None:
    """Who must hear what: check the rules, see what they decided.

    touchstone alerts check docs/alerting/rules.example.yml
    """


alerts.command("check")(check)
alerts.command("backtest")(backtest)
