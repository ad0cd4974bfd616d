"""What may be done about a case, and which events that makes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from schemas.decode import decode
from services.alerting import cases
from services.alerting.cases import BadStepError, CaseError
from services.alerting.permission import DAY_US, DefaultGuard, Permission, SurveyFacts, permission
from tests.unit.alerting.case_examples import CLOSED, NOW_US, OPEN, TAKEN


def told(records: tuple[bytes, ...]) -> list[dict[str, Any]]:
    decoded = decode(list(records), b"markmark")
    assert not decoded.rejects
    return decoded.frame.to_dicts()


def test_acknowledging_once() -> None:
    [step] = told(cases.acknowledge(OPEN, "kim", NOW_US, "calling"))
    assert (step["kind"], step["customer_id"], step["case_id"]) == ("case_step", "ada", OPEN.case_id)
    assert dict(step["attributes"]) == {
        "step": "acknowledged",
        "by": "kim",
        "alert_id": OPEN.case_id,
        "note": "calling",
    }
    assert cases.acknowledge(TAKEN, "kim", NOW_US) == ()
    with pytest.raises(CaseError, match="closed by lee as failed"):
        cases.acknowledge(CLOSED, "kim", NOW_US)


def test_a_case_may_go_back_and_forth() -> None:
    there, back, again = (
        told(cases.assign(replace(OPEN, owner=owner, assignments=number), to, "kim", NOW_US))[0]
        for number, (owner, to) in enumerate([("lee", "mo"), ("mo", "lee"), ("lee", "mo")])
    )
    assert len({step["event_id"] for step in (there, back, again)}) == 3
    assert cases.assign(OPEN, "retention", "kim", NOW_US) == ()
    with pytest.raises(CaseError):
        cases.assign(CLOSED, "mo", "kim", NOW_US)


def test_closing_tells_what_the_customer_felt() -> None:
    step, follow_up, resolved = told(cases.close(OPEN, "succeeded", "kim", NOW_US, complaint="T-1"))
    assert dict(step["attributes"])["outcome"] == "succeeded"
    assert (follow_up["kind"], follow_up["outcome"], follow_up["case_id"]) == ("follow_up", "succeeded", OPEN.case_id)
    assert (resolved["kind"], resolved["outcome"], resolved["case_id"]) == ("complaint_resolved", "succeeded", "T-1")
    [alone] = told(cases.close(OPEN, "abandoned", "kim", NOW_US, contacted=False))
    assert alone["event_id"] == step["event_id"]


def test_closing_again_mends_what_was_broken_off_and_changes_nothing_else() -> None:
    first = cases.close(OPEN, "failed", "lee", CLOSED.closed_us)
    assert cases.close(CLOSED, "failed", "lee", NOW_US) == first
    with pytest.raises(CaseError, match="was closed as failed"):
        cases.close(CLOSED, "succeeded", "lee", NOW_US)


def test_a_note_may_come_at_any_time() -> None:
    for case in (OPEN, TAKEN, CLOSED):
        [note] = told(cases.add_note(case, "wrote a letter", "kim", NOW_US))
        assert dict(note["attributes"])["note"] == "wrote a letter"


@pytest.mark.parametrize(
    "act",
    [
        lambda: cases.acknowledge(OPEN, "", NOW_US),
        lambda: cases.acknowledge(OPEN, "k" * 101, NOW_US),
        lambda: cases.add_note(OPEN, "", "kim", NOW_US),
        lambda: cases.close(OPEN, "fine", "kim", NOW_US),
        lambda: cases.close(OPEN, "failed", "kim", NOW_US, complaint=""),
    ],
)
def test_what_makes_no_sense_is_refused(act: Any) -> None:
    with pytest.raises(BadStepError):
        act()


FREE = SurveyFacts(0, 0, 0, 0)


@pytest.mark.parametrize(
    ("facts", "answer"),
    [
        (None, Permission(True, (), 0)),
        (FREE, Permission(True, (), 0)),
        (replace(FREE, asked_us=NOW_US - 14 * DAY_US), Permission(True, (), 0)),
        (
            replace(FREE, asked_us=NOW_US - 14 * DAY_US + 1),
            Permission(False, ("asked_lately",), NOW_US + 1),
        ),
        (replace(FREE, feedback_us=2, follow_up_us=1), Permission(False, ("feedback_unanswered",), 0)),
        (replace(FREE, feedback_us=2, follow_up_us=2), Permission(True, (), 0)),
        (
            SurveyFacts(2, 1, 1, NOW_US),
            Permission(False, ("feedback_unanswered", "complaint_open", "asked_lately"), 0),
        ),
    ],
)
def test_who_may_be_asked(facts: SurveyFacts | None, answer: Permission) -> None:
    assert permission(facts, DefaultGuard(), NOW_US) == answer


def test_a_guard_may_forbid_less() -> None:
    facts = SurveyFacts(2, 1, 1, NOW_US)
    assert permission(facts, DefaultGuard(0, False, False), NOW_US).allowed
