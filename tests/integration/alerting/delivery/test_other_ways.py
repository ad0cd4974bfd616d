"""Files, stdout, Apprise, and the receiver to try with."""

from __future__ import annotations

import base64
import json
import os
import stat
import time
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from services.alerting.alert import Outcome
from services.alerting.delivery import long_tail
from services.alerting.delivery.dispatcher import Dispatcher
from services.alerting.delivery.limits import Limits
from services.alerting.delivery.metrics import DeliveryMetrics
from services.alerting.delivery.ports import Unobserved
from services.alerting.delivery.receivers import Apprise, File, Webhook
from services.alerting.delivery.retry import Verdict
from services.alerting.delivery.senders import build_senders
from services.alerting.receive import Inbox
from services.alerting.receive import serving as receiving
from tests.integration.alerting.delivery.bad_servers import answering, serving
from tests.unit.alerting.delivery.world import START_US, MemoryStore, make_call, running

SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()


async def test_a_file_gets_a_line_for_each_call(tmp_path: Path) -> None:
    place = tmp_path / "calls.jsonl"
    sender = build_senders([File(name="out", type="file", path=str(place))])["out"]
    for name in ("a", "b"):
        assert (await sender.send(make_call(name), START_US)).verdict is Verdict.DELIVERED
    await sender.close()
    lines = [json.loads(line) for line in place.read_text().splitlines()]
    assert [line["data"]["call_id"] for line in lines] == [make_call(name).call_id for name in ("a", "b")]
    assert stat.S_IMODE(place.stat().st_mode) == 0o600


async def test_a_file_that_cannot_be_written_is_tried_again(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for place in (tmp_path, tmp_path / "none" / "x", pipe):
        sender = build_senders([File(name="out", type="file", path=str(place))])["out"]
        answer = await sender.send(make_call("a"), START_US)
        assert answer.verdict is Verdict.RETRY
        assert "cannot be written" in answer.detail


async def test_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    sender = build_senders([File(name="out", type="file", path="-")])["out"]
    await sender.send(make_call("a"), START_US)
    assert json.loads(capsys.readouterr().out)["type"] == "touchstone.alert.firing"


@pytest.mark.filterwarnings("ignore:.*imghdr.*:DeprecationWarning")
async def test_apprise_sends_and_follows_no_redirect(monkeypatch: pytest.MonkeyPatch) -> None:
    hook = Apprise(name="tail", type="apprise", url_from="env:TAIL", local=True)
    sender = build_senders([hook])["tail"]
    async with serving(answering(200)) as server, serving(answering(302, f"Location: {server.url()}")) as redirects:
        monkeypatch.setenv("TAIL", f"json://127.0.0.1:{server.port}/hook")
        assert (await sender.send(make_call("a"), START_US)).verdict is Verdict.DELIVERED
        assert json.loads(server.got[0].body)["type"] == "warning"
        monkeypatch.setenv("TAIL", f"json://127.0.0.1:{redirects.port}/hook?redirect=yes")
        assert (await sender.send(make_call("a"), START_US)).verdict is Verdict.RETRY
        assert len(server.got) == 1
        monkeypatch.setenv("TAIL", "nonsense")
        assert "not an address" in (await sender.send(make_call("a"), START_US)).detail
    await sender.close()


@pytest.mark.filterwarnings("ignore:.*imghdr.*:DeprecationWarning")
async def test_apprise_is_held_to_public_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    sender = build_senders([Apprise(name="tail", type="apprise", url_from="env:TAIL")])["tail"]
    async with serving(answering(200)) as server:
        for host in ("127.0.0.1", "localhost", "169.254.169.254"):
            monkeypatch.setenv("TAIL", f"json://{host}:{server.port}/hook")
            assert "refused" in (await sender.send(make_call("a"), START_US)).detail
    assert server.connections == 0
    await sender.close()


def test_apprise_without_the_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr("services.alerting.delivery.long_tail.importlib.import_module", missing)
    with pytest.raises(long_tail.ExtraMissingError, match=r"touchstone-cx\[apprise\]"):
        build_senders([Apprise(name="tail", type="apprise", url_from="env:TAIL")])


async def test_the_receiver_to_try_with_notes_each_call_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DESK_SECRET", SECRET)
    inbox, store, registry = Inbox([SECRET]), MemoryStore(), CollectorRegistry()
    calls = [make_call(f"c{number}") for number in range(20)]
    store.calls = {call.call_id: call for call in calls}
    with receiving(inbox) as url:
        hook = Webhook(name="desk", type="webhook", url=url, local=True, signing_secrets=("env:DESK_SECRET",))
        dispatcher = Dispatcher(
            build_senders([hook]), store, observer=DeliveryMetrics(registry), limits=Limits(linger_s=0)
        )
        async with running(dispatcher):
            dispatcher.submit(calls)
            await dispatcher.drain()
            await dispatcher.resend(calls[0].call_id)
            await dispatcher.drain()
    assert sorted(call.id for call in inbox.calls) == sorted(call.call_id for call in calls)
    assert (inbox.repeats, inbox.refusals) == (1, [])
    assert len(store.ends(Outcome.DELIVERED)) == 21
    assert store.of(calls[0].call_id)[-1].status == 208

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, labels)

    assert value("touchstone_alerting_attempts_total", receiver="desk", outcome="delivered") == 21
    assert value("touchstone_alerting_queued_calls", receiver="desk") == 0
    assert value("touchstone_alerting_circuit", receiver="desk", state="closed") == 1
    assert value("touchstone_alerting_unrecorded_attempts") == 0
    assert value("touchstone_alerting_first_attempt_seconds_count", receiver="desk") == 20


def test_the_inbox_tells_of_each_call_as_it_is_noted() -> None:
    told: list[str] = []
    inbox = Inbox([SECRET], noted=lambda received: told.append(received.kind))
    assert inbox.take({"webhook-id": "x", "webhook-timestamp": str(int(time.time()))}, b"{}") == 401
    assert told == []
    assert inbox.refusals == ["Missing required headers"]


def test_nobody_has_to_count() -> None:
    Unobserved().queued("desk", 1)
