"""Rejected bytes become events again, and are changed as asked and in no other way."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import pytest

from schemas.encode import encode
from schemas.identity import identify
from schemas.rejected import MAX_PAYLOAD_BYTES
from services.cli.console import CommandError, ExitCode
from services.cli.mending import UnreadableEventError, WrongChangeError, changed, event_of
from services.cli.rejected import rejected
from services.cli.resend import Changes
from services.ingest.admit import admit
from services.ingest.limits import Limits

NOW_US = 1_772_357_400_000_000
RECORD: dict[str, Any] = {
    "customer_id": "c-1",
    "occurred_at": NOW_US - 1_500_000,
    "received_at": NOW_US,
    "source": "shop",
    "kind": "purchase",
    "touchpoint": "checkout",
    "channel": "web",
    "amount_micros": 49_900_000,
    "currency": "EUR",
    "attributes": {"basket": "7"},
}


def record(sender_id: str, **more: Any) -> dict[str, Any]:
    event_id, kept = identify("shop", sender_id)
    return {**RECORD, "event_id": event_id, "sender_event_id": kept, **more}


@pytest.mark.parametrize("journey", [None, "onboarding.first-order"])
@pytest.mark.parametrize("sender_id", ["order 17", str(uuid.UUID(int=5))])
def test_a_record_of_the_log_is_sent_again_as_the_same_record(sender_id: str, journey: str | None) -> None:
    """Of either schema version."""
    first = record(sender_id, journey=journey)
    event = event_of("log", encode(first))
    assert event["event_id"] == sender_id
    admission = admit(json.dumps(event).encode(), lines=False, received_at_us=NOW_US, limits=Limits())
    assert admission.values == [encode(first)]


def test_a_record_out_of_contract_can_be_read_and_mended() -> None:
    event = event_of("log", encode(record("order 18", metric="nps", rating=40.0, kind="survey_response")))
    assert event["rating"] == 40.0
    assert event_of("log", encode(record("late", occurred_at=1 << 62)))["occurred_at"].endswith("after 1970")


@pytest.mark.parametrize(
    ("stage", "payload", "why"),
    [
        ("ingest", b'{"kind": ', "no JSON"),
        ("ingest", b'{"kind": "a", "kind": "b"}', "twice"),
        ("ingest", b"[1]", "no JSON object"),
        ("ingest", b"{}".ljust(MAX_PAYLOAD_BYTES), "first 65,536 bytes"),
        ("log", b"", "no known schema"),
        ("log", encode(record("x"))[:-9], "do not fit"),
        ("log", encode(record("x")) + b"\0", "left over"),
    ],
)
def test_what_cannot_be_read_says_why(stage: str, payload: bytes, why: str) -> None:
    with pytest.raises(UnreadableEventError, match=why):
        event_of(stage, payload)


def test_members_are_set_and_left_out() -> None:
    event = {"rating": "nine", "shop": 1, "attributes": {"a": "1", "b": "2"}}
    made = changed(
        event, ["rating=9", "customer_id=007", "attributes.c=3=3", "text=", "currency=null"], ["shop", "attributes.a"]
    )
    assert made == {
        "rating": 9,
        "customer_id": "007",
        "attributes": {"b": "2", "c": "3=3"},
        "text": "",
        "currency": "null",
    }
    assert event["attributes"] == {"a": "1", "b": "2"}
    assert changed({}, ["attributes.x=1", "rating=high"], ["nothing"]) == {"attributes": {"x": "1"}, "rating": "high"}
    assert changed({}, ['attributes={"x": "1"}'], []) == {"attributes": {"x": "1"}}
    with pytest.raises(WrongChangeError, match="FIELD=VALUE"):
        changed({}, ["rating"], [])


def test_several_events_are_not_made_one(tmp_path: Path) -> None:
    file = tmp_path / "fixed.json"
    file.write_text('{"kind": "purchase"}')
    assert Changes.of((), (), file, several=False).applied("log", b"") == {"kind": "purchase"}
    for given in ({"file": file}, {"set_to": ("event_id=x",)}):
        with pytest.raises(CommandError) as error:
            Changes.of(**{"set_to": (), "unset": (), "file": None, "several": True, **given})  # type: ignore[arg-type]
        assert error.value.code is ExitCode.WRONG_USE
    for wrong in (tmp_path / "missing.json", tmp_path):
        with pytest.raises(CommandError):
            Changes.of((), (), wrong, several=False)


@pytest.mark.parametrize(
    ("what", "options"),
    [
        (["resend"], {}),
        (["resend", "ingest/0/1"], {"reason": "out_of_range"}),
        (["resend"], {"reason": "out_of_range", "set_to": ["event_id=x"]}),
        (["resend", "ingest/0/1"], {"set_to": ["rating"]}),
        ([], {"set_to": ["rating=1"]}),
        ([], {"dry_run": True}),
        (["show"], {}),
        (["show", "nowhere"], {}),
        (["list", "ingest/0/1"], {}),
        (["ingest/0/1'"], {}),
    ],
)
def test_wrong_use_is_told_before_anything_is_asked(
    what: list[str], options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    nothing: dict[str, Any] = dict.fromkeys(
        ("reason", "field", "source", "customer", "stage", "since", "limit", "set_to", "unset", "file", "api_key_file")
    )
    nothing |= dict.fromkeys(("left", "count", "payload", "again", "dry_run", "as_json"), False)
    with pytest.raises(CommandError) as error:
        rejected(what, **{**nothing, **options})
    assert error.value.code is ExitCode.WRONG_USE
