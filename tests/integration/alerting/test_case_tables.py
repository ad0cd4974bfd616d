"""Cases over HTTP and the commands with real tables; the log is a list that is stored as a worker does."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import polars as pl
import pytest

from infra.clickhouse.client import ClickHouse
from infra.clickhouse.errors import ClickHouseError
from schemas.case import CaseStep, Step, encode_case_step
from services.alerting.app import alerting_app
from services.alerting.case_ports import CasePorts
from services.alerting.case_tables import CaseTables
from services.alerting.permission import DefaultGuard, permission
from services.alerting.recovery import COLUMNS
from services.alerting.recovery_sql import RECOVERY_SQL
from services.cli.main import main
from services.scoring.story import FeltEvent, tell
from tests.fakes.stream import FakeTables, make_core
from tests.integration.alerting.case_rows import (
    NOW,
    happened,
    put_alerts,
    put_events,
    put_rule,
    put_states,
)

pytestmark = pytest.mark.stack

A, B = "a" * 32, "b" * 32
DAY_US = 86_400_000_000


@pytest.fixture
def appended(clickhouse: ClickHouse) -> list[bytes]:
    put_alerts(clickhouse, {"alert_id": A}, {"alert_id": B, "customer_id": "bob", "fired_at": NOW - timedelta(days=3)})
    return []


def ports_of(clickhouse: ClickHouse, log: list[bytes]) -> CasePorts:
    def append(_: Sequence[str], values: Sequence[bytes], __: int) -> None:
        put_events(clickhouse, values, len(log))
        log.extend(values)

    return CasePorts(CaseTables(clickhouse), append, (ClickHouseError,), lambda: time.time_ns() // 1000)


async def test_the_life_of_a_case(clickhouse: ClickHouse, appended: list[bytes]) -> None:
    transport = httpx.ASGITransport(alerting_app(ports_of(clickhouse, appended)))
    async with httpx.AsyncClient(transport=transport, base_url="http://desk") as client:
        assert (await client.get("/health/ready")).status_code == 200
        first = (await client.get("/v1/cases?limit=1")).json()
        assert [case["case_id"] for case in first["cases"]] == [A]
        second = (await client.get("/v1/cases", params={"limit": 1, "after": first["next"]})).json()
        assert [case["case_id"] for case in second["cases"]] == [B]
        last = (await client.get("/v1/cases", params={"after": second["next"]})).json()
        assert last == {"cases": [], "next": None}
        alerts = (await client.get("/v1/alerts?customer_id=ada&fate=called")).json()["alerts"]
        assert [alert["reasons"] for alert in alerts] == [[{"reason": "a complaint is open", "log_odds": 0.9}]]
        for path, body in (
            ("acknowledge", {"by": "kim"}),
            ("assign", {"owner": "lee", "by": "kim"}),
            ("close", {"outcome": "succeeded", "by": "lee", "complaint": "T-1"}),
        ):
            assert (await client.post(f"/v1/cases/{A}/{path}", json=body)).status_code == 202
        case = (await client.get(f"/v1/cases/{A}")).json()
        assert (case["state"], case["owner"], case["outcome"], case["closed_by"]) == (
            "closed",
            "lee",
            "succeeded",
            "lee",
        )
        assert [step["step"] for step in case["steps"]] == ["acknowledged", "assigned", "closed"]
        before = clickhouse.query("SELECT count() FROM touchstone.touchpoints FINAL")
        again = await client.post(
            f"/v1/cases/{A}/close", json={"outcome": "succeeded", "by": "lee", "complaint": "T-1"}
        )
        assert again.status_code == 202
        assert clickhouse.query("SELECT count() FROM touchstone.touchpoints FINAL") == before
        assert (await client.get("/v1/cases?state=open&overdue=true")).json()["cases"][0]["case_id"] == B
    kinds = clickhouse.query("SELECT kind FROM touchstone.customer_timeline WHERE customer_id = 'ada' ORDER BY kind")
    assert [kind for (kind,) in kinds] == ["case_step", "case_step", "case_step", "complaint_resolved", "follow_up"]


async def test_permission_over_http_is_that_of_the_view(clickhouse: ClickHouse) -> None:
    records: list[bytes | None] = [
        happened("1", "asked", NOW - timedelta(days=3), "survey_sent"),
        happened("2", "free", NOW - timedelta(days=30), "outreach"),
        happened("3", "angry", NOW - timedelta(days=1), "complaint_opened", case_id="x"),
    ]
    core = make_core(FakeTables())
    core.take(0, np.arange(3), records, [0] * 3, ())
    put_states(clickhouse, core.snapshot(core.cache.find(["asked", "free", "angry"])))
    put_events(clickhouse, [record for record in records if record])
    rows = clickhouse.query(
        "SELECT customer_id, allowed, reasons FROM touchstone.survey_permission ORDER BY customer_id"
    )
    tables, now_us = CaseTables(clickhouse), time.time_ns() // 1000
    answers = [permission(tables.survey_facts(name), DefaultGuard(), now_us) for name, *_ in rows]
    assert [(bool(allowed), tuple(reasons)) for _, allowed, reasons in rows] == [
        (a.allowed, a.reasons) for a in answers
    ]
    assert {name: allowed for name, allowed, _ in rows} == {"angry": False, "asked": False, "free": True}
    assert tables.survey_facts("nobody") is None


def recovered(clickhouse: ClickHouse, **changes: Any) -> pl.DataFrame:
    parameters = {"rule": "", "since": 0, "horizon_us": 30 * DAY_US, "comings": ["purchase"], **changes}
    return pl.DataFrame(clickhouse.query(RECOVERY_SQL, parameters), schema=COLUMNS, orient="row").sort("customer_id")


def test_rows_of_recovery_with_a_hold_out(clickhouse: ClickHouse) -> None:
    long_ago = NOW - timedelta(days=100)
    put_rule(clickhouse, 4.5, 0.5)
    put_alerts(
        clickhouse,
        {"alert_id": A, "customer_id": "called", "fired_at": long_ago},
        {"alert_id": B, "customer_id": "held", "fired_at": long_ago, "fate": "held_out"},
        {"alert_id": "c" * 32, "customer_id": "young", "fired_at": NOW - timedelta(days=3)},
        {"alert_id": "d" * 32, "customer_id": "before", "fired_at": long_ago, "rules_version": "without"},
    )
    paid = {"amount_micros": 20_000_000, "currency": "EUR"}
    felt = [
        happened("f1", "called", long_ago - timedelta(days=9), "interaction", outcome="failed"),
        happened("f2", "called", long_ago + timedelta(days=9), "interaction", outcome="succeeded"),
    ]
    put_events(
        clickhouse,
        [
            *felt,
            happened("p1", "called", long_ago + timedelta(days=1), "purchase", **paid),
            happened("p2", "held", long_ago + timedelta(days=31), "purchase", **paid),
        ],
    )
    found = recovered(clickhouse)
    assert found.select("customer_id", "group", "returned", "spend").rows() == [
        ("called", "called", 1.0, 20.0),
        ("held", "held_out", 0.0, 0.0),
    ]
    # The score is that of the story, which has the stream's formula.
    rows = clickhouse.query(
        "SELECT toUnixTimestamp64Micro(occurred_at), [effectiveness_valence, ease_valence, emotion_valence],"
        " [effectiveness_weight, ease_weight, emotion_weight] FROM touchstone.touchpoints_once"
        " WHERE kind = 'interaction' ORDER BY occurred_at"
    )
    at_us = round(long_ago.timestamp() * 1e6)
    events = [FeltEvent(us, tuple(valence), tuple(weight)) for us, valence, weight in rows]
    nothing = (0.0, 0.0, 0.0)
    watched = [
        events[0],
        FeltEvent(at_us, nothing, nothing),
        events[1],
        FeltEvent(at_us + 30 * DAY_US, nothing, nothing),
    ]
    scores = [moment.score_after for moment in tell(watched)]
    assert found["score_change"][0] == pytest.approx(scores[3] - scores[1], rel=1e-6)
    assert found["score_change"][1] == 0.0
    assert recovered(clickhouse, rule="other").is_empty()
    assert recovered(clickhouse, since=at_us + 1).is_empty()


def test_rows_of_recovery_without_a_hold_out(clickhouse: ClickHouse) -> None:
    long_ago = NOW - timedelta(days=100)
    put_alerts(
        clickhouse,
        {"alert_id": A, "customer_id": "called", "fired_at": long_ago},
        {"alert_id": B, "customer_id": "open", "fired_at": long_ago},
    )
    at_us = round((long_ago + timedelta(days=1)).timestamp() * 1e6)
    put_events(
        clickhouse,
        [
            encode_case_step(CaseStep("called", A, Step.CLOSED, "kim", outcome="succeeded", at_us=at_us)),
            happened("s", "other", long_ago - timedelta(days=1), "interaction", attributes={"segment": "gold"}),
        ],
    )
    columns = ("signal_id", "customer_id", "judged_at", "risk", "value_at_risk", "log_offset")
    signals = [
        (b"1" * 16, "other", long_ago, 0.5, 10.0, 1),
        (b"2" * 16, "other", long_ago + timedelta(seconds=1), 0.6, 11.0, 2),
        (b"3" * 16, "called", long_ago, 0.8, 120.0, 3),
    ]
    clickhouse.insert_rows("loyalty_signals", columns, signals)
    found = recovered(clickhouse)
    named = found.select("customer_id", "group", "at", "risk", "value", "segment").rows()
    assert named[0] == ("called", "called", at_us, 0.8, 120.0, "gold")
    assert {row[:2] + row[3:] for row in named[1:]} <= {
        ("other", "never_called", 0.6, 11.0, "gold"),
        ("other", "never_called", 0.5, 10.0, "gold"),
    }
    assert len(named) >= 2


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(
    clickhouse: ClickHouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOUCHSTONE_CLICKHOUSE_PORT", str(clickhouse.settings.port))
    monkeypatch.setenv("TOUCHSTONE_CLICKHOUSE_HTTP_PORT", str(clickhouse.settings.http_port))

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["touchstone", "alerts", *arguments])
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        return code, *capsys.readouterr()

    return run


@pytest.mark.usefixtures("appended")
def test_the_commands(clickhouse: ClickHouse, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[bytes] = []

    class Publisher:
        """Stores what is published, as a worker would."""

        def __init__(self, _: str) -> None: ...

        def publish(self, topic: str, keys: Sequence[str], values: Sequence[bytes], timestamp_ms: int) -> None:
            assert (topic, set(keys)) == ("touchpoints", {"ada"})
            put_events(clickhouse, values, len(sent))
            sent.extend(values)

        def close(self) -> None: ...

    monkeypatch.setattr("infra.kafka.publish.Publisher", Publisher)
    code, out, _ = run("list")
    assert (code, [line.split()[1] for line in out.splitlines()]) == (0, ["customer", "ada", "bob"])
    assert [case["case_id"] for case in json.loads(run("list", "--customer", "bob", "--json")[1])] == [B]
    assert run("ack", "aaaa", "--by", "kim")[0] == 0
    code, _, said = run("ack", "aaaa", "--by", "lee")
    assert (code, "acknowledged by kim" in said) == (0, True)
    assert run("assign", "aaaa", "lee", "--by", "kim")[0] == 0
    assert run("resolve", "aaaa", "--outcome", "fine", "--by", "kim")[0] == 2
    assert run("resolve", "aaaa", "--outcome", "succeeded", "--not-contacted", "--by", "kim")[0] == 0
    assert len(sent) == 3
    code, _, said = run("ack", "aaaa", "--by", "kim")
    assert (code, "was closed by kim as succeeded" in said) == (1, True)
    code, out, _ = run("show", "aaaa")
    assert code == 0
    assert "closed by kim" in out
    assert [step["step"] for step in json.loads(run("show", "aaaa", "--json")[1])["steps"]] == [
        "acknowledged",
        "assigned",
        "closed",
    ]
    assert run("show", "cccc")[0] == 1
    assert run("show", "a")[0] == 2


def test_what_it_brought(clickhouse: ClickHouse, run: Run) -> None:
    assert run("economics")[0] == 1
    assert run("recovery")[0] == 1
    long_ago = NOW - timedelta(days=400)
    put_rule(clickhouse, 4.5, 0.5)
    put_alerts(
        clickhouse,
        *({"alert_id": f"called-{n}", "customer_id": f"c{n}", "fired_at": long_ago} for n in range(30)),
        *(
            {"alert_id": f"held-{n}", "customer_id": f"h{n}", "fired_at": long_ago, "fate": "held_out"}
            for n in range(30)
        ),
    )
    paid = {"amount_micros": 20_000_000, "currency": "EUR"}
    put_events(
        clickhouse,
        [happened(f"p{n}", f"c{n}", long_ago + timedelta(days=1), "purchase", **paid) for n in range(20)],
    )
    code, out, said = run("economics")
    assert code == 0
    assert "400.00" in out
    assert "assumed" in said
    assert json.loads(run("economics", "--json")[1])[0]["realised_benefit"] == 400.0
    code, out, _ = run("recovery", "--horizon", "30")
    assert code == 0
    assert "An effect" in out
    assert "+66.7%" in out
    [rule] = json.loads(run("recovery", "--horizon", "30", "--json")[1])["rules"]
    assert (rule["kind"], rule["called"], rule["others"]) == ("effect", 30, 30)
