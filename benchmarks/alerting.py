"""How soon somebody is called: from a signal's record to the receiver's first sight of the call about it.

Signals of made-up customers, each customer once, are written to ``loyalty-signals`` beside a real broker, ClickHouse
and alerting process; some of them cross a rule that calls about each. The receiver runs in this process.
"""

from __future__ import annotations

import argparse
import json
import socket
import statistics
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import yaml
from confluent_kafka import Producer

from benchmarks.stack import Part, Stack
from schemas.signal import LoyaltySignal
from schemas.topics import LOYALTY_SIGNALS
from services.alerting.receive import Inbox, Received, serving

SECRET: Final = "whsec_" + "YmVuY2htYXJrLXNlY3JldC1vZi0zMi1ieXRlcy1sb25n"
SECRET_NAME: Final = "BENCHMARK_SECRET"
STEP_S: Final = 0.02
PATIENCE_S: Final = 180.0
MOST_CALLS_AT_ONCE: Final = 1_000
"""About one customer each, of one rule: what a rules file allows."""


@dataclass(frozen=True, slots=True)
class Steady:
    """Signals at a constant rate."""

    rate_per_s: int = 1_000
    seconds: float = 30.0
    warm_s: float = 5.0
    """The same before it counts."""
    one_in: int = 20
    """Of so many signals one crosses."""


class Board:
    """When the receiver saw a customer first, seconds since 1970."""

    def __init__(self) -> None:
        self.seen_s: dict[str, float] = {}
        self._lock = threading.Lock()

    def note(self, received: Received) -> None:
        now_s = time.time()
        with self._lock:
            for alert in received.document["alerts"]:
                self.seen_s.setdefault(alert["customer_id"], now_s)

    def has(self, customers: Sequence[str]) -> bool:
        return all(customer in self.seen_s for customer in customers)


@contextmanager
def dead_receiver() -> Iterator[str]:
    """An address that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/calls"


def rules(urls: dict[str, str], wait: str) -> str:
    """A rules file: whoever is in band high is told to all receivers, by one of eight rules."""
    receivers = [
        {"name": name, "type": "webhook", "url": url, "local": True, "signing_secrets": [f"env:{SECRET_NAME}"]}
        for name, url in urls.items()
    ]
    made = [
        {
            "name": f"crossing-{number}",
            "when": f"band = 'high' AND worst_touchpoint = 'place-{number}'",
            "owner": "benchmark",
            "receivers": list(urls),
            "budget": {"per_hour": 100_000, "per_day": 1_000_000},
            "group": {"above": MOST_CALLS_AT_ONCE, "within": "1s", "wait": wait},
        }
        for number in range(8)
    ]
    text: str = yaml.safe_dump({"version": 1, "receivers": receivers, "rules": made})
    return text


def write_rules(stack: Stack, urls: dict[str, str], wait: str) -> Path:
    """The rules file, with these receivers."""
    path = stack.folder / "rules.yaml"
    fresh = path.with_suffix(".new")
    fresh.write_text(rules(urls, wait))
    return fresh.replace(path)


def start(stack: Stack, urls: dict[str, str], wait: str) -> Part:
    """An alerting process with these receivers, when it answers."""
    path = write_rules(stack, urls, wait)
    spec = stack.spec("alerting")
    more = {
        "TOUCHSTONE_ALERTING_RULES": str(path),
        "TOUCHSTONE_ALERTING_RULES_INTERVAL_S": "0.2",
        SECRET_NAME: SECRET,
    }
    return stack.start_child(replace(spec, env={**spec.env, **more}))


class Signals:
    """Makes signals up and writes them."""

    def __init__(self, bootstrap: str, name: str) -> None:
        self._producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 2})
        self._name = name
        self._made = 0

    def write(self, crosses: bool, place: int = 0) -> tuple[str, float]:
        """One signal; its customer, and the time of its record, seconds since 1970."""
        self._made += 1
        customer = f"{self._name}-{self._made}"
        now_us = time.time_ns() // 1000
        signal = LoyaltySignal(
            signal_id=uuid.uuid4(),
            customer_id=customer,
            judged_at_us=now_us,
            from_band="low",
            to_band="high" if crosses else "elevated",
            risk=0.8,
            score=35.0,
            trend=-4.0,
            confidence=0.8,
            value_at_risk=100.0 + self._made % 900,
            reasons=(),
            model_version="benchmark",
            log_partition=self._made % 12,
            log_offset=self._made,
            worst_touchpoint=f"place-{place}",
        )
        self._producer.produce(LOYALTY_SIGNALS, signal.model_dump_json().encode(), customer, timestamp=now_us // 1000)
        self._producer.poll(0)
        return customer, now_us / 1e6

    def flush(self) -> None:
        if left := self._producer.flush(60):
            raise RuntimeError(f"{left} signals are not in the log")


def steady(stack: Stack, board: Board, load: Steady, name: str) -> tuple[list[float], float]:
    """Seconds from record to first sight, of each signal that crossed; and the rate that was reached, per s."""
    signals = Signals(stack.bootstrap, name)
    sent: dict[str, float] = {}
    began_s, number = time.monotonic(), 0
    total = round(load.rate_per_s * (load.warm_s + load.seconds))
    warm = round(load.rate_per_s * load.warm_s)
    while number < total:
        due = min(total, round((time.monotonic() - began_s) * load.rate_per_s))
        while number < due:
            crosses = number % load.one_in == 0
            customer, at_s = signals.write(crosses, place=number // load.one_in % 8)
            if crosses and number >= warm:
                sent[customer] = at_s
            number += 1
        time.sleep(STEP_S)
    rate = total / (time.monotonic() - began_s)
    signals.flush()
    stack.wait(lambda: board.has(list(sent)), PATIENCE_S, "the receiver to have all calls")
    return [board.seen_s[customer] - at_s for customer, at_s in sent.items()], rate


def burst(stack: Stack, board: Board, name: str, signals_at_once: int, crossing: int) -> list[float]:
    """Seconds from the first record to the receiver's first sight, of each signal that crossed, in order of sight."""
    signals = Signals(stack.bootstrap, name)
    crossed: list[str] = []
    began_s = time.time()
    for number in range(signals_at_once):
        crosses = number % (signals_at_once // crossing) == 0
        customer, _ = signals.write(crosses, place=len(crossed) % 8)
        if crosses:
            crossed.append(customer)
    signals.flush()
    stack.wait(lambda: board.has(crossed), PATIENCE_S, "the receiver to have all calls")
    return sorted(board.seen_s[customer] - began_s for customer in crossed)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.alerting", description=__doc__)
    parser.add_argument("--rate", type=int, default=1_000)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--one-in", type=int, default=20, help="of so many signals one crosses")
    parser.add_argument("--wait", default="1s", help="group.wait of the rules; 1s is what a rule has by default")
    parser.add_argument("--burst", type=int, default=10_000)
    parser.add_argument("--crossing", type=int, default=1_000, help="signals of a burst that cross")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=None)
    options = parser.parse_args()
    figures: dict[str, Any] = {}
    with ExitStack() as stop:
        stack = stop.enter_context(Stack(options.folder))
        stack.start("kafka", "topics", "clickhouse", "migrations")
        board = Board()
        good = stop.enter_context(serving(Inbox([SECRET], noted=board.note)))
        dead = stop.enter_context(dead_receiver())
        alerting = start(stack, {"good": good}, options.wait)
        tails, costs_us = [], []
        for repeat in range(options.repeats):
            load = Steady(options.rate, options.seconds, one_in=options.one_in)
            before_s = alerting.cpu_s()
            took_s, rate = steady(stack, board, load, f"steady{repeat}")
            p50, p99 = (float(np.percentile(took_s, share)) for share in (50, 99))
            tails.append((p50, p99))
            cost_us = 1e6 * (alerting.cpu_s() - before_s) / (load.rate_per_s * (load.warm_s + load.seconds))
            costs_us.append(cost_us)
            print(
                f"steady  {rate:6,.0f} signals/s, {len(took_s):,} calls: "
                f"p50 {p50 * 1000:,.0f} ms, p99 {p99 * 1000:,.0f} ms, most {max(took_s) * 1000:,.0f} ms; "
                f"{cost_us:,.0f} us of processor a signal",
                flush=True,
            )
        figures["alerting_p50_ms"] = 1000 * statistics.median(p50 for p50, _ in tails)
        figures["alerting_p99_ms"] = 1000 * statistics.median(p99 for _, p99 in tails)
        figures["alerting_cpu_us_per_signal"] = statistics.median(costs_us)
        later: list[tuple[float, float]] = []
        for repeat in range(options.repeats):
            # In turns, so that what else the machine does meets both.
            ends = []
            for who, urls in (("alone", {"good": good}), ("beside a dead one", {"good": good, "dead": dead})):
                write_rules(stack, urls, options.wait)
                name = f"burst{len(urls)}-{repeat}"
                # Told once the new rules hold; then what waited for the former ones has ended too.
                burst(stack, board, f"warm-{name}", options.burst // 10, options.crossing // 10)
                seen_s = burst(stack, board, name, options.burst, options.crossing)
                half_s, all_s = statistics.median(seen_s), seen_s[-1]
                ends.append((half_s, all_s))
                print(f"burst   {who}: half of the calls after {half_s:.2f} s, all {all_s:.2f} s", flush=True)
            later.append((ends[1][0] - ends[0][0], ends[1][1] - ends[0][1]))
        figures["alerting_dead_receiver_delays_half_ms"] = 1000 * statistics.median(half for half, _ in later)
        figures["alerting_dead_receiver_delays_all_ms"] = 1000 * statistics.median(last for _, last in later)
    print(json.dumps({name: round(value, 1) for name, value in figures.items()}, indent=2))


if __name__ == "__main__":
    main()
