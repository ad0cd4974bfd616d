"""``touchstone demo``: the main job on this machine, start to end, with a company whose truth is known."""

from __future__ import annotations

import os
import shutil
import signal
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import httpx
import typer

from infra.clickhouse.client import ClickHouse
from infra.clickhouse.errors import ClickHouseError
from infra.embedded.background import start_in_background, stop_stack
from infra.embedded.errors import StackError
from infra.kafka.errors import KafkaInfraError
from schemas.tables import DATABASE
from services.cli.addresses import Addresses, locate, running_stack
from services.cli.console import CommandError, ExitCode, print_table, say
from services.cli.customer import print_story, read_story
from services.cli.demo_alerts import Receiving, await_calls, print_calls, print_rehearsed, receiving, rehearsed, use
from services.cli.demo_stream import Stream, make_stream
from services.cli.figures import Figures, gather, read_lag
from services.cli.found import Found, compare
from services.cli.http_sender import EVENTS_PATH, Sender, Sent
from services.cli.progress import Progress
from services.cli.reading import reader
from services.cli.settings import StackSettings, load_settings
from services.cli.visible import visible
from services.scoring.risk.model import DEFAULT
from services.simulator import CustomerTruth, Simulation, SimulationConfig, simulate

CUSTOMERS: Final = 2_200
"""Some 32 events each: more than 50,000, with room to spare."""
HORIZON_DAYS: Final = 30.0
"""As the documented risk model has it: does the customer come back within 30 days?"""
DAY_US: Final = 86_400_000_000
SCORED_TIMEOUT_S: Final = 120.0
PROBE_TIMEOUT_S: Final = 30.0
POLL_S: Final = 0.02
LAG_EVERY_S: Final = 1.0
SHOWN: Final = 10
LIKELY: Final = 0.5
"""Who is likelier not to come back than to come is shown, the most valuable first."""
KEPT_SETTINGS: Final = (
    "TOUCHSTONE_JAVA_HOME",
    "TOUCHSTONE_CACHE_DIR",
    "TOUCHSTONE_KAFKA_HEAP_MIB",
    "TOUCHSTONE_DATA_DIR",
)
"""Settings about this machine; those about another stack's ports, logins or brokers are not the demo's."""


def demo(
    customers: Annotated[
        int, typer.Option("--customers", "-n", min=50, help="Customers, some 32 events each.")
    ] = CUSTOMERS,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Another seed is another company.")] = 1,
) -> None:
    """Start a stack of its own, send a simulated company's events, and show what Touchstone makes of them.

    Everything that was started is stopped; the data stay in .touchstone/demo until the next demo.
    """
    settings = _own_settings()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    started_s = time.monotonic()
    config = SimulationConfig(customers=customers, now_us=time.time_ns() // 1000, seed=seed, horizon_days=HORIZON_DAYS)
    try:
        # The simulation needs the processor while the stack mostly waits.
        with (
            receiving() as receiver,
            ThreadPoolExecutor(1) as aside,
            _stack(settings, receiver, simulating=aside.submit(simulate, config)) as simulation,
        ):
            _show(settings, simulation.result(), config, receiver)
    except (KafkaInfraError, ClickHouseError, StackError, httpx.HTTPError, CommandError) as error:
        code = error.code if isinstance(error, CommandError) else ExitCode.UNREACHABLE
        raise CommandError(f"the demo failed: {error}\nThe logs: {settings.data_dir / 'logs'}", code) from error
    say(f"all stopped, after {time.monotonic() - started_s:.0f} s")


def _own_settings() -> StackSettings:
    """Settings of a stack in a folder of its own, for this process and those it starts."""
    for name in list(os.environ):
        if name.startswith("TOUCHSTONE_") and name not in KEPT_SETTINGS:
            del os.environ[name]
    os.environ["TOUCHSTONE_DATA_DIR"] = str(load_settings().data_dir / "demo")
    return load_settings()


@contextmanager
def _stack(
    settings: StackSettings, receiver: Receiving, simulating: Future[Simulation]
) -> Iterator[Future[Simulation]]:
    """A stack on free ports and an empty folder, while the simulation runs beside its start."""
    data_dir = settings.data_dir
    if running_stack(data_dir) is not None:
        raise CommandError(
            f"a demo runs on {data_dir} already; TOUCHSTONE_DATA_DIR={data_dir} touchstone down ends it", ExitCode.NO
        )
    stop_stack(data_dir, say=say)
    shutil.rmtree(data_dir, ignore_errors=True)
    use(receiver.write(data_dir / "alerting"))
    command = [sys.executable, "-m", "services.cli.main", "up", "--foreground", "--free-ports"]
    _heading("Starting Kafka, ClickHouse, scoring, alerting and ingest on this machine")
    start_in_background(command, data_dir, say=say)
    try:
        yield simulating
    finally:
        _heading("Stopping")
        stop_stack(data_dir, say=say)


def _show(settings: StackSettings, simulation: Simulation, config: SimulationConfig, receiver: Receiving) -> None:
    where = locate(settings)
    stream = make_stream(simulation.events, config.seed)
    _heading(f"Sending {stream.total:,} events of {len(simulation.truth):,} customers, half a year of their lives")
    sender = Sender(where.ingest_url)
    began_s = time.monotonic()
    sent = _send(sender, stream, where)
    sent_s = time.monotonic() - began_s
    _await_scored(where, sent.accepted)
    scored_s = time.monotonic() - began_s
    with reader(settings) as client:
        waits_s = _probe(sender, stream.probes, client, sent)
        print(f"sent at {sent.sent / sent_s:,.0f} events/s; all were scored {scored_s:.1f} s after the first was sent")
        print(
            f"fresh: a score is up to date {statistics.median(waits_s):.2f} s after its event is sent "
            f"(median of {len(waits_s)}; the slowest {max(waits_s):.2f} s)"
        )
        _await_scored(where, sent.accepted)
        _print_sums(sent, gather(settings, where))
        scores = _read_scores(client)
        _print_at_risk(scores)
        truth = {customer.customer_id: customer for customer in simulation.truth}
        _print_found({row["customer_id"]: row["risk"] for row in scores}, truth, config.now_us)
        _heading("Calls to those who can keep them")
        await_calls(client, receiver.inbox)
        print_calls(receiver.inbox)
        first = rehearsed(client, settings.data_dir / "alerting" / "rules.yml", DEFAULT, config.now_us)
        print_rehearsed(first, truth, config.now_us, HORIZON_DAYS)
        _heading("One customer's story")
        print_story(read_story(client, _worth_telling(scores, truth, config.now_us)), 14)
    _print_next(settings.data_dir)


def _send(sender: Sender, stream: Stream, where: Addresses) -> Sent:
    """Send the bulk, with a display that also tells how far scoring is behind."""
    waiting = [0]
    with Progress("sending", len(stream.bulk)) as progress, _every(LAG_EVERY_S, lambda: _note_lag(where, waiting)):
        return sender.send(stream.bulk, lambda sent: progress.update(sent.sent, f"{waiting[0]:,} waiting to be scored"))


def _note_lag(where: Addresses, waiting: list[int]) -> None:
    waiting[0] = read_lag(where).waiting_total


@contextmanager
def _every(seconds: float, act: Callable[[], None]) -> Iterator[None]:
    """Do something now and then beside the work; its faults end it and nothing else, as it only decorates."""
    over = threading.Event()

    def run() -> None:
        while not over.wait(seconds):
            try:
                act()
            except KafkaInfraError as error:
                say(f"the display of what waits has ended: {error}")
                return

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _await_scored(where: Addresses, accepted: int) -> None:
    """Return when every record of the log has been scored. CommandError when that takes too long."""
    deadline_s = time.monotonic() + SCORED_TIMEOUT_S
    while True:
        lag = read_lag(where)
        if lag.accepted >= accepted and lag.waiting_total == 0:
            return
        if time.monotonic() > deadline_s:
            raise CommandError(
                f"{lag.waiting_total:,} of {lag.accepted:,} events still wait to be scored after "
                f"{SCORED_TIMEOUT_S:.0f} s",
                ExitCode.NO,
            )
        time.sleep(POLL_S)


def _probe(sender: Sender, events: Sequence[dict[str, Any]], client: ClickHouse, sent: Sent) -> list[float]:
    """Send events one by one; seconds from just before the POST until `customer_scores` has each."""
    waits_s = []
    with httpx.Client(base_url=sender.url) as http:
        for event in events:
            before = _events_of(client, event["customer_id"])
            began_s = time.monotonic()
            http.post(EVENTS_PATH, json=event).raise_for_status()
            sent.sent += 1
            sent.accepted += 1
            while _events_of(client, event["customer_id"]) <= before:
                if time.monotonic() - began_s > PROBE_TIMEOUT_S:
                    raise CommandError(
                        f"an event was accepted and is not in customer_scores after {PROBE_TIMEOUT_S:.0f} s",
                        ExitCode.NO,
                    )
                time.sleep(POLL_S)
            waits_s.append(time.monotonic() - began_s)
    return waits_s


def _events_of(client: ClickHouse, customer_id: str) -> int:
    rows = client.query(
        f"SELECT events FROM {DATABASE}.customer_scores WHERE customer_id = %(id)s", {"id": customer_id}
    )
    return int(rows[0][0]) if rows else 0


def _print_sums(sent: Sent, figures: Figures) -> None:
    """Nothing lost, nothing counted twice: the sums, with what the demo had put in to be refused or repeated."""
    lag, stored = figures.lag, figures.stored
    if lag is None or stored is None:
        raise CommandError("; ".join(figures.faults.values()), ExitCode.UNREACHABLE)
    _heading("Nothing lost, nothing counted twice")
    print(f"{sent.sent:,} sent = {sent.accepted:,} accepted + {sent.refused:,} refused ({_reasons(sent)})")
    taken = lag.accepted - stored.reviews
    print(
        f"{taken:,} in the log = {stored.stored:,} stored + {stored.duplicate:,} repeated, not counted again + "
        f"{stored.rejected:,} rejected"
    )
    balanced = (
        sent.sent == sent.accepted + sent.refused
        and sent.accepted == taken == stored.stored + stored.duplicate + stored.rejected
        and stored.unaccounted == 0
    )
    if not balanced:
        raise CommandError("the sums do not add up; `touchstone status` on the demo's data shows them", ExitCode.NO)


def _reasons(sent: Sent) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in sent.reasons.most_common()) or "none"


def _read_scores(client: ClickHouse) -> list[dict[str, Any]]:
    columns = ("customer_id", "risk", "risk_band", "score", "trend", "value_at_risk", "reasons", "open_complaints")
    rows = client.query(
        f"SELECT {', '.join(columns)} FROM {DATABASE}.customer_scores ORDER BY value_at_risk DESC, customer_id"
    )
    return [dict(zip(columns, row, strict=True)) for row in rows]


def _print_at_risk(scores: Sequence[dict[str, Any]]) -> None:
    bands = {band: sum(row["risk_band"] == band for row in scores) for band in ("high", "elevated", "low")}
    _heading("Customers most at risk, by what is at stake")
    rows = [
        [
            row["customer_id"],
            f"{row['risk']:.0%}",
            row["risk_band"],
            f"{row['score']:.0f}",
            f"{row['value_at_risk']:.2f}",
            visible("; ".join(reason for reason, log_odds in row["reasons"] if log_odds > 0), 100),
        ]
        for row in [row for row in scores if row["risk"] >= LIKELY][:SHOWN]
    ]
    print_table(["customer", "risk", "band", "score", "EUR at risk", "because"], rows)
    print("bands: " + ", ".join(f"{count:,} {band}" for band, count in bands.items()))


def _print_found(risks: dict[str, float], truth: dict[str, CustomerTruth], now_us: int) -> None:
    """What the simulator alone knows: who has left without a word, and who leaves within the horizon."""
    leavers = {name for name, customer in truth.items() if customer.leaves_at_us is not None}
    silent = {name for name in leavers if truth[name].leaves_silently}
    gone = {name for name in leavers if truth[name].has_left_by(now_us)}
    _heading("Against the truth, which only the simulator knows")
    known = len(leavers & risks.keys())
    print(f"{known:,} of {len(risks):,} customers have left or leave within {HORIZON_DAYS:.0f} days.")
    _print_lift("among as many customers of the highest risk", compare(risks, leavers, known))
    _print_lift("among the 5 % of the highest risk", compare(risks, leavers, max(1, len(risks) // 20)))
    _print_lift("who left in silence, among the same number", compare(risks, silent, len(silent & risks.keys())))
    still = {name: risk for name, risk in risks.items() if name not in gone}
    going = leavers - gone
    _print_lift(
        "who are still here, among the 5 % of the highest risk still here",
        compare(still, going, max(1, len(still) // 20)),
    )


def _print_lift(what: str, found: Found) -> None:
    print(
        f"  {what}: {found.hits} of {found.called} truly leave; by chance it would be {found.by_chance:.1f} "
        f"(lift {found.lift:.1f})"
    )


def _worth_telling(scores: Sequence[dict[str, Any]], truth: dict[str, CustomerTruth], now_us: int) -> str:
    """A customer at risk who truly leaves over something that was felt, and lately; the first at risk if none does."""

    def telling(row: dict[str, Any]) -> bool:
        customer = truth[row["customer_id"]]
        leaves = customer.leaves_at_us
        felt = customer.leaves_because not in (None, "life_change")
        return felt and leaves is not None and leaves > now_us - 45 * DAY_US and row["open_complaints"] > 0

    return str(next(filter(telling, scores), scores[0])["customer_id"])


def _print_next(data_dir: Path) -> None:
    _heading("What to look at next")
    place = data_dir.relative_to(Path.cwd()) if data_dir.is_relative_to(Path.cwd()) else data_dir
    print(f"The data stay in {place} until the next demo. To ask them:")
    for command in (
        f"export TOUCHSTONE_DATA_DIR={place}",
        "touchstone up --free-ports",
        'touchstone sql "SELECT customer_id, risk, reasons FROM customer_scores ORDER BY risk DESC LIMIT 10"',
        'touchstone sql "SELECT touchpoint, count(), avg(emotion_valence) AS felt FROM touchpoints FINAL '
        'WHERE emotion_weight > 0 GROUP BY touchpoint ORDER BY felt"',
        "touchstone rejected --count",
        "touchstone alerts list",
        "touchstone down",
    ):
        print(f"  {command}")


def _heading(text: str) -> None:
    print(f"\n{text}", flush=True)


if __name__ == "__main__":
    from services.cli.console import reported

    try:
        with reported():
            typer.run(demo)
    except CommandError as failed:
        say(f"touchstone: {failed}")
        sys.exit(failed.code)
