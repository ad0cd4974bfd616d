"""Alarms, dashboard and runbook speak of metrics and settings that exist, and of one another."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml

from services.cli.settings import known_names
from tests.unit.operations.pages import ROOT, RUNBOOK, alerts, documented, faults_of, sections

DASHBOARD = ROOT / "infra" / "grafana" / "dashboards" / "touchstone-operations.json"
SEVERITIES = {"critical", "warning", "info"}
PROMETHEUS, CLICKHOUSE = "prometheus", "grafana-clickhouse-datasource"


def dashboard() -> dict[str, Any]:
    read: dict[str, Any] = json.loads(DASHBOARD.read_text("utf-8"))
    return read


def panels(kind: str) -> list[Any]:
    return [
        pytest.param(panel, id=panel["title"])
        for panel in dashboard()["panels"]
        if panel["type"] != "row" and panel["datasource"]["type"] == kind
    ]


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: str(alert["alert"]))
def test_an_alarm_is_whole_and_its_expression_asks_for_what_exists(alert: dict[str, Any]) -> None:
    assert set(alert) == {"alert", "expr", "for", "labels", "annotations"}
    assert faults_of(alert["expr"], documented()) == []
    assert re.fullmatch(r"\d+[smh]", alert["for"])
    assert alert["labels"].keys() == {"severity"}
    assert alert["labels"]["severity"] in SEVERITIES
    notes = alert["annotations"]
    assert set(notes) == {"summary", "description", "runbook_url"}
    assert notes["runbook_url"] == f"docs/runbook.md#{alert['alert'].lower()}"
    for label in re.findall(r"\$labels\.(\w+)", notes["summary"] + notes["description"]):
        assert label in alert["expr"] or label in ("job", "instance"), "or the text would have a hole"


def test_each_alarm_has_its_section_and_each_section_its_alarm() -> None:
    names = [alert["alert"] for alert in alerts()]
    assert names == list(sections()), "in the same order"
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(("heading", "text"), sections().items(), ids=list(sections()))
def test_a_section_answers_five_questions(heading: str, text: str) -> None:
    asked = ["Means", "Noticed by", "Look", "Do", "Over when"]
    words = re.findall(r"^- \*\*([^:*]+):\*\*", text, flags=re.MULTILINE)
    assert words in (asked, ["Means", "Noticed by", "Look and do", "Over when"]), heading


def test_the_runbook_names_settings_and_sections_that_exist() -> None:
    text = RUNBOOK.read_text("utf-8")
    assert set(re.findall(r"TOUCHSTONE_[A-Z_]+", text)) <= known_names()
    anchors = {heading.lower() for heading in sections()}
    assert set(re.findall(r"\(#([a-z]+)\)", text)) <= anchors
    operations = (ROOT / "docs" / "operations.md").read_text("utf-8")
    known = {re.sub(r"[^a-z0-9 -]", "", line[3:].lower()).replace(" ", "-") for line in operations.splitlines()}
    assert set(re.findall(r"operations\.md#([a-z-]+)\)", text)) <= known


@pytest.mark.parametrize("panel", panels(PROMETHEUS))
def test_a_panel_asks_for_metrics_that_exist(panel: dict[str, Any]) -> None:
    assert panel["description"]
    for target in panel["targets"]:
        expression = target["expr"].replace("$__rate_interval", "5m")
        assert faults_of(expression, documented()) == []
        offered = set(re.findall(r"by \(([^)]*)\)", expression))
        for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
            assert not offered or any(label in clause for clause in offered), target["legendFormat"]


def test_every_metric_of_ours_is_on_the_dashboard_or_in_an_alarm() -> None:
    """What nobody looks at need not be counted; what is only for a look by hand is named here."""
    by_hand = {
        "touchstone_ingest_events_received_total",
        "touchstone_ingest_inflight_requests",
        "touchstone_ingest_producer_replaced",
        "process_virtual_memory_bytes",
        "process_open_fds",
        "process_max_fds",
    }
    used = DASHBOARD.read_text("utf-8") + json.dumps(alerts())
    assert {name for name in documented() if not re.search(rf"\b{name}", used)} <= by_hand


def test_the_dashboard_can_be_imported_anywhere() -> None:
    board = dashboard()
    assert board["uid"]
    assert board["title"]
    assert "id" not in board
    variables = {each["name"]: each["query"] for each in board["templating"]["list"]}
    assert variables == {"prometheus": PROMETHEUS, "clickhouse": CLICKHOUSE}
    for panel in board["panels"]:
        if panel["type"] == "row":
            continue
        for source in (panel["datasource"], *(target["datasource"] for target in panel["targets"])):
            assert source["uid"] in ("${prometheus}", "${clickhouse}")
            assert variables[source["uid"][2:-1]] == source["type"]
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


def test_panels_do_not_lie_on_one_another() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells


def test_compose_scrapes_the_jobs_that_the_alarms_name() -> None:
    read = yaml.safe_load((ROOT / "infra" / "prometheus" / "prometheus.yml").read_text("utf-8"))
    jobs = {job["job_name"]: job["dns_sd_configs"][0]["names"] for job in read["scrape_configs"]}
    compose = yaml.safe_load((ROOT / "infra" / "compose" / "docker-compose.yml").read_text("utf-8"))
    named = set(re.findall(r'job="([^"]+)"', json.dumps([alert["expr"] for alert in alerts()]).replace("\\", "")))
    assert named == set(jobs)
    assert {name for names in jobs.values() for name in names} <= set(compose["services"])
    assert read["rule_files"] == ["touchstone.rules.yml"]


@pytest.mark.parametrize(
    ("expression", "fault"),
    [
        ("rate(touchstone_scoring_nothing_total[5m]) > 0", "not in the catalogue"),
        ('touchstone_ingest_requests_total{verdict="ok"}', "no label verdict"),
        ('touchstone_ingest_requests_total{status="500 "}', "status is never"),
        ("sum by (topic) (touchstone_scoring_lag_records)", "by (topic)"),
        ("vector(1)", "no metric"),
        ("touchstone_scoring_stored_total_bucket", "not in the catalogue"),
    ],
)
def test_a_wrong_expression_is_found(expression: str, fault: str) -> None:
    assert any(fault in found for found in faults_of(expression, documented()))


def test_an_expression_that_is_none_is_found() -> None:
    with pytest.raises(ValueError, match=r"."):
        faults_of("sum by (le (rate(x[5m]))", documented())
