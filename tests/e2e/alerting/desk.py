"""The alerting process as a test may start, kill and ask it, signals made up for it, and a receiver that remembers."""

from __future__ import annotations

import sys
import urllib.request
import uuid
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml
from confluent_kafka import Producer

from infra.embedded.ports import free_port
from infra.kafka.admin import KafkaAdmin
from schemas.signal import LoyaltySignal
from schemas.topics import ALERTING_GROUP, LOYALTY_SIGNALS
from services.alerting.intake import frame, read
from services.alerting.receive import Inbox, Received, Taken
from services.alerting.rules.model import RuleSet
from services.alerting.rules.read import read_rules
from tests.e2e.checker import read_topic
from tests.e2e.scoring.parts import Machine, Part
from tests.fakes.alerting import Alerting

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # kafka-python reads its files in an old way
    from kafka import KafkaAdminClient, TopicPartition
    from kafka.admin import MemberToRemove, OffsetSpec

SECRET: Final = "whsec_" + "c2VjcmV0LW9mLXRoZS1kZXNrLWZvci10ZXN0cy0zMg=="
SECRET_NAME: Final = "DESK_SECRET"
QUICK: Final = {
    "TOUCHSTONE_ALERTING_SWEEP_INTERVAL_S": "86400",
    "TOUCHSTONE_ALERTING_FOCUS_INTERVAL_S": "86400",
    "TOUCHSTONE_ALERTING_RULES_INTERVAL_S": "0.2",
}
"""Nothing but signals moves it; ``sweep`` of `Desk.start` overrules the first."""


class Noted(Inbox):
    """Remembers the body of every call that was verified, of repeats too."""

    def __init__(self) -> None:
        super().__init__([SECRET])
        self.bodies: dict[str, set[bytes]] = {}
        self.seen = 0

    def take(self, headers: Mapping[str, str], body: bytes) -> Taken:
        taken = super().take(headers, body)
        if taken is not Taken.REFUSED:
            call_id = {name.lower(): value for name, value in headers.items()}["webhook-id"]
            with self._lock:
                self.bodies.setdefault(call_id, set()).add(body)
                self.seen += 1
        return taken

    def about(self, prefix: str) -> list[Received]:
        """Calls that tell of customers whose names begin so: what tests before left undelivered may come as well."""
        return [
            call
            for call in list(self.calls)
            if any(alert["customer_id"].startswith(prefix) for alert in call.document["alerts"])
        ]

    def told(self, status: str = "firing", prefix: str = "") -> list[str]:
        """Ids of alerts, one for each time that a call told of it."""
        calls = [call for call in self.about(prefix) if call.document["status"] == status]
        return [alert["alert_id"] for call in calls for alert in call.document["alerts"]]

    def customers(self, status: str = "firing", prefix: str = "") -> set[str]:
        calls = [call for call in self.about(prefix) if call.document["status"] == status]
        return {alert["customer_id"] for call in calls for alert in call.document["alerts"]}


def rule(name: str, when: str, **more: Any) -> dict[str, Any]:
    """A rule that calls at once, about one customer each, as often as it fires."""
    return {
        "name": name,
        "when": when,
        "owner": "retention",
        "receivers": ["desk"],
        "cooldown": "0s",
        "budget": {"per_hour": 100_000, "per_day": 100_000},
        "group": {"above": 1000, "within": "1s", "wait": "0s"},
    } | {key.rstrip("_"): value for key, value in more.items()}


def signal(customer: str, offset: int, at_us: int, risk: float = 0.5, band: str = "high", **more: Any) -> bytes:
    """A record of topic loyalty-signals."""
    said: dict[str, Any] = {
        "signal_id": uuid.uuid5(uuid.NAMESPACE_OID, f"{customer} {offset}"),
        "customer_id": customer,
        "judged_at_us": at_us,
        "from_band": "low",
        "to_band": band,
        "risk": risk,
        "score": 30.0,
        "trend": -5.0,
        "confidence": 0.9,
        "value_at_risk": 100.0,
        "reasons": [{"reason": "A complaint waits.", "log_odds": 1.5}],
        "model_version": "m",
        "log_partition": 1,
        "log_offset": offset,
    }
    return LoyaltySignal.model_validate(said | more).model_dump_json().encode()


@dataclass
class Desk:
    """A machine's alerting processes and their receiver."""

    machine: Machine
    inbox: Noted
    url: str
    _started: int = 0
    _metrics_ports: dict[str, int] = field(default_factory=dict)

    def rules(self, *rules: dict[str, Any]) -> RuleSet:
        """Write the rules file; gives what it says."""
        return self.write_rules(yaml.safe_dump({"version": 1, "receivers": [self.receiver()], "rules": list(rules)}))

    def receiver(self) -> dict[str, Any]:
        return {
            "name": "desk",
            "type": "webhook",
            "url": self.url,
            "local": True,
            "signing_secrets": [f"env:{SECRET_NAME}"],
        }

    @property
    def rules_path(self) -> Path:
        return self.machine.folder / "rules.yaml"

    def write_rules(self, text: str) -> RuleSet:
        fresh = self.rules_path.with_suffix(".new")
        fresh.write_text(text)
        fresh.replace(self.rules_path)
        return read_rules(text.encode(), "rules").rules

    def start(self, sweep_s: float | None = None) -> Part:
        """Start one more process; it joins its group in its own time."""
        self._started += 1
        name = f"alerting-{self._started}-{free_port()}"
        self._metrics_ports[name] = free_port()
        settings = {
            "TOUCHSTONE_ALERTING_RULES": str(self.rules_path),
            "TOUCHSTONE_ALERTING_PORT": "0",
            "TOUCHSTONE_ALERTING_METRICS_PORT": str(self._metrics_ports[name]),
            SECRET_NAME: SECRET,
            **QUICK,
        }
        if sweep_s is not None:
            settings["TOUCHSTONE_ALERTING_SWEEP_INTERVAL_S"] = str(sweep_s)
        part = Part(
            name,
            (sys.executable, "-m", "services.alerting.main"),
            self.machine.folder,
            {**self.machine.environment(), **settings},
        )
        self.machine.workers.append(part)
        return part

    def metric(self, part: Part, name: str) -> float:
        """A figure of a process's; nan while it does not answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._metrics_ports[part.name]}/metrics", timeout=5) as got:
                text = got.read().decode()
        except OSError:
            return float("nan")
        full = f"touchstone_alerting_{name}"
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.split(" ")[0] == full)

    def reads(self, part: Part) -> bool:
        return self.metric(part, "reads") == 1

    def kill(self, part: Part) -> None:
        """kill -9."""
        self.machine.kill_worker(part)

    def end(self, part: Part) -> None:
        """SIGTERM; it must call that a success."""
        self.machine.workers.remove(part)
        code = part.end()
        assert code == 0, part.tail()

    def forget_members(self) -> None:
        """Take killed processes out of the group now, as the broker would after the session timeout."""
        with KafkaAdmin(self.machine.bootstrap) as known:
            if not known.group_state(ALERTING_GROUP).members:
                return
        admin = KafkaAdminClient(bootstrap_servers=self.machine.bootstrap)
        try:
            members = admin.describe_groups([ALERTING_GROUP])[ALERTING_GROUP]["members"]
            admin.remove_group_members(
                ALERTING_GROUP, [MemberToRemove(member_id=member["member_id"]) for member in members]
            )
        finally:
            admin.close()

    def reset(self, group: str, topic: str) -> None:
        """The group is to read the topic from its beginning."""
        with KafkaAdmin(self.machine.bootstrap) as known:
            partitions = known.end_offsets(topic)
        admin = KafkaAdminClient(bootstrap_servers=self.machine.bootstrap)
        try:
            admin.reset_group_offsets(
                group, {TopicPartition(topic, partition): OffsetSpec.EARLIEST for partition in partitions}
            )
        finally:
            admin.close()

    def send(self, records: Iterable[tuple[str, bytes]]) -> None:
        """Append records, by customer, to topic loyalty-signals."""
        producer = Producer({"bootstrap.servers": self.machine.bootstrap, "enable.idempotence": True})
        for customer, value in records:
            producer.produce(LOYALTY_SIGNALS, value, customer)
            producer.poll(0)
        assert producer.flush(60) == 0

    def lag(self) -> int:
        """Signals that are not done with."""
        with KafkaAdmin(self.machine.bootstrap) as admin:
            return sum(at.end - (at.committed or 0) for at in admin.group_lag(ALERTING_GROUP, LOYALTY_SIGNALS))

    def until_read(self) -> None:
        """Wait until all signals are decided by."""
        self.machine.until(lambda: self.lag() == 0, "all signals are taken")

    def fold(self, rules: RuleSet, prefix: str) -> Alerting:
        """What all signals in the topic about these customers imply, by a fresh fold."""
        fold = Alerting(rules)
        for records in read_topic(self.machine.bootstrap, LOYALTY_SIGNALS).values():
            signals = [s for s in read([r.value or b"" for r in records]).signals if s.customer_id.startswith(prefix)]
            if signals:
                fold.take_frame(frame(signals, {}))
        return fold
