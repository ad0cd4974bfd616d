"""docs/telemetry.md says what the processes expose: all of it, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterable
from types import SimpleNamespace
from urllib.request import urlopen

import httpx
import pytest
from prometheus_client import generate_latest, start_http_server
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from services.alerting.alert import Outcome, Turn
from services.alerting.delivery.circuit import Mode
from services.alerting.delivery.metrics import DeliveryMetrics
from services.alerting.metrics import AlertingMetrics
from services.ingest.main import make_server
from services.ingest.settings import IngestSettings
from services.scoring import metrics as scoring
from services.scoring.model_checks import ModelCheck
from services.scoring.record_batches.commits import CommitLedger
from services.scoring.record_batches.lag import Lag
from services.scoring.record_batches.watchdog import Sighting
from services.scoring.shell import Shell, ShellLimits
from tests.fakes.stream import FakeTables, FakeTopics, TablesDownError, make_core
from tests.unit.operations.pages import RUNBOOK, TELEMETRY, Documented, catalogue, documented, sections


async def ingest_page() -> str:
    """What the composed process answers to Prometheus; Kafka need not be there for that."""
    server = make_server(IngestSettings(port=0, kafka_bootstrap="127.0.0.1:1"))
    transport = httpx.ASGITransport(server.config.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://edge") as client:
        return (await client.get("/metrics")).text


def scoring_page() -> str:
    """The worker's registry, over the worker's HTTP server, with the values that come from elsewhere."""
    tables = FakeTables()
    core = make_core(tables)
    shell = Shell(core, tables, FakeTopics([]), ShellLimits(), TablesDownError)
    scoring.watch_cache(core.cache)
    scoring.MODELS.set_function(lambda: {0: "default-1"})
    scoring.MODEL_CHECKS.set_function(
        lambda: [ModelCheck("default-1", 1.0e9, 1.1e9, drifted=False, calibration_error=0.02)]
    )
    scoring.watch_shell(shell)
    scoring.watch_memory(CommitLedger(), 1 << 20, 1_000, 1 << 30)
    scoring.sighted(Sighting({0: Lag(3, 1.5)}))
    server, thread = start_http_server(0, "127.0.0.1", scoring.REGISTRY)
    try:
        with urlopen(f"http://127.0.0.1:{server.server_port}/metrics", timeout=10) as answer:
            return str(answer.read().decode())
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def alerting_page() -> str:
    """The process's registry, after each outcome once."""
    metrics = AlertingMetrics()
    delivery = DeliveryMetrics(metrics.registry)
    metrics.watch(lambda: True, lambda: 0)
    metrics.calls(["leaving"])
    metrics.alerts([SimpleNamespace(rule="leaving", turn=turn) for turn in Turn])  # type: ignore[misc]
    for outcome in Outcome:
        delivery.attempted("desk", outcome, 1_000)
    delivery.first_attempt("desk", 1_000)
    delivery.queued("desk", 0)
    delivery.circuit("desk", Mode.CLOSED)
    return generate_latest(metrics.registry).decode()


def families(page: str) -> dict[str, Metric]:
    """By the name on the wire; without the times of creation that come beside counters and histograms."""
    found = {}
    for family in text_string_to_metric_families(page):
        if not family.name.endswith("_created"):
            found[family.name + ("_total" if family.type == "counter" else "")] = family
    return found


@pytest.fixture(params=["Ingest", "Scoring", "Alerting"])
async def told_and_exposed(request: pytest.FixtureRequest) -> tuple[list[Documented], dict[str, Metric]]:
    pages = {"Scoring": scoring_page, "Alerting": alerting_page}
    page = await ingest_page() if request.param == "Ingest" else pages[request.param]()
    return catalogue()[request.param] + catalogue()["Every process"], families(page)


async def test_what_is_exposed_is_documented_and_the_other_way_round(
    told_and_exposed: tuple[list[Documented], dict[str, Metric]],
) -> None:
    told, exposed = told_and_exposed
    names = [row.name for row in told]
    assert len(names) == len(set(names))
    assert set(names) == set(exposed)


async def test_types_labels_and_their_values_are_as_documented(
    told_and_exposed: tuple[list[Documented], dict[str, Metric]],
) -> None:
    told, exposed = told_and_exposed
    for row in told:
        family = exposed[row.name]
        assert row.type == family.type, row.name
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(row.labels), row.name
        for label, values in row.labels.items():
            seen = {sample.labels[label] for sample in family.samples}
            assert seen, f"{row.name}: series of closed labels are there from the start"
            if values:
                assert seen == values, row.name


def test_each_metric_has_unit_and_meaning_and_a_name_that_says_the_unit() -> None:
    for row in documented().values():
        assert row.unit, row.name
        assert row.meaning, row.name
        if row.unit in ("seconds", "bytes"):
            assert f"_{row.unit}" in row.name, row.name
        if row.type == "counter":
            assert row.name.endswith("_total")


def test_links_from_the_page_lead_somewhere() -> None:
    anchors = set(re.findall(r"runbook\.md#([a-z]+)\)", TELEMETRY.read_text("utf-8")))
    assert anchors == {heading.lower() for heading in sections()}, "each alarm is named by a metric, and the reverse"


def test_limits_and_metrics_named_in_prose_exist() -> None:
    known = set(documented())
    for path in (TELEMETRY, RUNBOOK):
        for name in named_metrics(path.read_text("utf-8")):
            assert name in known, f"{path.name}: {name}"


def named_metrics(text: str) -> Iterable[str]:
    return re.findall(r"`((?:touchstone_(?:ingest|scoring|alerting)|process)_[a-z_]+)`", text)
