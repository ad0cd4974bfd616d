"""Columns become fields as the mapping says, and nothing is lost without being refused."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

import pytest

from services.importer.errors import MappingError
from services.importer.judge import Judged

EventsOf = Callable[..., list[dict[str, Any] | None]]
JudgedAs = Callable[..., Judged]

BASE = """
dataset = "test"
[fields]
customer_id = "who"
kind = { constant = "interaction" }
touchpoint = { constant = "shop" }
event_id = "id"
"""
AT = 'occurred_at = "at"\n'


def one(events: list[dict[str, Any] | None]) -> dict[str, Any]:
    [event] = events
    assert event is not None
    return event


def time_of(events_of: EventsOf, spec: str, value: Any) -> str:
    text: str = one(events_of(BASE + f"occurred_at = {spec}\n", {"t": [value]}))["occurred_at"]
    return text


def test_an_event_has_what_is_mapped_and_the_data_set_as_its_source(events_of: EventsOf) -> None:
    assert one(events_of(BASE + AT, {"x": [1]})) == {
        "event_id": "e0",
        "customer_id": "c0",
        "occurred_at": "2025-03-01T10:00:00Z",
        "source": "test",
        "kind": "interaction",
        "touchpoint": "shop",
    }


@pytest.mark.parametrize(
    ("spec", "value", "expected"),
    [
        ('{ column = "t" }', "2025-03-01T10:00:00+02:00", "2025-03-01T10:00:00+02:00"),
        ('{ column = "t", zone = "Europe/Berlin" }', "2025-03-01T10:00:00+02:00", "2025-03-01T10:00:00+02:00"),
        ('{ column = "t", zone = "Europe/Berlin" }', "2025-07-01T10:00:00", "2025-07-01T08:00:00.000000Z"),
        ('{ column = "t", zone = "Europe/Berlin" }', "2025-07-01 10:00:00.25", "2025-07-01T08:00:00.250000Z"),
        ('{ column = "t", zone = "Europe/Berlin" }', "2025-07-01 10:00", "2025-07-01T08:00:00.000000Z"),
        ('{ column = "t", zone = "UTC" }', "2025-07-01", "2025-07-01T00:00:00.000000Z"),
        # The clock goes back: 02:30 comes twice, the first is taken.
        ('{ column = "t", zone = "Europe/Berlin" }', "2025-10-26T02:30:00", "2025-10-26T00:30:00.000000Z"),
        # The clock goes forward: 02:30 does not exist, it was 03:30.
        ('{ column = "t", zone = "Europe/Berlin" }', "2025-03-30T02:30:00", "2025-03-30T01:30:00.000000Z"),
        ('{ column = "t", format = "%d.%m.%y %H:%M", zone = "UTC" }', "01.07.25 10:00", "2025-07-01T10:00:00.000000Z"),
        ('{ column = "t", format = "%d/%m/%Y", zone = "UTC" }', "01/07/2025", "2025-07-01T00:00:00.000000Z"),
        ('{ column = "t", format = "%d.%m.%Y %H:%M %z" }', "01.07.2025 10:00 +0200", "2025-07-01T08:00:00.000000Z"),
        ('{ column = "t", format = "epoch_s" }', 1751364000, "2025-07-01T10:00:00.000000Z"),
        ('{ column = "t", format = "epoch_s" }', "1751364000.5", "2025-07-01T10:00:00.500000Z"),
        ('{ column = "t", format = "epoch_ms" }', "1751364000123", "2025-07-01T10:00:00.123000Z"),
        ('{ column = "t", format = "epoch_us" }', 1751364000000001, "2025-07-01T10:00:00.000001Z"),
        ('{ column = "t" }', datetime(2025, 7, 1, 10, 0, 0, 1, tzinfo=UTC), "2025-07-01T10:00:00.000001Z"),
        ('{ column = "t", zone = "Europe/Berlin" }', datetime(2025, 7, 1, 10), "2025-07-01T08:00:00.000000Z"),
        ('{ column = "t", zone = "UTC" }', date(2025, 7, 1), "2025-07-01T00:00:00.000000Z"),
        # What cannot be read stays, so that the refusal is about what the file says.
        ('{ column = "t", zone = "UTC" }', "yesterday", "yesterday"),
        ('{ column = "t", format = "epoch_s" }', "soon", "soon"),
        ('{ column = "t", format = "%d.%m.%Y", zone = "UTC" }', "2025-07-01", "2025-07-01"),
    ],
)  # fmt: skip
def test_times(events_of: EventsOf, spec: str, value: Any, expected: str) -> None:
    assert time_of(events_of, spec, value) == expected


@pytest.mark.parametrize(
    ("spec", "value"),
    [('"t"', datetime(2025, 7, 1)), ('{ column = "t", format = "%d.%m.%Y" }', "01.07.2025")],
)
def test_times_without_a_zone_ask_for_one(events_of: EventsOf, spec: str, value: Any) -> None:
    with pytest.raises(MappingError, match="carry no zone; give one"):
        time_of(events_of, spec, value)


@pytest.mark.parametrize("pattern", ["%d.%m.%Y %Hh", "%H"])
def test_a_pattern_that_cannot_be_used_is_named(events_of: EventsOf, pattern: str) -> None:
    with pytest.raises(MappingError, match=r"fields.occurred_at.format: .* cannot be used"):
        time_of(events_of, f'{{ column = "t", format = "{pattern}", zone = "UTC" }}', "x")


def test_a_time_of_day_alone_is_no_time(events_of: EventsOf) -> None:
    with pytest.raises(MappingError, match="a date is needed"):
        time_of(events_of, '{ column = "t", zone = "UTC" }', datetime(2025, 7, 1).time())


@pytest.mark.parametrize(
    ("spec", "value", "expected"),
    [
        ('"v"', "phone", "phone"),
        ('"v"', 7, "7"),
        ('"v"', True, "true"),
        ('"v"', "", None),
        ('"v"', None, None),
        ('{ column = "v", default = "web" }', None, "web"),
        ('{ column = "v", map = { tel = "phone" } }', "tel", "phone"),
        ('{ column = "v", map = { tel = "phone" } }', "chat", "chat"),
        ('{ column = "v", map = { tel = "phone" }, otherwise = "leave_out" }', "chat", None),
        ('{ column = "v", map = { tel = "" } }', "tel", None),
        ('{ column = "v", map = { tel = "phone" }, otherwise = "leave_out", default = "web" }', "chat", "web"),
        ('{ column = "v", as_name = true }', "Can't Tell!", "can_t_tell"),
        ('{ columns = ["who", "v"] }', "x", "c0-x"),
        ('{ columns = ["who", "v"], separator = "." }', "x", "c0.x"),
        ('{ columns = ["who", "v"] }', None, None),
        ('{ column = "v", kinds = ["purchase"] }', "x", None),
        ('{ column = "v", kinds = ["interaction"] }', "x", "x"),
    ],
)
def test_values(events_of: EventsOf, spec: str, value: Any, expected: str | None) -> None:
    assert one(events_of(BASE + AT + f"channel = {spec}\n", {"v": [value]})).get("channel") == expected


@pytest.mark.parametrize(
    ("spec", "value", "expected"),
    [
        ('"v"', 136.23, "136.23"),
        ('"v"', "8999999999999.999999", "8999999999999.999999"),
        ('"v"', -5.0, "-5.0"),
        ('{ column = "v", negative = "magnitude" }', -5.25, "5.25"),
        ('{ column = "v", negative = "magnitude" }', "-0012.50", "0012.50"),
        ('{ column = "v", divide_by = 100 }', 1999, "19.99"),
        ('{ column = "v", decimals = 2 }', 0.1 + 0.2, "0.3"),
        ('{ column = "v", decimals = 2 }', "a lot", "a lot"),
        ('{ column = "v", kinds = ["purchase"] }', 1.0, None),
        ('"v"', None, None),
    ],
)
def test_amounts(events_of: EventsOf, spec: str, value: Any, expected: str | None) -> None:
    mapping = BASE + AT + f'amount = {spec}\ncurrency = {{ constant = "EUR" }}\n'
    event = one(events_of(mapping, {"v": [value]}))
    assert event.get("amount") == expected
    assert ("currency" in event) == (expected is not None)


RATINGS = """
[ratings]
metric_column = "m"
value_column = "v"
[ratings.scales]
stars5 = { metric = "stars" }
percent = { metric = "nps", range = [0, 100] }
mood = { metric = "sentiment", range = [5, 1] }
"""


@pytest.mark.parametrize(
    ("metric", "value", "expected"),
    [
        ("stars5", 4.0, {"metric": "stars", "rating": 4.0}),
        ("percent", "87", {"metric": "nps", "rating": 9.0}),
        ("mood", 5, {"metric": "sentiment", "rating": -1.0}),
        ("mood", 1, {"metric": "sentiment", "rating": 1.0}),
        ("hours", 3.5, {"attributes": {"hours": "3.5"}}),
        ("hours", None, {}),
        (None, 3.5, {}),
        ("stars5", None, {}),
    ],
)
def test_ratings_of_several_metrics(events_of: EventsOf, metric: str | None, value: Any, expected: Any) -> None:
    event = one(events_of(BASE + AT + RATINGS, {"m": [metric], "v": [value]}))
    assert {key: event[key] for key in ("metric", "rating", "attributes") if key in event} == expected


def test_metrics_that_are_not_published_can_be_left_out(events_of: EventsOf) -> None:
    event = one(
        events_of(
            BASE + AT + RATINGS.replace("[ratings]", '[ratings]\nothers = "leave_out"'), {"m": ["hours"], "v": [1]}
        )
    )
    assert "attributes" not in event


def test_a_rating_that_is_no_number_is_refused_and_not_dropped(judged: JudgedAs) -> None:
    result = judged(BASE + AT + 'metric = { constant = "nps" }\nrating = "v"\n', {"v": ["9", "nine"]})
    assert len(result.values) == 1
    assert result.refused[0].problems[0].field == "/rating"


def test_attributes_are_text_and_empty_ones_are_left_out(events_of: EventsOf) -> None:
    mapping = BASE + AT + '[attributes]\nitems = "n"\nnote = "t"\nowner = { constant = "crm" }\n'
    assert one(events_of(mapping, {"n": [3], "t": [""]}))["attributes"] == {"items": "3", "owner": "crm"}


def test_an_object_of_attributes_is_taken_whole(events_of: EventsOf) -> None:
    mapping = 'attributes_column = "o"\n' + BASE + AT + '[attributes]\nitems = { constant = "3" }\n'
    [event] = events_of(mapping, {"o": ['{"region": "north", "size": 1.50, "none": null, "items": "1"}']})
    assert event is not None
    assert event["attributes"] == {"region": "north", "size": "1.50", "items": "3"}


@pytest.mark.parametrize("text", ["{", "[1]", '{"a": {"b": 1}}'])
def test_attributes_that_are_no_flat_object_are_refused(judged: JudgedAs, text: str) -> None:
    [refused] = judged('attributes_column = "o"\n' + BASE + AT, {"o": [text]}).refused
    assert refused.problems[0].field.startswith("/attributes")


def rule(text: str) -> str:
    return BASE + AT + 'outcome = "o"\n[[rules]]\n' + text


@pytest.mark.parametrize(
    ("when", "matches"),
    [
        ('{ v = "a" }', [True, False, False]),
        ('{ v = ["a", "b"] }', [True, True, False]),
        ("{ n = 1 }", [True, False, False]),
        ("{ n = { below = 2 } }", [True, False, False]),
        ("{ n = { at_least = 2 } }", [False, True, False]),
        ("{ n = { at_least = 1, below = 2 } }", [True, False, False]),
        ("{ v = { empty = true } }", [False, False, True]),
        ("{ v = { empty = false } }", [True, True, False]),
        ('{ v = "a", n = 2 }', [False, False, False]),
    ],
)
def test_conditions(events_of: EventsOf, when: str, matches: list[bool]) -> None:
    columns = {"v": ["a", "b", None], "n": [1, 2, None], "o": ["failed"] * 3}
    events = events_of(rule(f'when = {when}\nset = {{ channel = "x" }}\n'), columns)
    assert [event is not None and event.get("channel") == "x" for event in events] == matches


def test_rules_apply_in_order_and_change_only_what_they_name(events_of: EventsOf) -> None:
    mapping = rule(
        'when = { v = "a" }\nset = { kind = "incident", text = { column = "v" } }\nleave_out = ["outcome"]\n'
        '[[rules]]\nwhen = { v = ["a", "b"] }\nset = { touchpoint = "app" }\n'
    )
    first, second, third = events_of(mapping, {"v": ["a", "b", "c"], "o": ["failed"] * 3})
    assert first is not None
    assert (first["kind"], first["touchpoint"], first["text"], first.get("outcome")) == ("incident", "app", "a", None)
    assert second is not None
    assert (second["kind"], second["touchpoint"], second["outcome"]) == ("interaction", "app", "failed")
    assert third is not None
    assert (third["kind"], third["touchpoint"]) == ("interaction", "shop")


def test_a_rule_can_skip_rows(judged: JudgedAs) -> None:
    result = judged(rule('when = { v = "test" }\nskip = true\n'), {"v": ["test", "real"], "o": [None, None]})
    assert (result.skipped, len(result.values), len(result.refused)) == (1, 1, 0)
