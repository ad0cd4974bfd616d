"""The checks that ask no server see what is wrong, one thing at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.faults.checks import COMPARED, Run, acknowledged_and_missing, strangers, uneven_sums, wrong_answers
from tests.faults.load import make_load
from tests.faults.plan import INGEST, Fault, Kind, LoadPlan, Plan
from tests.faults.senders import Book

NOW_US = 1_790_000_000_000_000
PLAN = Plan(1, LoadPlan(events=40, customers=3, refused=0.0, conflicting=0.0), ())


@pytest.fixture
def run() -> Run:
    load = make_load(PLAN.load, 1, "x-", NOW_US)
    book = Book(tried=set(load.contents), acknowledged=set(load.contents))
    book.statuses["202"] = 7
    return Run(PLAN, "x-", load, book)


@pytest.fixture
def stored(run: Run) -> list[dict[str, Any]]:
    """The table as it should be."""
    return [
        {
            **{name: record.get(name) for name in COMPARED},
            "id": event_id.hex(),
            "occurred_us": record["occurred_at"],
            "attributes": record.get("attributes") or {},
        }
        for event_id, [record] in run.load.contents.items()
    ]


def test_a_table_as_it_should_be_has_no_violation(run: Run, stored: list[dict[str, Any]]) -> None:
    assert [*strangers(run, stored), *uneven_sums(run, stored), *wrong_answers(run)] == []
    assert [*acknowledged_and_missing(run, set(run.load.contents))] == []


Spoil = Callable[[Run, list[dict[str, Any]]], object]


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda run, stored: stored.append(stored[0]), "more than once"),
        (lambda run, stored: stored[0].update(id="00" * 16), "never sent"),
        (lambda run, stored: stored[0].update(text="another"), "is stored as"),
        (lambda run, stored: stored[0].update(occurred_us=1), "is stored as"),
        (lambda run, stored: stored[0].update(attributes={"more": "1"}), "is stored as"),
    ],
)
def test_what_was_not_sent_is_seen(run: Run, stored: list[dict[str, Any]], spoil: Spoil, says: str) -> None:
    spoil(run, stored)
    assert any(says in detail for detail in strangers(run, stored))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda run, stored: stored.pop(), "were taken"),
        (lambda run, stored: stored.append(stored[0]), "were taken"),
        (lambda run, stored: (run.book.acknowledged.clear(), run.book.refused.update(run.book.tried)), "refused"),
        (lambda run, stored: setattr(run.book, "accepted_wrongly", 1), "no contract allows"),
    ],
)
def test_uneven_sums_are_seen(run: Run, stored: list[dict[str, Any]], spoil: Spoil, says: str) -> None:
    spoil(run, stored)
    assert any(says in detail for detail in uneven_sums(run, stored))


def test_an_event_of_unknown_fate_may_be_there_or_not(run: Run, stored: list[dict[str, Any]]) -> None:
    event_id = bytes.fromhex(stored[0]["id"])
    run.book.acknowledged.discard(event_id)
    run.book.unknown.add(event_id)
    assert [*uneven_sums(run, stored)] == []
    assert [*uneven_sums(run, stored[1:])] == []


def test_a_lost_event_and_a_moved_record_are_seen(run: Run) -> None:
    ids = set(run.load.contents)
    assert "not in the log" in "".join(acknowledged_and_missing(run, ids - {min(ids)}))
    run.book.places = {(0, 3): b"mine"}
    assert "not where it said" in "".join(acknowledged_and_missing(run, ids))
    run.logged = {(0, 3): b"other"}
    assert "not where it said" in "".join(acknowledged_and_missing(run, ids))
    run.logged = {(0, 3): b"mine"}
    assert [*acknowledged_and_missing(run, ids)] == []


@pytest.mark.parametrize("status", ["500", "404", "TimeoutError", "ConnectionResetError"])
def test_an_answer_that_ingest_may_not_give_is_seen(run: Run, status: str) -> None:
    run.book.statuses[status] += 1
    assert [*wrong_answers(run)]


def test_a_killed_ingest_may_break_off(run: Run) -> None:
    run.plan = Plan(1, PLAN.load, (Fault(1.0, Kind.KILL, INGEST),))
    run.book.statuses["ConnectionResetError"] += 1
    assert [*wrong_answers(run)] == []
