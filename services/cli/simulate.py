"""``touchstone simulate``: a company's customers with a known truth, sent to ingest or written to a file."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from services.cli.addresses import locate
from services.cli.console import CommandError, ExitCode, print_json, say
from services.cli.http_sender import Sender, Sent
from services.cli.progress import Progress
from services.cli.settings import load_settings
from services.simulator import CustomerTruth, Simulation, SimulationConfig
from services.simulator import simulate as run_simulation


def simulate(
    customers: Annotated[int, typer.Option("--customers", "-n", min=1, help="Customers, some 32 events each.")] = 1000,
    days: Annotated[float, typer.Option("--days", min=1, max=20_000, help="Days up to now.")] = 180.0,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The same seed and end give the same events.")] = 1,
    now: Annotated[
        str | None, typer.Option("--now", help="End of the window, ISO 8601 with a UTC offset; default now.")
    ] = None,
    rate: Annotated[float | None, typer.Option("--rate", min=0.1, help="Events per second at most.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write NDJSON to this file (- for stdout) and send nothing.")
    ] = None,
    truth: Annotated[
        Path | None, typer.Option("--truth", help="Write what is true of each customer to this NDJSON file.")
    ] = None,
    connections: Annotated[int, typer.Option("--connections", min=1, max=64, help="Connections to ingest.")] = 4,
    batch: Annotated[int, typer.Option("--batch", min=1, max=5000, help="Events in a request.")] = 500,
    api_key_file: Annotated[
        Path | None, typer.Option("--api-key-file", help="File with the key that ingest asks for.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts as JSON.")] = False,
) -> None:
    """Simulate customers with rhythms, moods, complaints and silent leavers, and send their events to ingest.

    touchstone simulate --customers 500

    touchstone simulate --customers 500 --out events.ndjson --truth truth.ndjson

    Exit code 0: all were accepted; 1: some were refused; 3: ingest cannot be reached.
    """
    config = _config(customers, days, seed, now)
    sender = None
    if out is None:
        key = None if api_key_file is None else _read_key(api_key_file)
        url = locate(load_settings()).ingest_url
        sender = Sender(url, batch_events=batch, connections=connections, rate=rate, api_key=key)
        sender.require_listener()
    simulation = generate(config)
    if truth is not None:
        _write(truth, (truth_document(customer) for customer in simulation.truth))
    if out is not None:
        _write(out, simulation.events)
        say(f"wrote {len(simulation.events):,} events of {customers:,} customers to {out}")
    if sender is None:
        return
    started_s = time.monotonic()
    sent = send(sender, simulation.events)
    _report(sent, time.monotonic() - started_s, as_json=as_json)
    if sent.refused:
        raise typer.Exit(ExitCode.NO)


def generate(config: SimulationConfig) -> Simulation:
    """Simulate, and say how fast that was."""
    started_s = time.monotonic()
    simulation = run_simulation(config)
    took_s = time.monotonic() - started_s
    say(
        f"simulated {len(simulation.events):,} events of {config.customers:,} customers over {config.days:g} days "
        f"in {took_s:.1f} s"
    )
    return simulation


def send(sender: Sender, events: list[dict[str, Any]]) -> Sent:
    """Send with a progress display."""
    with Progress("sending", len(events)) as progress:
        return sender.send(
            events, lambda sent: progress.update(sent.sent, f"{sent.refused:,} refused" if sent.refused else "")
        )


def truth_document(customer: CustomerTruth) -> dict[str, Any]:
    """A customer's truth as written to files; times are microseconds since 1970."""
    return asdict(customer)


def _config(customers: int, days: float, seed: int, now: str | None) -> SimulationConfig:
    from schemas.refusals import RefusedEventError
    from schemas.scalars import parse_time_us

    try:
        now_us = time.time_ns() // 1000 if now is None else parse_time_us(now)
        return SimulationConfig(customers=customers, now_us=now_us, days=days, seed=seed)
    except (RefusedEventError, ValueError) as error:
        raise CommandError(f"--now {now}: {error}" if now is not None else str(error), ExitCode.WRONG_USE) from error


def _write(path: Path, documents: Iterable[dict[str, Any]]) -> None:
    lines = (orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE) for document in documents)
    if str(path) == "-":
        sys.stdout.buffer.writelines(lines)
        sys.stdout.flush()
        return
    try:
        with path.open("wb") as file:
            file.writelines(lines)
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}", ExitCode.WRONG_USE) from error


def _read_key(path: Path) -> str:
    try:
        return path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"the key file {path} cannot be read: {error}", ExitCode.WRONG_USE) from error


def _report(sent: Sent, took_s: float, *, as_json: bool) -> None:
    rate = sent.sent / max(took_s, 1e-9)
    if as_json:
        print_json(
            {
                "sent": sent.sent,
                "accepted": sent.accepted,
                "refused": sent.refused,
                "reasons": dict(sent.reasons),
                "retries": sent.retries,
                "seconds": round(took_s, 3),
                "events_per_s": round(rate),
            }
        )
        return
    print(f"sent {sent.sent:,}: accepted {sent.accepted:,}, refused {sent.refused:,}; {rate:,.0f} events/s")
    for refusal in sent.refusals:
        say(f"refused: {refusal.get('reason')}: {refusal.get('detail')}")
    if sent.retries:
        say(f"{sent.retries:,} requests had to be sent again")
    say('next: touchstone status, touchstone sql "SELECT * FROM customer_scores ORDER BY risk DESC LIMIT 10"')
