"""What a call says: in order, small, with the times that people read."""

from __future__ import annotations

from services.alerting.alert import Told, Turn, stable_id
from services.alerting.document import MOST_SHOWN, Document
from services.alerting.plan import PlannedCall
from services.alerting.tell import MOST_BYTES, calls, iso
from tests.fakes.alerting import START_US, alert, rule, rule_set

RULES = rule_set(rule(receivers=("desk", "pager"), description="They leave.", severity="error"))


def planned(count: int, turn: Turn = Turn.FIRING, **more: object) -> PlannedCall:
    alerts = tuple(alert(f"c{i}", facts={"value_at_risk": float(i), "band": "high"}, turn=turn) for i in range(count))
    return PlannedCall(turn, "leaving", alerts, ("desk", "pager"), START_US, **more)  # type: ignore[arg-type]


def told(call: PlannedCall, links: Told | None = None) -> Document:
    return Document.model_validate_json(calls(call, RULES, links)[0].document)


def test_a_call_for_each_receiver_with_an_id_that_follows_from_what_it_tells() -> None:
    desk, pager = calls(planned(2), RULES)
    ids = sorted(alert(f"c{i}").alert_id for i in range(2))
    assert desk.call_id == stable_id("call", "firing", "leaving", "desk", *ids)
    assert pager.call_id != desk.call_id
    assert Document.model_validate_json(pager.document).call_id == pager.call_id
    assert (desk.alert_ids, desk.severity, desk.not_before_us) == (tuple(ids), "error", 0)


def test_the_costliest_are_told_and_the_others_counted() -> None:
    document = told(planned(100))
    assert [each.customer_id for each in document.alerts] == [f"c{i}" for i in range(99, 99 - MOST_SHOWN, -1)]
    assert document.alerts_total == 100
    assert document.value_at_risk_total == sum(range(100))
    assert document.summary == "100 customers at once, value at risk 4,950.00 together; the costliest: c99."


def test_one_customer_is_told_in_its_own_words() -> None:
    document = told(planned(1), Told("https://cx.example.com", {alert("c0").alert_id: "https://cx.example.com/a"}))
    assert document.summary == "Customer c0: risk 70% (high)."
    assert document.made_at == "2026-01-01T00:00:00.000000Z"
    (only,) = document.alerts
    assert (only.resolved_at, only.due_at) == (None, None)
    assert only.acknowledge_url == "https://cx.example.com/a"
    assert only.reasons[0].reason == "A complaint waits."


def test_a_resolved_call_says_about_which() -> None:
    call = calls(planned(1, Turn.RESOLVED, about={"desk": "first"}), RULES)[0]
    document = Document.model_validate_json(call.document)
    assert (call.about, document.about, document.status) == ("first", "first", "resolved")
    assert document.summary == "Resolved: c0."
    assert document.alerts[0].resolved_at == iso(START_US)


def test_a_notice_says_how_many_are_missing() -> None:
    document = told(planned(3, notice=True))
    assert document.over_budget
    assert document.summary.startswith("3 alerts were not called: the budget of rule leaving is used up.")


def test_a_document_stays_small_whatever_the_names() -> None:
    for name in ("\U0001f600", "\x01", '"', "\\", "ü"):
        long = name * 255
        alerts = tuple(
            alert(
                f"{i}",
                customer_id=long,
                subject=long,
                summary=name * 5_000,
                facts={"band": long, "segment": long, "worst_touchpoint": long},
                reasons=[(name * 1_000, 1.0)] * 10,
            )
            for i in range(200)
        )
        for call in calls(PlannedCall(Turn.FIRING, "leaving", alerts, ("desk",), START_US), RULES):
            assert len(call.document.encode()) <= MOST_BYTES
            assert Document.model_validate_json(call.document).alerts
