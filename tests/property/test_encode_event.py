"""The encoder for good events writes what the careful road writes, and lets nothing pass that is refused there."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from schemas.encode import encode
from schemas.encode_event import DoubtfulEventError, encode_events
from schemas.refusals import RefusedEventError
from schemas.touchpoint import EVENT, EVENTS, KIND_TYPES, to_record

RECEIVED_AT_US = 1_772_443_246_000_001
LATEST_US = RECEIVED_AT_US + 60_000_000

ids = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=40)
names = st.sampled_from(["shop", "crm", "support.phone", "web", "a-b_c.d"])
times = st.datetimes().map(lambda at: at.isoformat() + "Z") | st.sampled_from(
    [
        "2026-02-11T13:30:12.123456Z",
        "2026-03-02T09:20:46+00:00",
        "2026-03-02T10:21:45.9999999+01:00",
        "2026-03-02T09:22:00Z",
        "1970-01-01T00:00:00Z",
        "1969-12-31T23:59:59Z",
        "1978-12-01T00:00:00z",
        "2026-02-30T00:00:00Z",
        "2026-02-11T13:30:12",
        "2026-02-11",
        "0001-01-01T00:00:00+23:59",
        "",
    ]
)
MEMBERS: dict[str, st.SearchStrategy[Any]] = {
    "event_id": st.uuids().map(str)
    | st.uuids().map(lambda id_: str(id_).upper())
    | ids
    | st.sampled_from(["1234567-89ab-cdef-0123-456789abcdef-", "0123456g-89ab-cdef-0123-456789abcdef"]),
    "customer_id": ids,
    "occurred_at": times,
    "source": names,
    "touchpoint": names,
    "channel": st.none() | names,
    "journey_id": st.none() | ids,
    "journey": st.none() | names,
    "text": st.none() | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=3_000),
    "attributes": st.none() | st.dictionaries(ids, st.text(st.characters(exclude_categories=["Cs", "Cc"])), max_size=4),
    "outcome": st.sampled_from([None, "succeeded", "failed", "abandoned"]),
    "metric": st.sampled_from([None, "nps", "csat", "ces", "stars", "sentiment"]),
    "rating": st.none() | st.integers(-1, 11).map(float) | st.sampled_from([0.5, -0.0, 0.0, -1.0]),
    "emotion": st.sampled_from([None, "pleased", "irritated"]),
    "intensity": st.sampled_from([None, 0.25, 1.0]),
    "confidence": st.sampled_from([None, 0.5]),
    "amount": st.none()
    | st.decimals(0, 10**13, places=3).map(str)
    | st.integers(-1, 10**13)
    | st.floats(0, 1e10)
    | st.sampled_from([True, 1, 1.0, "1", "", "-1", "1.1234567", "1e3", "9000000000000.000001"]),
    "currency": st.sampled_from([None, "EUR", "USD"]),
    "case_id": st.none() | ids,
}


@st.composite
def events(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(st.sampled_from(sorted(KIND_TYPES)))
    kind_type: Any = KIND_TYPES[kind]
    required = {name: MEMBERS[name] for name in kind_type.__required_keys__ - {"kind"}}
    optional = {name: MEMBERS[name] for name in kind_type.__optional_keys__}
    return {"kind": kind} | draw(st.fixed_dictionaries(required, optional=optional))


def carefully(event: dict[str, Any]) -> bytes | None:
    """The record of an event by way of `to_record`; None if it is refused, or too late to be let pass in silence."""
    try:
        record = to_record(dict(event), RECEIVED_AT_US)
    except RefusedEventError:
        return None
    return encode(record) if record["occurred_at"] <= LATEST_US else None


@given(st.lists(events(), min_size=1, max_size=4))
@settings(max_examples=600, deadline=None)
def test_same_bytes_as_the_careful_road_or_doubt(sent: list[dict[str, Any]]) -> None:
    # What is not valid at all never comes this far.
    valid = [event for event in sent if EVENT.validator.isinstance_python(event)]
    assume(valid)
    parsed = EVENTS.validator.validate_json(json.dumps(valid))
    before = json.dumps(parsed)
    expected = [carefully(event) for event in parsed]
    try:
        values = encode_events(parsed, RECEIVED_AT_US, LATEST_US).values
    except DoubtfulEventError:
        old = any(event["occurred_at"] < "1979" for event in parsed)
        assert old or None in expected
    else:
        assert values == expected
    assert json.dumps(parsed) == before, "the events are still as they came"


def test_uuids_that_only_look_so_together() -> None:
    """Lengths that add up, and hyphens in the right places of the joined text, do not make two ids of other ones."""
    good = "11111111-2222-4333-8444-555555555555"
    events = [
        {
            "event_id": event_id,
            "customer_id": "C-1",
            "occurred_at": "2026-03-01T09:30:00Z",
            "source": "shop",
            "kind": "outreach",
            "touchpoint": "mail",
        }
        for event_id in (good, good[:-1], "5" + good, good.replace("5", " "), good.replace("1", "-"))
    ]
    for some in (events, events[:3], events[1:3], [events[3]], [events[4]], [events[0], events[3]]):
        assert encode_events(some, RECEIVED_AT_US, LATEST_US).values == [carefully(event) for event in some]


def test_true_is_no_amount_even_after_one_was() -> None:
    event = {
        "event_id": "e",
        "customer_id": "C-1",
        "occurred_at": "2026-03-01T09:30:00Z",
        "source": "shop",
        "kind": "purchase",
        "touchpoint": "checkout",
        "currency": "EUR",
    }
    for amount in (1, 1.0, "1"):
        assert encode_events([event | {"amount": amount}], RECEIVED_AT_US, LATEST_US).values
    for doubtful in (True, [1], None, "-1"):
        try:
            encode_events([event | {"amount": doubtful}], RECEIVED_AT_US, LATEST_US)
        except DoubtfulEventError:
            continue
        raise AssertionError(f"{doubtful!r} was taken")
