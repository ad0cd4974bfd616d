"""A customer's story is told from rows, without a server."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from services.cli.console import CommandError, ExitCode
from services.cli.customer import SCORES, Story, _document, print_story, read_story
from services.scoring.story import Moment

AT = datetime(2026, 3, 1, 9, tzinfo=UTC)


def event(kind: str, **more: Any) -> tuple[Any, ...]:
    facts = {
        "occurred_at": AT,
        "kind": kind,
        "touchpoint": "delivery",
        "channel": "",
        "outcome": "",
        "metric": "",
        "rating": None,
        "emotion": "",
        "amount_micros": None,
        "currency": "",
        "case_id": "",
        "text": "",
        **more,
    }
    return (*facts.values(), -0.5, 0.0, -0.8, 1.0, 0.0, 1.5)


class Tables:
    """Answers the three queries of a story; events come latest first."""

    def __init__(self, events: list[tuple[Any, ...]], inferred: list[tuple[Any, ...]] | None = None) -> None:
        self.events, self.inferred = events, inferred or []

    def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        assert parameters is not None
        if parameters["id"] != "c-1":
            return []
        if "customer_scores" in sql:
            scores = dict.fromkeys(SCORES, 0.5) | {
                "customer_id": "c-1",
                "score": 41.3,
                "risk": 0.92,
                "risk_band": "high",
                "trend": -3.0,
                "reasons": [("complaint open for 9 days", 0.8)],
                "events": len(self.events),
                "first_event_at": AT,
                "last_event_at": AT,
                "last_activity_at": AT,
            }
            return [tuple(scores.values())]
        if "inferred_experience" in sql:
            return self.inferred
        return self.events[::-1]


def story(*events: tuple[Any, ...], customer_id: str = "c-1") -> Story:
    return read_story(Tables(list(events)), customer_id)  # type: ignore[arg-type]  # by shape


def test_an_unknown_customer_is_said() -> None:
    with pytest.raises(CommandError, match="no event of customer 'c-2' is known") as raised:
        story(customer_id="c-2")
    assert raised.value.code is ExitCode.NO


def test_the_story_names_score_risk_reasons_and_what_is_open(capsys: pytest.CaptureFixture[str]) -> None:
    told = story(
        event("purchase", amount_micros=12_500_000, currency="EUR"),
        event("complaint_opened", case_id="T-1", text="Third late \x1b[2Jdelivery"),
        event("complaint_opened", case_id="T-2"),
        event("complaint_resolved", case_id="T-2", outcome="succeeded", metric="csat", rating=4.0),
    )
    print_story(told, 10)
    out = capsys.readouterr().out
    for expected in (
        "score    41 of 100",
        "getting worse (trend -3.0)",
        "92% (high) not to come back",
        "+0.80  complaint open for 9 days",
        'open     T-1 since 2026-03-01, delivery: "Third late \\x1b[2Jdelivery"',
        "12.50 EUR",
        "succeeded, csat 4",
    ):
        assert expected in out
    assert "open     T-2" not in out
    assert "\x1b" not in out


def test_each_touchpoint_says_how_it_moved_the_score(capsys: pytest.CaptureFixture[str]) -> None:
    told = read_story(
        Tables([event("incident"), event("interaction")]),  # type: ignore[arg-type]  # by shape
        "c-1",
        lambda felt: [Moment(60.0, 51.5), Moment(51.5, 51.5)],
    )
    print_story(told, 10)
    [incident, interaction] = capsys.readouterr().out.splitlines()[-2:]
    assert incident.split()[-2:] == ["-8.5", "52"]
    assert interaction.split()[-1] == "52"


def test_what_was_inferred_stands_apart_and_is_marked(capsys: pytest.CaptureFixture[str]) -> None:
    row = ("J-1\x1b", "", "delivery", AT, False, 0.41, 0.11, [("delivery after 20 days", 1.2)], "inferred-20260301-0a")
    tables = Tables([event("interaction")], [row, *[(*row[:4], True, *row[5:])] * 3])
    told = read_story(tables, "c-1")  # type: ignore[arg-type]  # by shape
    print_story(told, 10)
    out = capsys.readouterr().out
    assert (
        "inferred 41% chance of a bad rating (11% on average) for delivery J-1\\x1b of 2026-03-01: delivery after"
        in out
    )
    assert "not felt: the customer was not asked; no part of score or risk" in out
    assert out.count("did not answer") == 2
    assert "and 1 earlier ones, in view inferred_journeys" in out
    document = _document(told, 1)["inferred_never_felt"]
    assert len(document) == 4
    assert document[0]["reasons"] == [{"reason": "delivery after 20 days", "log_odds": 1.2}]
    assert document[0]["happened_at"] == AT.isoformat()


def test_only_the_latest_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    print_story(story(*[event("interaction")] * 5), 2)
    out = capsys.readouterr()
    assert out.out.count("interaction") == 2
    assert "3 earlier ones" in out.err


def test_the_document_has_every_step_with_the_score_around_it() -> None:
    document = _document(story(event("incident"), event("complaint_opened", case_id="T-1")), 1)
    assert document["reasons"] == [{"reason": "complaint open for 9 days", "log_odds": 0.8}]
    assert [case["case_id"] for case in document["open_cases"]] == ["T-1"]
    [step] = document["touchpoints"]
    assert step["kind"] == "complaint_opened"
    assert step["score_after"] < step["score_before"]
