"""The desk over a fake store: order of effects, repeats, and what a crash between two writes leaves."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from schemas.signal import LoyaltySignal
from services.alerting.alert import Alert, Fate
from services.alerting.desk import Desk
from services.alerting.intake import frame, read
from services.alerting.metrics import AlertingMetrics
from services.alerting.rules.model import RuleSet
from tests.fakes.alerting import HOUR_US, START_US, Alerting, rule, rule_set
from tests.fakes.alerting_store import FakeAlertStore, StoreDownError
from tests.unit.alerting.test_intake import record

RULES = rule_set(rule("one"), rule("two", when="risk > 0.5", cooldown="2h"))
BATCHES = [
    [
        record(
            customer_id=customer,
            log_offset=offset,
            judged_at_us=START_US + offset * HOUR_US,
            to_band="high" if (offset + len(customer)) % 3 else "low",
            risk=0.9 if offset % 2 else 0.1,
        )
        for offset in range(start, start + 4)
        for customer in ("ann", "bo", "cemil")
    ]
    for start in range(0, 20, 4)
]


class Room:
    """A desk, its store and who it tells."""

    def __init__(self, rules: RuleSet = RULES) -> None:
        self.store = FakeAlertStore()
        self.metrics = AlertingMetrics()
        self.told: list[Alert] = []
        self.rules = rules
        self.desk = self.fresh()

    def fresh(self) -> Desk:
        return Desk(self.store, lambda: self.rules, self.told.extend, self.metrics, lambda: START_US)

    def count(self, name: str) -> float:
        return self.metrics.registry.get_sample_value(f"touchstone_alerting_{name}") or 0.0


def fold(batches: Sequence[Sequence[bytes]]) -> set[str]:
    whole = Alerting(RULES)
    for batch in batches:
        whole.take_frame(frame(read(batch).signals, {}))
    return {repr(alert) for alert in whole.alerts}


def kept(store: FakeAlertStore) -> set[str]:
    return {repr(alert) for alert in store.alerts.values()}


def test_alerts_are_kept_before_the_states_that_follow() -> None:
    room = Room()
    room.desk.take(BATCHES[0])
    assert room.store.effects == ["alerts", "states"]
    assert {repr(alert) for alert in room.told} == kept(room.store) == fold(BATCHES[:1])


def test_a_repeat_decides_and_tells_nothing() -> None:
    room = Room()
    for batch in BATCHES:
        room.desk.take(batch)
    told, alerts = len(room.told), kept(room.store)
    for batch in BATCHES:
        room.fresh().take(batch)
    assert len(room.told) == told
    assert kept(room.store) == alerts == fold(BATCHES)


@pytest.mark.parametrize("effect", ["alerts", "states"])
@pytest.mark.parametrize("written", [False, True])
@pytest.mark.parametrize("at", range(len(BATCHES)))
def test_a_crash_at_any_write_is_made_good_by_the_same_records(effect: str, written: bool, at: int) -> None:
    room = Room()
    for number, batch in enumerate(BATCHES):
        if number == at:
            (room.store.broken if written else room.store.refusals)[effect] = 1
            with pytest.raises(StoreDownError):
                room.desk.take(batch)
            room.desk = room.fresh()
        room.desk.take(batch)
    assert kept(room.store) == fold(BATCHES)
    # Whoever opens an office reads what waits; the desk tells what it decided again, as long as that waits.
    assert {repr(alert) for alert in room.told} | {repr(alert) for alert in room.store.waiting()} == fold(BATCHES)


def test_what_was_called_before_a_crash_is_not_told_again() -> None:
    room = Room()
    room.store.refusals["states"] = 1
    with pytest.raises(StoreDownError):
        room.desk.take(BATCHES[0])
    called = next(iter(room.store.alerts.values()))
    room.store.write_alerts([called], {(called.alert_id, called.turn): Fate.CALLED})
    room.desk.take(BATCHES[0])
    assert (called.alert_id, called.turn) not in {(alert.alert_id, alert.turn) for alert in room.told}
    assert room.store.alerts[called.alert_id, called.turn].fate is Fate.CALLED


def test_garbage_is_passed_over_and_counted() -> None:
    room = Room()
    room.desk.take([b"", *BATCHES[0], b"{}"])
    assert kept(room.store) == fold(BATCHES[:1])
    assert room.count("unreadable_total") == 2
    assert room.count("signals_total") == len(BATCHES[0])
    room.desk.take([b"nothing but garbage"])
    assert room.count("unreadable_total") == 3


def test_segments_are_looked_up_as_of_the_signal() -> None:
    room = Room(rule_set(rule(when="segment = 'gold'")))
    room.store.told_segments["ann"] = [(0, "silver"), (2, "gold"), (3, "silver")]
    room.desk.take([record(log_offset=offset, judged_at_us=START_US + offset) for offset in range(5)])
    assert [(alert.turn.value, alert.log_offset) for alert in room.told] == [("firing", 2), ("resolved", 3)]


def test_the_rules_that_hold_now_decide() -> None:
    room = Room(rule_set(rule("first", when="risk > 0.99")))
    room.desk.take([record(log_offset=1)])
    room.rules = rule_set(rule("second"))
    room.desk.take([record(log_offset=2)])
    assert [alert.rule for alert in room.told] == ["second"]


def test_the_age_of_signals_is_measured() -> None:
    room = Room()
    room.desk.take([record(judged_at_us=START_US - 3_000_000), record(customer_id="bo", judged_at_us=START_US + 10**6)])
    assert room.count("signal_age_seconds_sum") == pytest.approx(3.0)
    assert LoyaltySignal.model_validate_json(record()).crossed
