"""``touchstone alerts``: the table of its commands."""

from __future__ import annotations

import typer

from services.cli.alerting.backtest import backtest
from services.cli.alerting.calls import calls, resend
from services.cli.alerting.cases import ack, assign, list_, resolve, show
from services.cli.alerting.check import check
from services.cli.alerting.results import economics, recovery

alerts = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@alerts.callback()
def about() -> None:
    """Who must hear what: try rules before they call anybody, follow cases, see what calling brought.

    touchstone alerts check docs/alerting/rules.example.yml
    touchstone alerts list --state open
    """


alerts.command("check")(check)
alerts.command("backtest")(backtest)
alerts.command("list")(list_)
alerts.command("show")(show)
alerts.command("ack")(ack)
alerts.command("assign")(assign)
alerts.command("resolve")(resolve)
alerts.command("calls")(calls)
alerts.command("resend")(resend)
alerts.command("recovery")(recovery)
alerts.command("economics")(economics)
