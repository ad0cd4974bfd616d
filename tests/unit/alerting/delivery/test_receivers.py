"""What the rules file may say of receivers."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from services.alerting.delivery.receivers import Receiver

READ: TypeAdapter[Receiver] = TypeAdapter(Receiver)
HOOK = {"name": "desk", "type": "webhook", "url": "https://desk.example.com/x", "signing_secrets": ["env:DESK"]}
MAIL = {"name": "mail", "type": "email", "host": "smtp.example.com", "sender": "a@b.example", "to": ["c@d.example"]}


@pytest.mark.parametrize(
    "receiver",
    [
        HOOK,
        HOOK | {"url": "http://127.0.0.1:9099/", "local": True},
        HOOK | {"headers": {"X-Team": "retention", "Authorization": "Basic x"}},
        {"name": "slack", "type": "slack", "url_from": "file:/run/secrets/slack"},
        {"name": "pager", "type": "pagerduty", "routing_key": "env:PAGER"},
        {"name": "pager", "type": "pagerduty", "routing_key": "env:PAGER", "url_from": "env:PAGER_URL"},
        MAIL,
        MAIL | {"user": "x", "password": "env:P", "tls": "implicit", "port": 465},
        MAIL | {"host": "127.0.0.1", "port": 25, "tls": "none", "local": True},
        {"name": "out", "type": "file", "path": "-"},
    ],
)
def test_good_receivers_are_read(receiver: dict[str, Any]) -> None:
    assert READ.validate_python(receiver).name == receiver["name"]


@pytest.mark.parametrize(
    ("receiver", "said"),
    [
        (HOOK | {"url": ""}, "give url"),
        (HOOK | {"url_from": "env:X"}, "not both"),
        (HOOK | {"url": "http://desk.example.com/"}, "local: true"),
        (HOOK | {"url": "https://169.254.169.254/"}, "not a public address"),
        (HOOK | {"headers": {"Webhook-Id": "x"}}, "Webhook-Id"),
        (HOOK | {"headers": {"Host": "x"}}, "Host"),
        (HOOK | {"headers": {"X-A": "1", "x-a": "2"}}, "twice"),
        (HOOK | {"headers": {"X-A": "1\r\nX-B: 2"}}, "pattern"),
        (HOOK | {"headers": {"X-A\r\n": "1"}}, "pattern"),
        (HOOK | {"headers": {"X-A": "1\n"}}, "pattern"),
        (HOOK | {"signing_secrets": ["whsec_abc"]}, "pattern"),
        (HOOK | {"signing_secrets": []}, "at least 1"),
        (MAIL | {"host": "localhost"}, "local"),
        (MAIL | {"port": 22}, "port 22"),
        (MAIL | {"to": ["c@d.example\r\nBcc: e@f.example"]}, "plain ASCII"),
        (MAIL | {"sender": "no address"}, "plain ASCII"),
        (MAIL | {"tls": "none"}, "tls"),
        (MAIL | {"user": "x"}, "go together"),
        (MAIL | {"password": "env:P"}, "go together"),
    ],
)
def test_bad_receivers_are_refused_with_a_remedy(receiver: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        READ.validate_python(receiver)
