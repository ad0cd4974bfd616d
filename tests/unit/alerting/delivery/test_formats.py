"""What each format makes of a document, with its limits."""

from __future__ import annotations

import json
from email import message_from_bytes
from email.policy import SMTP, default
from typing import Any

import pytest
from slack_sdk.models.blocks import Block

from services.alerting.delivery.formats import alertmanager, email, pagerduty, plain, slack, teams, webhook
from services.alerting.delivery.formats.fitting import clip
from tests.unit.alerting.delivery.documents import HOSTILE, document

SIZES = [
    document(),
    document(25, total=5_000),
    document(25, total=5_000, text="ä€𝄞" * 50, wide=10),
    document(1, wide=20_000),
    document(0, total=0),
    document(3, resolved=True),
    document(2, text=HOSTILE, wide=30),
]


def parsed(body: bytes) -> Any:
    return json.loads(body)


@pytest.mark.parametrize("size", SIZES)
def test_the_same_document_gives_the_same_bytes(size: Any) -> None:
    assert webhook.render(size) == webhook.render(size)
    assert slack.render(size) == slack.render(size)
    assert (
        email.message(size, "a@b.example", ["c@d.example"]).as_bytes()
        == email.message(size, "a@b.example", ["c@d.example"]).as_bytes()
    )


@pytest.mark.parametrize("size", SIZES)
def test_a_webhook_stays_below_20_kb_and_says_how_many_there_are(size: Any) -> None:
    body = webhook.render(size).body
    assert len(body) < 20_000
    message = parsed(body)
    assert set(message) == {"type", "timestamp", "data"}
    assert message["type"] == f"touchstone.alert.{size.status}"
    assert message["timestamp"] == size.made_at
    assert message["data"]["alerts_total"] == size.alerts_total
    assert len(message["data"]["alerts"]) <= len(size.alerts)
    assert bool(message["data"]["alerts"]) is bool(size.alerts)


def test_alertmanager_has_every_field() -> None:
    message = parsed(alertmanager.render(document(2, total=7), "pager").body)
    assert set(message) == {
        "version",
        "groupKey",
        "truncatedAlerts",
        "status",
        "receiver",
        "groupLabels",
        "commonLabels",
        "commonAnnotations",
        "externalURL",
        "alerts",
    }
    assert (message["version"], message["truncatedAlerts"], message["receiver"]) == ("4", 5, "pager")
    assert message["commonLabels"] == {
        "alertname": "leaving-and-valuable",
        "severity": "error",
        "owner": "retention",
        "band": "high",
        "segment": "gold",
    }
    alert = message["alerts"][1]
    assert set(alert) == {"status", "labels", "annotations", "startsAt", "endsAt", "generatorURL", "fingerprint"}
    assert alert["labels"]["customer_id"] == "c-1"
    assert alert["endsAt"] == "0001-01-01T00:00:00Z"
    assert all(isinstance(value, str) for value in (alert["labels"] | alert["annotations"]).values())


def test_alertmanager_resolves_by_the_same_fingerprint_and_group() -> None:
    firing = parsed(alertmanager.render(document(3), "pager").body)
    resolved = parsed(alertmanager.render(document(3, resolved=True), "pager").body)
    assert [one["fingerprint"] for one in firing["alerts"]] == [one["fingerprint"] for one in resolved["alerts"]]
    assert len({one["fingerprint"] for one in firing["alerts"]}) == 3
    assert firing["groupKey"] == resolved["groupKey"]
    assert resolved["alerts"][0]["endsAt"] == "2026-09-22T14:13:20Z"


@pytest.mark.parametrize("size", SIZES)
def test_slack_takes_it(size: Any) -> None:
    message = parsed(slack.render(size).body)
    blocks = Block.parse_all(message["blocks"])
    assert len(blocks) <= 10
    for block in blocks:
        block.validate_json()
    assert message["text"]
    texts = json.dumps(message["blocks"], ensure_ascii=False)
    assert len(texts) < 13_200
    for block in message["blocks"]:
        for piece in block.get("fields", []):
            assert len(piece["text"]) <= 2_000
    assert message["unfurl_links"] is False


def test_slack_escapes_and_links() -> None:
    message = parsed(slack.render(document(1, text=HOSTILE)).body)
    texts = json.dumps(message)
    assert "<!channel>" not in texts
    assert "<script>" not in texts
    assert "&lt;!channel&gt;" in texts
    assert "<https://cx.example.com/ack?token=a&amp;b=c%7Cd|Acknowledge>" in texts
    assert "<https://cx.example.com/cases?rule=x&amp;y=z|Look further>" in texts
    assert slack.escaped("&" * 500, 150) == "&amp;" * 29 + "…"


@pytest.mark.parametrize("size", SIZES)
def test_teams_gets_a_card_without_markdown(size: Any) -> None:
    body = teams.render(size).body
    assert len(body) <= 24_000
    message = parsed(body)
    assert message["type"] == "message"
    card = message["attachments"][0]["content"]
    assert message["attachments"][0]["contentType"] == "application/vnd.microsoft.card.adaptive"
    assert (card["type"], card["version"]) == ("AdaptiveCard", "1.4")
    assert {block["type"] for block in card["body"]} == {"RichTextBlock"}


@pytest.mark.parametrize("size", SIZES)
def test_pagerduty_takes_it(size: Any) -> None:
    body = pagerduty.render(size, "R0UT1NG").body
    assert len(body) < 512_000
    event = parsed(body)
    assert event["routing_key"] == "R0UT1NG"
    assert event["event_action"] == ("resolve" if size.status == "resolved" else "trigger")
    assert len(event["dedup_key"]) <= 255
    assert len(event["payload"]["summary"]) <= 1_024
    assert event["payload"]["severity"] in ("critical", "error", "warning", "info")
    assert event["payload"]["source"]


def test_pagerduty_resolves_what_it_triggered() -> None:
    assert pagerduty.dedup_key(document(1)) == "leaving-and-valuable:c-0"
    assert pagerduty.dedup_key(document(1, resolved=True)) == "leaving-and-valuable:c-0"
    several = document(3)
    assert pagerduty.dedup_key(several) == several.call_id == pagerduty.dedup_key(document(3, resolved=True))
    long = document(1)
    long = long.model_copy(update={"alerts": (long.alerts[0].model_copy(update={"customer_id": "c" * 255}),)})
    assert len(pagerduty.dedup_key(long)) <= 255


@pytest.mark.parametrize("size", SIZES)
def test_a_mail_has_no_header_that_was_slipped_in(size: Any) -> None:
    mail = email.message(size, "Touchstone <cx@shop.example>", ["desk@shop.example", "Desk Two <two@shop.example>"])
    read = message_from_bytes(mail.as_bytes(policy=SMTP), policy=default)
    assert set(read.keys()) - {"In-Reply-To", "References"} == {
        "Subject",
        "From",
        "To",
        "Date",
        "Message-ID",
        "Auto-Submitted",
        "MIME-Version",
        "Content-Type",
    }
    assert read["Message-ID"] == f"<{size.call_id}@shop.example>"
    assert ("In-Reply-To" in read) is bool(size.about)
    assert [part.get_content_type() for part in read.walk()] == ["multipart/alternative", "text/plain", "text/html"]
    part = read.get_body(("html",))
    assert part is not None
    html = part.get_content()
    assert "<script>" not in html
    assert read["To"] == "desk@shop.example, Desk Two <two@shop.example>"


@pytest.mark.parametrize(
    "address", ["", "nobody", "a@b@c", "a@b.example\r\nBcc: c@d.example", "ä@b.example", "a@b.example, c@d.example"]
)
def test_a_bad_mail_address_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        email.address_of(address)


def test_plain_text_is_short() -> None:
    size = document(25, total=5_000, text=HOSTILE, wide=10)
    assert len(plain.title(size)) <= 150
    assert "and 4990 more" in plain.text(size)
    assert plain.kind(size) == "failure"
    assert plain.kind(document(1, resolved=True)) == "success"


def test_a_cut_text_shows_it() -> None:
    assert clip("a\r\nb\x1b", 10) == "a  b "
    assert clip("x" * 20, 10) == "x" * 9 + "…"
