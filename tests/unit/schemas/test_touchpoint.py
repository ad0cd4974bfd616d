"""The event types: vocabularies spelled out, fields per kind, and what pydantic's settings promise."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from schemas.emotions import EMOTIONS
from schemas.kinds import KINDS, OUTCOMES, RESERVED_KINDS
from schemas.metrics import METRICS
from schemas.reasons import Reason
from schemas.refusals import RefusedEventError, explain, pointer
from schemas.touchpoint import EVENT, EVENTS, KIND_TYPES, Emotion, Metric, Outcome, to_record

EVENT_FIELDS = {
    "event_id",
    "customer_id",
    "occurred_at",
    "source",
    "kind",
    "touchpoint",
    "channel",
    "journey_id",
    "journey",
    "text",
    "attributes",
}
FELT = {"emotion", "intensity", "confidence"}
RATED = {"metric", "rating"}
PAID = {"amount", "currency"}
FIELDS_OF_KIND = {
    "interaction": FELT | RATED | {"outcome", "case_id"},
    "survey_response": FELT | RATED | {"case_id"},
    "emotion": FELT | {"case_id"},
    "complaint_opened": FELT | {"case_id"},
    "complaint_resolved": FELT | RATED | {"outcome", "case_id"},
    "incident": FELT | {"case_id"},
    "follow_up": FELT | {"outcome", "case_id"},
    "survey_sent": {"metric"},
    "outreach": set(),
    "renewal": PAID,
    "cancellation": PAID,
    "subscription": PAID,
    "review": RATED,
    "referral": set(),
    "purchase": PAID,
    "refund": PAID,
}


def event(**members: Any) -> dict[str, Any]:
    return {
        "event_id": "e-1",
        "customer_id": "C-1",
        "occurred_at": "2026-03-02T09:14:05Z",
        "source": "crm",
        "kind": "interaction",
        "touchpoint": "store",
    } | members


def refusal(members: dict[str, Any]) -> tuple[str, str]:
    with pytest.raises(RefusedEventError) as caught:
        to_record(EVENT.validate_json(json.dumps(event(**members))), 0)
    return caught.value.problems[0][:2]


def test_words_spelled_out_for_the_type_checker_are_the_vocabularies() -> None:
    assert get_args(Emotion) == EMOTIONS
    assert get_args(Metric) == tuple(METRICS)
    assert get_args(Outcome) == OUTCOMES
    assert set(KIND_TYPES) == set(KINDS) - RESERVED_KINDS


@pytest.mark.parametrize("kind", list(FIELDS_OF_KIND))
def test_each_kind_has_exactly_its_fields(kind: str) -> None:
    schema = EVENT.json_schema()
    properties = schema["$defs"][KIND_TYPES[kind].__name__]["properties"]
    assert set(properties) == EVENT_FIELDS | FIELDS_OF_KIND[kind]
    assert all(name == "kind" or properties[name].get("description") for name in properties)


def test_batches_drop_unknown_members_and_stop_at_the_first_bad_event() -> None:
    (seen,) = EVENTS.validate_python([event(score=99)])
    assert seen == event()
    with pytest.raises(ValidationError) as caught:
        EVENTS.validate_python([event(event_id=1), event(event_id=2)])
    assert caught.value.error_count() == 1


def test_record_carries_the_senders_id_only_where_it_is_no_uuid() -> None:
    record = to_record(event(), 17)
    assert record["sender_event_id"] == "e-1"
    assert record["received_at"] == 17
    plain = to_record(event(event_id="6B8C3C5E-53D0-4C55-9F5C-0A2B7F7A9A11"), 17)
    assert plain["event_id"].hex() == "6b8c3c5e53d04c559f5c0a2b7f7a9a11"
    assert "sender_event_id" not in plain


def test_money_becomes_an_integer() -> None:
    record = to_record(event(kind="purchase", amount="49.90", currency="EUR"), 0)
    assert record["amount_micros"] == 49_900_000
    assert "amount" not in record


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"metric": "nps", "rating": 10.5}, (Reason.OUT_OF_RANGE, "/rating")),
        ({"metric": "sentiment", "rating": -1.01}, (Reason.OUT_OF_RANGE, "/rating")),
        ({"rating": 3}, (Reason.MISSING_FIELD, "/metric")),
        ({"metric": "csat"}, (Reason.MISSING_FIELD, "/rating")),
        ({"confidence": 0.5}, (Reason.MISSING_FIELD, "/emotion")),
        ({"kind": "refund", "amount": "1"}, (Reason.MISSING_FIELD, "/currency")),
        ({"kind": "refund", "currency": "EUR"}, (Reason.MISSING_FIELD, "/amount")),
    ],
)
def test_what_takes_two_fields_is_checked(members: dict[str, Any], expected: tuple[str, str]) -> None:
    assert refusal(members) == expected


def test_a_mistyped_member_is_told_before_the_one_that_is_missing() -> None:
    wrong = event(occured_at="2026-03-02T09:14:05Z")
    del wrong["occurred_at"]
    with pytest.raises(ValidationError) as caught:
        EVENT.validate_python(wrong)
    problems = explain(caught.value)
    assert [problem.field for problem in problems] == ["/occured_at", "/occurred_at"]
    assert [problem.reason for problem in problems] == [Reason.UNKNOWN_FIELD, Reason.MISSING_FIELD]


def test_no_value_of_the_event_is_repeated_in_a_refusal() -> None:
    wrong = event(customer_id="secret\n", occurred_at="secret", kind="secret", text=["secret"], rating="secret")
    for kind in ("secret", "interaction"):
        with pytest.raises(ValidationError) as caught:
            EVENT.validate_python(wrong | {"kind": kind})
        assert "secret" not in str(explain(caught.value))
    with pytest.raises(RefusedEventError) as refused:
        to_record(event(occurred_at="secret"), 0)
    assert "secret" not in str(refused.value)


def test_a_pointer_is_escaped_and_cut() -> None:
    assert pointer(["a/b", "c~d", 0]) == "/a~1b/c~0d/0"
    assert len(pointer(["x" * 10_000])) == 200
