"""Hostile inputs 21 and 22: replayed and altered deliveries, rotation, leaked secrets; two libraries judge."""

from __future__ import annotations

import base64
import json
import time

import pytest
import standardwebhooks
import svix

from services.alerting.delivery.formats import webhook
from services.alerting.receive import Inbox, Taken
from tests.unit.alerting.delivery.documents import document

OLD = "whsec_" + base64.b64encode(b"o" * 32).decode()
NEW = "whsec_" + base64.b64encode(bytes(range(200, 232))).decode()
OTHER = "whsec_" + base64.b64encode(b"x" * 24).decode()
DOCUMENT = document(2, text="Grüße €")
BODY = webhook.render(DOCUMENT).body


def signed(*secrets: str, seconds: float = 0.0, body: bytes = BODY) -> dict[str, str]:
    return webhook.signed(secrets, DOCUMENT.call_id, round((time.time() + seconds) * 1e6), body)


@pytest.mark.parametrize("secret", [OLD, NEW])
def test_both_secrets_verify_while_one_takes_over(secret: str) -> None:
    headers = signed(NEW, OLD)
    assert len(headers["webhook-signature"].split(" ")) == 2
    assert standardwebhooks.Webhook(secret).verify(BODY, headers) == json.loads(BODY)
    svix.Webhook(secret).verify(BODY, headers)
    assert Inbox([secret]).take(headers, BODY) is Taken.NOTED


def test_the_old_secret_is_dead_after_it() -> None:
    headers = signed(NEW)
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(OLD).verify(BODY, headers)
    with pytest.raises(svix.webhooks.WebhookVerificationError):
        svix.Webhook(OLD).verify(BODY, headers)
    assert Inbox([OLD]).take(headers, BODY) is Taken.REFUSED


@pytest.mark.parametrize("seconds", [-302.0, -86_400.0, 302.0, 86_400.0])
def test_an_old_or_future_delivery_is_refused(seconds: float) -> None:
    inbox = Inbox([NEW])
    assert inbox.take(signed(NEW, seconds=seconds), BODY) is Taken.REFUSED
    assert inbox.calls == []


@pytest.mark.parametrize("seconds", [-290.0, 290.0])
def test_clocks_may_differ_by_less(seconds: float) -> None:
    assert Inbox([NEW]).take(signed(NEW, seconds=seconds), BODY) is Taken.NOTED


def test_an_altered_delivery_is_refused() -> None:
    inbox = Inbox([NEW])
    headers = signed(NEW)
    for place in range(0, len(BODY), 97):
        altered = BODY[:place] + bytes([BODY[place] ^ 1]) + BODY[place + 1 :]
        assert inbox.take(headers, altered) is Taken.REFUSED
    assert inbox.take(headers | {"webhook-id": "0" * 32}, BODY) is Taken.REFUSED
    assert inbox.take(headers | {"webhook-timestamp": str(int(time.time()) - 5)}, BODY) is Taken.REFUSED
    assert inbox.take(headers | {"webhook-signature": "v1," + "A" * 43 + "="}, BODY) is Taken.REFUSED
    assert inbox.take(headers | {"webhook-signature": "nonsense"}, BODY) is Taken.REFUSED
    assert inbox.take({}, BODY) is Taken.REFUSED
    assert inbox.take(headers, BODY) is Taken.NOTED


def test_a_repeated_id_is_noted_once() -> None:
    inbox = Inbox([NEW])
    assert inbox.take(signed(NEW), BODY) is Taken.NOTED
    assert inbox.take(signed(NEW, seconds=60), BODY) is Taken.REPEAT
    assert len(inbox.calls) == 1
    assert inbox.repeats == 1


def test_an_id_has_no_dot() -> None:
    assert "." not in signed(NEW)["webhook-id"]


@pytest.mark.parametrize(
    "secret",
    ["", "whsec_", OTHER.removeprefix("whsec_"), "whsec_" + base64.b64encode(b"x" * 23).decode(), "whsec_" + "A" * 200],
)
def test_a_bad_secret_is_named_and_not_quoted(secret: str) -> None:
    with pytest.raises(webhook.SigningSecretError, match=r"signing_secrets\[1\]") as error:
        webhook.signed([NEW, secret], DOCUMENT.call_id, 0, BODY)
    assert not secret or secret not in str(error.value).replace("whsec_ and", "")


def test_secrets_of_24_to_64_bytes_sign() -> None:
    for size in (24, 64):
        secret = "whsec_" + base64.b64encode(b"k" * size).decode()
        standardwebhooks.Webhook(secret).verify(BODY, signed(secret))
