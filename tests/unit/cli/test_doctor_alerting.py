"""What the doctor says of alerting: rules, receivers, secrets, addresses; nothing is called and no secret shown."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from ipaddress import ip_address
from pathlib import Path
from threading import Thread

import pytest
import yaml

from services.alerting.delivery.addresses import Address
from services.cli.addresses import locate
from services.cli.alerting.examination import check_alerting, check_rules
from services.cli.findings import Finding
from services.cli.settings import StackSettings

SECRET = "whsec_" + base64.b64encode(b"x" * 32).decode()
NAMES = {"desk.example.com": ["93.184.215.14"], "inside.example.com": ["93.184.215.14", "10.0.0.7"]}


async def resolve(host: str, port: int) -> Sequence[Address]:
    if host not in NAMES:
        raise OSError(-2, "Name or service not known")
    return [ip_address(text) for text in NAMES[host]]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOUCHSTONE_ALERTING_RULES", str(tmp_path / "rules.yml"))
    (tmp_path / "secret").write_text(SECRET)
    return tmp_path


def told(folder: Path, **receiver: object) -> tuple[Finding, Finding]:
    """What is said of rules and of their only receiver."""
    whole = {
        "version": 1,
        "receivers": [{"name": "desk", **receiver}],
        "rules": [{"name": "leaving", "when": "band = 'high'", "receivers": ["desk"], "owner": "retention"}],
    }
    (folder / "rules.yml").write_text(yaml.safe_dump(whole))
    rules, receiver_finding = check_rules(resolve)
    return rules, receiver_finding


def webhook(folder: Path, **changes: object) -> dict[str, object]:
    return {
        "type": "webhook",
        "url": "https://desk.example.com/hook",
        "signing_secrets": [f"file:{folder / 'secret'}"],
        **changes,
    }


def test_without_rules_nobody_is_called_and_that_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOUCHSTONE_ALERTING_RULES", raising=False)
    [finding] = check_rules(resolve)
    assert (finding.check, finding.level) == ("rules", "ok")
    assert "nobody is called" in finding.detail


def test_rules_that_cannot_be_read_or_used_fail_with_a_remedy(folder: Path) -> None:
    [absent] = check_rules(resolve)
    assert absent.level == "fail"
    assert "TOUCHSTONE_ALERTING_RULES" in absent.remedy
    (folder / "rules.yml").write_text("version: 1\nrules:\n  - name: leaving\n    when: band = 'hgih'\n")
    [wrong] = check_rules(resolve)
    assert wrong.level == "fail"
    assert ":4" in wrong.detail
    assert "touchstone alerts check" in wrong.remedy


def test_a_wrong_setting_of_alerting_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOUCHSTONE_ALERTING_LINK_DAYS", "x")
    [finding] = check_rules(resolve)
    assert (finding.level, "link_days" in finding.detail.lower()) == ("fail", True)


def test_a_receiver_that_could_be_called_is_well(folder: Path) -> None:
    rules, receiver = told(folder, **webhook(folder))
    assert (rules.check, receiver.check) == ("rules", "receiver")
    assert (receiver.level, receiver.detail) == ("ok", "desk (webhook)")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"url": "https://gone.example.com/hook"}, "url: the name does not resolve"),
        ({"url": "https://inside.example.com/hook"}, "leads to 10.0.0.7"),
        ({"signing_secrets": ["env:NO_SUCH_VARIABLE"]}, "signing_secrets[0]"),
        ({"ca_file": "/no/such/authorities.pem"}, "ca_file"),
    ],
)
def test_what_keeps_a_receiver_from_being_called_is_told(folder: Path, changes: dict[str, object], said: str) -> None:
    _, receiver = told(folder, **webhook(folder, **changes))
    assert receiver.level == "fail"
    assert said in receiver.detail
    assert receiver.remedy


def test_all_faults_of_a_receiver_are_told_and_no_secret_is(folder: Path) -> None:
    (folder / "secret").write_text("hunter2")
    (folder / "url").write_text("https://inside.example.com/services/hidden-path")
    _, receiver = told(
        folder,
        type="webhook",
        url_from=f"file:{folder / 'url'}",
        signing_secrets=[f"file:{folder / 'secret'}"],
    )
    assert "whsec_" in receiver.detail
    assert "10.0.0.7" in receiver.detail
    assert "hunter2" not in receiver.detail
    assert "hidden-path" not in receiver.detail


def test_mail_and_files_are_looked_at_too(folder: Path) -> None:
    mail = {"type": "email", "host": "desk.example.com", "sender": "a@example.com", "to": ["b@example.com"]}
    assert told(folder, **mail)[1].level == "ok"
    assert told(folder, **{**mail, "host": "gone.example.com"})[1].level == "fail"
    assert told(folder, type="file", path="-")[1].level == "ok"
    assert told(folder, type="file", path=str(folder / "calls"))[1].level == "ok"
    assert "path:" in told(folder, type="file", path=str(folder / "no" / "calls"))[1].detail


class _Ready(BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status if self.path == "/health/ready" else 404)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        return


class _Unready(_Ready):
    status = 503


@pytest.mark.parametrize(("handler", "level"), [(_Ready, "ok"), (_Unready, "fail"), (None, "fail")])
def test_alerting_is_asked_whether_it_is_ready(
    tmp_path: Path, handler: type[BaseHTTPRequestHandler] | None, level: str
) -> None:
    server = HTTPServer(("127.0.0.1", 0), handler or _Ready)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    port = server.server_port
    if handler is None:
        server.server_close()
    else:
        thread.start()
    try:
        found = check_alerting(locate(StackSettings(_env_file=None, data_dir=tmp_path, alerting_port=port)))
    finally:
        if handler is not None:
            server.shutdown()
            thread.join()
            server.server_close()
    assert found.level == level
    assert str(port) in found.detail
