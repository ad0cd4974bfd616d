"""The demo's receiver of calls, and what the calls were worth against the truth."""

from __future__ import annotations

import base64
import os
import secrets
import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl
import yaml

from infra.clickhouse.client import ClickHouse
from schemas.tables import DATABASE
from services.alerting.receive import Inbox, serving
from services.alerting.rehearsal import Rehearsal
from services.cli.alerting.check import read_file
from services.cli.alerting.everybody import signals
from services.cli.console import CommandError, ExitCode, print_table
from services.scoring.risk.model import RiskModel
from services.simulator import CustomerTruth

LEAVING: Final = "leaving"
UNANSWERED: Final = "complaint-unanswered"
RECEIVER: Final = "retention-desk"
CALLED_TIMEOUT_S: Final = 90.0
REHEARSED_DAYS: Final = 90
SHOWN: Final = 4
"""Calls whose summaries are shown."""
DAY_US: Final = 86_400_000_000
_POLL_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class Receiving:
    """A receiver on this machine, and the rules that call it."""

    inbox: Inbox
    rules: str
    """Text of the rules file."""
    secret: str

    def write(self, folder: Path) -> Path:
        """Put rules and secret into a folder; returns the rules file."""
        folder.mkdir(parents=True, exist_ok=True)
        secret = folder / "retention-desk.secret"
        secret.touch(mode=0o600)
        secret.write_text(self.secret, encoding="utf-8")
        rules = folder / "rules.yml"
        rules.write_text(self.rules.replace("SECRET", f"file:{secret}"), encoding="utf-8")
        return rules


@contextmanager
def receiving() -> Iterator[Receiving]:
    """Take signed calls while the block runs."""
    secret = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
    inbox = Inbox([secret])
    with serving(inbox) as url:
        yield Receiving(inbox, _rules(url), secret)


def _rules(url: str) -> str:
    text: str = yaml.safe_dump(
        {
            "version": 1,
            "receivers": [
                {"name": RECEIVER, "type": "webhook", "url": url, "local": True, "signing_secrets": ["SECRET"]}
            ],
            "rules": [
                {
                    "name": LEAVING,
                    "description": "Customers who are about to leave, or have left in silence",
                    "when": "band = 'high'",
                    "until": "band = 'low'",
                    "severity": "critical",
                    "owner": "retention",
                    "receivers": [RECEIVER],
                    "answer_within": "24h",
                    "cost_of_contact": 4.5,
                    # Half a year of history comes due at once: three calls about one customer each, one about the rest.
                    "group": {"above": 3, "within": "5s", "wait": "1s"},
                },
                {
                    "name": UNANSWERED,
                    "description": "Complaints that nobody has answered for a day",
                    "when": "complaint_hours >= 24 AND band <> 'high'",
                    "severity": "warning",
                    "owner": "care",
                    "receivers": [RECEIVER],
                    "answer_within": "24h",
                    "cost_of_contact": 4.5,
                    "group": {"above": 3, "within": "5s", "wait": "1s"},
                },
            ],
        },
        sort_keys=False,
    )
    return text


def await_calls(client: ClickHouse, inbox: Inbox) -> None:
    """Return when everybody in the highest band has been called about, and the receiver has heard it. CommandError when
    that takes too long."""
    deadline_s = time.monotonic() + CALLED_TIMEOUT_S
    while True:
        (high,) = client.query(f"SELECT count() FROM {DATABASE}.customer_scores WHERE risk_band = 'high'")[0]
        leaving, fired, waiting = client.query(
            f"SELECT countIf(rule = '{LEAVING}'), count(), countIf(fate = 'waiting') "
            f"FROM {DATABASE}.alert_log FINAL WHERE turn = 'firing'"
        )[0]
        heard = sum(call.document["alerts_total"] for call in inbox.calls if call.kind.endswith(".firing"))
        if leaving >= high and fired > leaving and waiting == 0 and heard >= fired:
            return
        if time.monotonic() > deadline_s:
            raise CommandError(
                f"{high:,} customers are in the highest band, {leaving:,} alerts fired about them, {fired:,} in all, "
                f"of which {waiting:,} wait and {heard:,} were heard of after {CALLED_TIMEOUT_S:.0f} s",
                ExitCode.NO,
            )
        time.sleep(_POLL_S)


def print_calls(inbox: Inbox) -> None:
    """Calls as the receiver got them."""
    firing = [call for call in inbox.calls if call.kind.endswith(".firing")]
    alerts = sum(call.document["alerts_total"] for call in firing)
    print(
        f"{alerts:,} alerts in {len(firing):,} calls to a receiver on this machine: {len(inbox.calls):,} signatures "
        f"verified, {len(inbox.refusals)} refused, {inbox.repeats} repeated"
    )
    for call in firing[:SHOWN]:
        print(f"  {call.document['rule']}: {call.document['summary']}")


def rehearsed(client: ClickHouse, rules: Path, model: RiskModel, now_us: int) -> pl.DataFrame:
    """The first alert of each rule about each customer, had it been live in the last `REHEARSED_DAYS` days: rule,
    customer_id, fired_us. Everybody is judged again once a day."""
    steps_us = [now_us - day * DAY_US for day in range(REHEARSED_DAYS, -1, -1)]
    rehearsal = Rehearsal(read_file(rules).rules)
    for frame, until_us in zip(signals(client, model, steps_us[:-1]), steps_us[1:], strict=True):
        rehearsal.step(frame, until_us)
    return rehearsal.alerts().group_by("rule", "customer_id").agg(pl.col("fired_us").min()).sort("rule", "fired_us")


def print_rehearsed(first: pl.DataFrame, truth: Mapping[str, CustomerTruth], now_us: int, horizon_days: float) -> None:
    """How many of those called truly leave, and how early the call came, by rule."""
    begin_us, horizon_us = now_us - REHEARSED_DAYS * DAY_US, round(horizon_days * DAY_US)
    leaves = {name: customer.leaves_at_us for name, customer in truth.items() if customer.leaves_at_us is not None}
    leavers = {name for name, at_us in leaves.items() if begin_us <= at_us}
    rows = []
    for (rule,), alerts in first.group_by("rule", maintain_order=True):
        called = dict(alerts.select("customer_id", "fired_us").iter_rows())
        right = [name for name, at_us in called.items() if leaves.get(name, at_us + horizon_us) < at_us + horizon_us]
        lead = [(leaves[name] - called[name]) / DAY_US for name in right if leaves[name] >= called[name]]
        reached = sum(name in leavers and called[name] <= leaves[name] for name in called)
        rows.append(
            [
                str(rule),
                f"{len(called):,}",
                f"{len(right) / len(called):.0%}",
                f"{len(lead):,}",
                f"{statistics.median(lead):.0f} days" if lead else "",
                f"{reached:,} of {len(leavers):,}",
            ]
        )
    print_table(["rule", "customers", "truly leave", "before they did", "lead time", "of all who leave"], rows)
    among = len(leavers) / max(len(truth), 1)
    print(
        f"Rehearsed on the last {REHEARSED_DAYS} days, everybody judged once a day; {among:.0%} of all customers leave "
        f"in them or within {horizon_days:.0f} days after. Truly leave: have left by then, or do within "
        f"{horizon_days:.0f} days of the alert."
    )


def use(rules: Path) -> None:
    """Have the parts that are started from now on decide by a rules file."""
    os.environ["TOUCHSTONE_ALERTING_RULES"] = str(rules)
