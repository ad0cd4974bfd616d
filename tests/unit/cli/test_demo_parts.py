"""What the demo sends and how it counts what was found."""

from __future__ import annotations

import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from services.cli.demo_stream import BROKEN, PROBES, REPEATED, make_stream
from services.cli.found import compare
from services.cli.progress import LINE_EVERY_S, Progress
from services.cli.visible import visible, visible_bytes


def events(count: int) -> list[dict[str, Any]]:
    return [
        {
            "event_id": f"e{number}",
            "customer_id": f"c{number % 50}",
            "kind": "interaction",
            "touchpoint": "shop",
            "occurred_at": "2026-03-01T09:30:00Z",
        }
        for number in range(count)
    ]


def test_the_stream_is_the_events_with_known_faults_in_between() -> None:
    original = events(1000)
    stream = make_stream(original, 1)
    assert stream.total == 1000 + BROKEN + REPEATED
    ids = [event["event_id"] for event in stream.bulk]
    assert sum(name.startswith("broken") for name in ids) == BROKEN
    assert len(set(ids)) == len(ids) - REPEATED
    assert len(stream.probes) == PROBES
    assert not {event["event_id"] for event in stream.probes} & set(ids)
    assert make_stream(original, 1) == stream


def test_what_is_kept_back_is_its_customers_last() -> None:
    last = {event["customer_id"]: event["event_id"] for event in events(1000)}
    assert all(last[event["customer_id"]] == event["event_id"] for event in make_stream(events(1000), 3).probes)


def test_hits_are_counted_against_chance() -> None:
    risks = {"a": 0.9, "b": 0.8, "c": 0.2, "d": 0.1}
    found = compare(risks, {"a", "c", "x"}, 2)
    assert (found.customers, found.leavers, found.called, found.hits) == (4, 2, 2, 1)
    assert (found.by_chance, found.lift) == (1.0, 1.0)


@given(st.dictionaries(st.text(max_size=3), st.floats(0, 1)), st.sets(st.text(max_size=3)), st.integers(0, 9))
def test_hits_never_exceed_what_there_is(risks: dict[str, float], leavers: set[str], called: int) -> None:
    found = compare(risks, leavers, called)
    assert found.hits <= min(found.called, found.leavers) <= found.customers
    assert found.lift >= 0


def test_lines_come_every_ten_seconds_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    with Progress("importing", 1000, plain=True, clock_s=lambda: now[0]) as progress:
        for done in range(0, 1000, 100):
            now[0] += LINE_EVERY_S / 2
            progress.update(done, "2 refused")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 5
    assert lines[1] == "importing: 300 of 1,000, 15/s, 47 s left, 2 refused"


def test_a_terminal_gets_a_bar() -> None:
    screen = io.StringIO()
    with Progress(
        "importing", 10, plain=False, console=Console(file=screen, force_terminal=True, width=100)
    ) as progress:
        progress.update(5, "2 refused")
    assert "importing" in screen.getvalue()
    assert "5/10" in screen.getvalue()


@pytest.mark.parametrize(
    ("text", "expected"),
    [("plain €😀", "plain €😀"), ("\x1b]0;title\x07", "\\x1b]0;title\\x07"), ("a\nb", "a\\nb"), ("\u202e", "\\u202e")],
)
def test_text_cannot_steer_the_terminal(text: str, expected: str) -> None:
    assert visible(text) == expected
    assert visible("x" * 50, 10) == "x" * 9 + "…"


def test_bytes_are_shown_whatever_they_are() -> None:
    assert visible_bytes(b"{\n\xff\x00\x1b}") == "{\n\\xff\\x00\\x1b}"
