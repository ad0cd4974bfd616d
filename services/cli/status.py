"""``touchstone status``: what runs, how far it is, what was counted."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

import psutil
import typer

from infra.embedded.state import ChildState, StackState, read_state
from services.cli.addresses import Addresses, locate, running_stack
from services.cli.console import ExitCode, paint, print_json, print_table, say
from services.cli.figures import Figures, gather
from services.cli.settings import StackSettings, load_settings

# Settings that say: there is a deployment elsewhere, ask that.
_ELSEWHERE = ("kafka_bootstrap", "clickhouse_host", "ingest_host")


def status(as_json: bool = typer.Option(False, "--json", help="Print everything as JSON.")) -> None:
    """Show processes, ports, uptime, lag, and the counts of events by what became of them.

    Exit code 0: all is well; 1: no stack runs, a part of it is not ready, or a partition stands still under a flood of
    rejections; 3: a part cannot be reached.
    """
    settings = load_settings()
    state = running_stack(settings.data_dir)
    if state is None and not any(settings.is_set(field) for field in _ELSEWHERE):
        _tell_absence(settings, as_json=as_json)
        raise typer.Exit(ExitCode.NO)
    where = locate(settings)
    figures = gather(settings, where)
    if as_json:
        print_json(_document(settings, state, where, figures))
    else:
        _print(settings, state, where, figures)
    raise typer.Exit(_exit_code(state, figures))


def _exit_code(state: StackState | None, figures: Figures) -> ExitCode:
    if state is not None and not state.is_healthy():
        return ExitCode.NO
    if figures.lag is not None and figures.lag.stopped:
        return ExitCode.NO
    return ExitCode.UNREACHABLE if figures.faults else ExitCode.DONE


def _tell_absence(settings: StackSettings, *, as_json: bool) -> None:
    last = read_state(settings.data_dir)
    if as_json:
        print_json(
            {"running": False, "data_dir": str(settings.data_dir), "last_failure": last.message if last else None}
        )
        return
    say(f"no stack runs on {settings.data_dir}; `touchstone up` starts one")
    if last is not None and last.phase == "failed":
        say(f"its last start failed: {last.message}")


def _document(settings: StackSettings, state: StackState | None, where: Addresses, figures: Figures) -> dict[str, Any]:
    return {
        "running": state is not None,
        "healthy": _exit_code(state, figures) is ExitCode.DONE,
        "phase": state.phase if state is not None else None,
        "data_dir": str(settings.data_dir),
        "uptime_s": _age_s(state.started_at_us) if state is not None else None,
        "addresses": asdict(where),
        "parts": [_part(child) for child in state.children] if state is not None else [],
        "ingest_since_start": figures.verdicts,
        "lag": None if figures.lag is None else {**asdict(figures.lag), "waiting_total": figures.lag.waiting_total},
        "events": None if figures.stored is None else asdict(figures.stored),
        "alerting": None if figures.alerting is None else asdict(figures.alerting),
        "unreachable": figures.faults,
    }


def _part(child: ChildState) -> dict[str, Any]:
    return {
        "name": child.name,
        "state": child.phase,
        "pid": None if child.process is None else child.process.pid,
        "uptime_s": _age_s(child.started_at_us) if child.process is not None else None,
        "restarts": child.restarts,
        "last_exit": child.last_exit,
        "rss_mib": _rss_mib(child),
        "log": child.log,
    }


def _age_s(since_us: int | None) -> int | None:
    return None if since_us is None else max(0, int(time.time() - since_us / 1e6))


def _rss_mib(child: ChildState) -> int | None:
    if child.process is None or not child.process.is_alive():
        return None
    try:
        return int(psutil.Process(child.process.pid).memory_info().rss / 2**20)
    except psutil.NoSuchProcess:
        return None


def _print(settings: StackSettings, state: StackState | None, where: Addresses, figures: Figures) -> None:
    if state is not None:
        colour = "green" if state.is_healthy() else "yellow"
        print(f"stack {paint(state.phase, colour)}, up {_span(_age_s(state.started_at_us))}, data {settings.data_dir}")
        rows = [
            [
                part["name"],
                part["state"],
                _text(part["pid"]),
                _span(part["uptime_s"]),
                str(part["restarts"]),
                _text(part["rss_mib"]),
            ]
            for part in map(_part, state.children)
        ]
        print()
        print_table(["part", "state", "pid", "up", "restarts", "MiB"], rows)
    print()
    print_table(
        ["address", ""],
        [
            ["ingest", where.ingest_url],
            ["alerting", where.alerting_url],
            ["Kafka", where.kafka_bootstrap],
            ["ClickHouse", f"{where.clickhouse_host}:{where.clickhouse_port}"],
            ["ClickHouse HTTP", where.clickhouse_http_url],
        ],
    )
    print()
    print_table(["events", ""], _counts(figures))
    print()
    print_table(["alerting", ""], _alerting(figures))
    for stop in figures.lag.stopped if figures.lag is not None else ():
        say(
            f"stopped: partition {stop.partition} at offset {stop.offset:,}, as {stop.rejected:,} of {stop.records:,} "
            f"records in a row were rejected. Nothing is lost: mend the sender, look at `touchstone rejected --stage "
            f"log`, then `touchstone rejected resume {stop.partition}`"
        )
    for part, fault in figures.faults.items():
        say(f"{part} cannot be reached: {fault}")


def _counts(figures: Figures) -> list[list[str]]:
    """The balance: accepted = waiting + stored + reviews + duplicate + rejected."""
    lag, stored = figures.lag, figures.stored
    rows = [
        ["accepted, in the log", _number(lag.accepted if lag else None)],
        ["  waiting to be scored", _number(lag.waiting_total if lag else None)],
        ["  stored", _number(stored.stored if stored else None)],
        ["  reviews of our own, stored", _number(stored.reviews if stored else None)],
        ["  duplicate, not counted again", _number(stored.duplicate if stored else None)],
        ["    with other content", _number(stored.conflicting if stored else None)],
        ["  rejected by scoring", _number(stored.rejected if stored else None)],
        ["refused by ingest, kept", _number(stored.refused if stored else None)],
        ["rejected or refused, then fixed and sent again", _number(stored.resent if stored else None)],
    ]
    if lag is not None and stored is not None:
        rows.append(["unaccounted for", _number(stored.unaccounted)])
    rows += [[f"{what} by ingest since its start", _number(count)] for what, count in (figures.verdicts or {}).items()]
    return rows


def _alerting(figures: Figures) -> list[list[str]]:
    alerting = figures.alerting
    return [
        ["signals", _number(alerting.signals if alerting else None)],
        ["  waiting to be decided by", _number(alerting.unread if alerting else None)],
        ["alerts in no call yet", _number(alerting.alerts_waiting if alerting else None)],
        ["calls delivered", _number(alerting.calls_delivered if alerting else None)],
        ["  going, or tried again", _number(alerting.calls_waiting if alerting else None)],
        ["  given up", _number(alerting.calls_dead if alerting else None)],
        ["cases not closed", _number(alerting.cases_open if alerting else None)],
        ["  overdue", _number(alerting.cases_overdue if alerting else None)],
    ]


def _number(value: int | None) -> str:
    return "?" if value is None else f"{value:,}"


def _text(value: object) -> str:
    return "-" if value is None else str(value)


def _span(seconds: int | None) -> str:
    if seconds is None:
        return "-"
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86_400
    if days:
        return f"{days} d {hours % 24} h"
    if hours:
        return f"{hours} h {minutes % 60} min"
    return f"{minutes} min {seconds % 60} s" if minutes else f"{seconds} s"
