"""Alert calls at once, signed and posted to a receiver of their own, beside a receiver that is dead.

``python -m benchmarks.alerting_delivery [--calls N] [--rate R] [--repeats N] [--json]``. The receiver answers from a
process of its own; the dead one takes connections and says nothing. Told: from submitting a call to its first attempt,
with and without the dead receiver, and at a steady rate. Medians of the repeats; the machine is shared by all parts.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from services.alerting.alert import Attempt, Call, Outcome, Turn, stable_id
from services.alerting.delivery.dispatcher import Dispatcher
from services.alerting.delivery.ports import Stored, Unobserved
from services.alerting.delivery.receivers import Webhook
from services.alerting.delivery.senders import build_senders
from services.alerting.document import Document, Told

SECRET_NAME: Final = "BENCHMARK_SIGNING_SECRET"
STEADY_S: Final = 5
PATIENCE_S: Final = 300


class _Rows:
    def __init__(self) -> None:
        self.delivered = 0

    async def record(self, attempts: Sequence[Attempt]) -> None:
        self.delivered += sum(attempt.outcome is Outcome.DELIVERED for attempt in attempts)

    async def find(self, call_ids: Sequence[str]) -> Sequence[Stored]:
        return []


@dataclass
class _Waits(Unobserved):
    of: dict[str, list[int]] = field(default_factory=dict)

    def first_attempt(self, receiver: str, waited_us: int) -> None:
        self.of.setdefault(receiver, []).append(waited_us)


def _call(receiver: str, number: int, made_us: int) -> Call:
    call_id = stable_id("call", receiver, str(number), str(made_us))
    told = Told(
        alert_id=stable_id("alert", call_id),
        status="firing",
        customer_id=f"c-{number}",
        subject=f"c-{number}",
        summary="Likely to leave: two complaints, the last one unanswered for 30 hours",
        fired_at="2026-09-21T14:13:20Z",
        risk=0.8,
        band="high",
        value_at_risk=240.0,
    )
    document = Document(
        call_id=call_id,
        status="firing",
        rule="leaving-and-valuable",
        severity="error",
        owner="retention",
        summary=told.summary,
        made_at="2026-09-21T14:13:20Z",
        alerts_total=1,
        value_at_risk_total=240.0,
        alerts=(told,),
    ).model_dump_json()
    return Call(
        call_id, Turn.FIRING, "", "leaving-and-valuable", "error", receiver, made_us, 0, (told.alert_id,), document
    )


async def _serve(answer: bool, port: int = 0) -> asyncio.Server:
    never = asyncio.Event()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                await reader.readexactly(length)
                if not answer:
                    await never.wait()
                writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    return await asyncio.start_server(take, "127.0.0.1", port)


async def _answer_forever(answer: bool) -> None:
    server = await _serve(answer)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


async def _run(ports: dict[str, int], calls: int, rate: float | None) -> tuple[list[int], float]:
    """Waits of the good receiver's calls, microseconds, and seconds until it had them all."""
    hooks = [
        Webhook(
            name=name,
            type="webhook",
            url=f"http://127.0.0.1:{port}/",
            local=True,
            signing_secrets=(f"env:{SECRET_NAME}",),
        )
        for name, port in ports.items()
    ]
    waits, rows = _Waits(), _Rows()
    dispatcher = Dispatcher(build_senders(hooks), rows, observer=waits)
    running = asyncio.create_task(dispatcher.run())
    began = time.perf_counter()
    for number in range(calls):
        if rate is not None and (early_s := number / rate - (time.perf_counter() - began)) > 0:
            await asyncio.sleep(early_s)
        now_us = time.time_ns() // 1_000
        dispatcher.submit([_call(name, number, now_us) for name in ports])
    async with asyncio.timeout(PATIENCE_S):
        while rows.delivered < calls:
            await asyncio.sleep(0.01)
    took_s = time.perf_counter() - began
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return waits.of["good"], took_s


def _figures(ports: dict[str, int], calls: int, rate: float | None, repeats: int) -> dict[str, float]:
    runs = [asyncio.run(_run(ports, calls, rate)) for _ in range(repeats)]
    return {
        "first_attempt_p50_s": statistics.median(statistics.median(waits) / 1e6 for waits, _ in runs),
        "first_attempt_p99_s": statistics.median(sorted(waits)[len(waits) * 99 // 100] / 1e6 for waits, _ in runs),
        "all_delivered_s": statistics.median(took_s for _, took_s in runs),
    }


def measure(calls: int, rate: float, repeats: int) -> dict[str, Any]:
    """Figures of the three runs, seconds."""
    os.environ[SECRET_NAME] = "whsec_" + base64.b64encode(b"benchmark" * 4).decode()
    command = [sys.executable, "-m", "benchmarks.alerting_delivery"]
    servers = {
        name: subprocess.Popen([*command, flag], stdout=subprocess.PIPE, text=True)
        for name, flag in (("good", "--answer"), ("dead", "--hang"))
    }
    try:
        ports = {name: int(server.stdout.readline()) for name, server in servers.items() if server.stdout}
        good = {"good": ports["good"]}
        return {
            "calls": calls,
            "alone": _figures(good, calls, None, repeats),
            "beside_a_dead_receiver": _figures(ports, calls, None, repeats),
            f"steady_{rate:g}_per_s_beside_a_dead_receiver": _figures(ports, int(rate * STEADY_S), rate, repeats),
        }
    finally:
        for server in servers.values():
            server.terminate()
            server.wait(30)
            if server.stdout:
                server.stdout.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--rate", type=float, default=100.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--answer", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--hang", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.answer or arguments.hang:
        asyncio.run(_answer_forever(arguments.answer))
        return
    figures = measure(arguments.calls, arguments.rate, arguments.repeats)
    if arguments.json:
        sys.stdout.write(json.dumps(figures) + "\n")
        return
    for name, value in figures.items():
        sys.stdout.write(f"{name}: {value if isinstance(value, int) else ''}\n")
        if isinstance(value, dict):
            for figure, seconds in value.items():
                sys.stdout.write(f"  {figure}: {seconds:.3f}\n")


if __name__ == "__main__":
    main()
