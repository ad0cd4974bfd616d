"""``touchstone infer`` on real tables: what it learns, keeps apart, replaces, refuses, and never touches."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl
import pytest

from infra.clickhouse.models import save_model
from schemas.decode import COLUMNS
from schemas.tables import DATABASE, TABLES
from services.scoring import as_of
from services.scoring.risk.model import DEFAULT
from tests.integration.learning.shops import DAY_US, FIRST_DAY, Deployment

pytestmark = pytest.mark.stack

AS_OF = "2022-06-01"
AS_OF_US = int(datetime(2022, 6, 1, tzinfo=UTC).timestamp()) * 1_000_000
ORDERS = 900
INFER = ("infer", "--asof", AS_OF)

Row = dict[str, Any]


def event(customer: str, journey: str, day: float, kind: str, touchpoint: str, **more: Any) -> Row:
    at = round((FIRST_DAY + day) * DAY_US)
    given = {"customer_id": customer, "journey_id": journey, "kind": kind, "touchpoint": touchpoint}
    times = {"occurred_at": at, "received_at": at, "source": "shop", "channel": "", "attributes": {}}
    return {**dict.fromkeys(COLUMNS), **times, **given, **more}


def answer(customer: str, journey: str, day: float, stars: float) -> Row:
    return event(customer, journey, day, "survey_response", "review", metric="stars", rating=stars)


def orders(number: int = ORDERS, *, felt: bool = True, seed: int = 1) -> list[Row]:
    """Orders of 100 days; the late ones are rated badly, if ``felt``. A third is not asked, a tenth is silent."""
    random = np.random.default_rng(seed)
    rows: list[Row] = []
    for n in range(number):
        customer, journey, start = f"c{n % 200:03}", f"o{n:04}", 100.0 * n / number
        days = float(random.uniform(1, 9))
        late = days > 6
        bad = random.random() < ((0.8 if late else 0.08) if felt else 0.3)
        rows += [
            event(customer, journey, start, "purchase", "checkout", attributes={"promised_days": "6"}),
            event(
                customer,
                journey,
                start + days,
                "incident" if late else "interaction",
                "delivery",
                attributes={"days_vs_promise": f"{days - 6:.2f}"},
            ),
        ]
        if n % 3:
            rows.append(event(customer, journey, start + days + 1.1, "survey_sent", "review", metric="stars"))
            if n % 10:
                rows.append(answer(customer, journey, start + days + 1.6, 1.0 if bad else 5.0))
    return rows


def store(deployment: Deployment, rows: list[Row]) -> None:
    deployment.store(decoded(rows))


def decoded(rows: list[Row]) -> pl.DataFrame:
    named = [{**row, "event_id": number.to_bytes(16, "big")} for number, row in enumerate(rows)]
    return pl.DataFrame(named, schema=COLUMNS)


def shown(deployment: Deployment, columns: str = "journey_id, asked, chance_bad") -> list[tuple[Any, ...]]:
    return deployment.client.query(f"SELECT {columns} FROM {DATABASE}.inferred_journeys ORDER BY journey_id")


def everything_but(deployment: Deployment, *names: str) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of all tables, and everybody's scores as of one moment."""
    _, known = as_of.as_of()
    wanted = {name: known[name] for name in ("score", "trend", "volatility", "confidence", "risk", "value_at_risk")}
    scores = as_of.select({"customer_id": "s_customer_id", **wanted}, f"toFloat64({AS_OF_US})")
    found = {
        table.name: deployment.client.query(f"SELECT * FROM {DATABASE}.{table.name} ORDER BY ALL")
        for table in TABLES
        if table.name not in names
    }
    return found | {"scores": sorted(deployment.client.query(scores))}


def test_what_nobody_rated_is_inferred_kept_and_told(deployment: Deployment) -> None:
    store(deployment, orders())
    done = deployment.run(*INFER, "--out", "inferred.csv")
    assert done.code == 0, done.err
    for said in ("better than the base rate", "nobody asked in", "never counted as felt", "view inferred_journeys"):
        assert said in done.out, said
    columns = "journey_id, customer_id, last_touchpoint, asked, chance_bad, average_chance, reasons, happened_at"
    rows = shown(deployment, columns)
    assert [row[0] for row in rows] == [f"o{n:04}" for n in range(ORDERS) if n % 3 == 0 or n % 10 == 0]
    by_journey = {row[0]: row for row in rows}
    assert by_journey["o0010"][3] is True
    assert by_journey["o0003"][3] is False
    assert {row[2] for row in rows} == {"delivery"}
    late = [row[4] for row in rows if "went wrong" in str(row[6])]
    on_time = [row[4] for row in rows if "went wrong" not in str(row[6])]
    assert len(late) > 40
    assert 0.55 < np.mean(late) < 0.95
    assert 0.01 < np.mean(on_time) < 0.2
    for row in rows:
        odds = np.log(row[4] / (1 - row[4]))
        assert np.log(row[5] / (1 - row[5])) + sum(size for _, size in row[6]) == pytest.approx(odds, abs=1e-9)
    csv = pl.read_csv(deployment.folder / "inferred.csv")
    assert csv["chance_bad"].to_list() == pytest.approx([row[4] for row in sorted(rows, key=lambda row: row[1::-1])])


def test_nothing_of_it_enters_what_was_felt(deployment: Deployment) -> None:
    rows = orders()
    store(deployment, rows)
    deployment.fold(decoded(rows), DEFAULT.activity_kinds)
    save_model(deployment.client, DEFAULT.version, DEFAULT.to_json(), "")
    before = everything_but(deployment, "inferred_experience")
    felt = deployment.client.query(f"SELECT * FROM {DATABASE}.felt_touchpoints ORDER BY ALL")
    assert len(before["scores"]) == len(before["customer_state"]) == 200
    assert deployment.run(*INFER).code == 0
    assert shown(deployment)
    assert everything_but(deployment, "inferred_experience") == before
    assert deployment.client.query(f"SELECT * FROM {DATABASE}.felt_touchpoints ORDER BY ALL") == felt


def test_no_other_view_reads_it(deployment: Deployment) -> None:
    reading = deployment.client.query(
        f"SELECT name FROM system.tables WHERE database = '{DATABASE}' AND engine LIKE '%View' "
        "AND (create_table_query ILIKE '%inferred_experience%' OR create_table_query ILIKE '%inferred_journeys%')"
    )
    assert reading == [("inferred_journeys",)]
    comments = deployment.client.query(
        f"SELECT comment FROM system.columns WHERE database = '{DATABASE}' AND table = 'inferred_journeys' "
        "AND name IN ('chance_bad', 'average_chance')"
    )
    assert len(comments) == 2
    assert all("never counted as felt" in comment for (comment,) in comments)


def test_a_run_replaces_the_one_before_and_an_answer_ends_an_inference(deployment: Deployment) -> None:
    rows = orders()
    store(deployment, rows)
    assert deployment.run(*INFER).code == 0
    first = shown(deployment)
    assert deployment.run(*INFER).code == 0
    assert shown(deployment) == first
    stored = deployment.client.query(f"SELECT count() FROM {DATABASE}.inferred_experience")
    assert stored == [(len(first),)]

    store(deployment, [*rows, answer("c003", "o0003", 140, 5.0)])
    assert [row[0] for row in shown(deployment)] == [row[0] for row in first if row[0] != "o0003"]
    assert deployment.run(*INFER).code == 0
    stored = deployment.client.query(f"SELECT count() FROM {DATABASE}.inferred_experience")
    assert stored == [(len(first) - 1,)]


def test_a_customers_story_shows_it_apart(deployment: Deployment) -> None:
    rows = orders()
    store(deployment, rows)
    deployment.fold(decoded(rows), DEFAULT.activity_kinds)
    activated = datetime(2022, 1, 1, tzinfo=UTC)
    deployment.client.insert_rows(
        "models",
        ("version", "activated_at", "parameters", "report"),
        [(DEFAULT.version, activated, DEFAULT.to_json(), "")],
    )
    assert deployment.run(*INFER).code == 0
    done = deployment.run("customer", "c003")
    assert done.code == 0, done.err
    assert "chance of a bad rating" in done.out
    assert "not felt: the customer was not asked; no part of score or risk" in done.out
    document = json.loads(deployment.run("customer", "c003", "--json").out)
    assert "o0003" in {found["journey_id"] for found in document["inferred_never_felt"]}
    assert not any(step["kind"] == "inferred" for step in document["touchpoints"])


def test_no_better_than_the_base_rate_is_said_and_nothing_written(deployment: Deployment) -> None:
    store(deployment, orders(felt=False))
    done = deployment.run(*INFER, "--out", "inferred.csv")
    assert done.code == 1
    assert "NOT better than the base rate" in done.out
    assert "--force writes all the same" in done.err
    assert shown(deployment) == []
    assert not (deployment.folder / "inferred.csv").exists()
    forced = deployment.run(*INFER, "--force", "--json")
    assert forced.code == 0, forced.err
    found = json.loads(forced.out)
    assert (found["judged"]["better"], found["saved"]) == (False, True)
    assert len(shown(deployment)) == found["inferred"] > 0


def test_looking_only_keeps_nothing(deployment: Deployment) -> None:
    store(deployment, orders())
    done = deployment.run(*INFER, "--no-save", "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert (found["saved"], found["written"]) == (False, True)
    assert found["judged"]["measured"]["auc"] > 0.75
    assert found["judged"]["measured"]["brier"] < found["judged"]["base"]["brier"]
    assert found["rated"] + found["inferred"] == found["journeys"] == ORDERS
    assert shown(deployment) == []
    csv = deployment.run(*INFER, "--no-save", "--out", "-")
    assert csv.out.startswith("customer_id,journey_id,journey,last_touchpoint,happened_at,asked,chance_bad")
    assert csv.out.count("\n") == 1 + found["inferred"]


def at_once(rows: list[Row]) -> list[Row]:
    return [{**row, "occurred_at": FIRST_DAY * DAY_US} for row in rows]


REFUSED = {
    "no events": ([], "bring history in"),
    "no journeys": ([{**row, "journey_id": None} for row in orders(60)], "send journey_id"),
    "no ratings": ([row for row in orders(60) if row["kind"] != "survey_response"], "no rating was given"),
    "one class": ([{**row, "rating": row["rating"] and 5.0} for row in orders()], "0 of them bad"),
    "one journey": ([event("a", "j", 1, "purchase", "checkout"), answer("a", "j", 3, 1.0)], "ask more customers"),
    "too few": (orders(90), "Learning takes at least 100"),
    "all at the same moment": (at_once(orders()), "ask more customers"),
}


@pytest.mark.parametrize("history", REFUSED, ids=list(REFUSED))
def test_too_little_is_refused_with_the_remedy(deployment: Deployment, history: str) -> None:
    rows, remedy = REFUSED[history]
    if rows:
        store(deployment, rows)
    done = deployment.run(*INFER)
    assert (done.code, done.out) == (1, "")
    assert remedy in done.err
    assert "Traceback" not in done.err
    assert shown(deployment) == []


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (("--asof", "soon"), "write it as 2026-03-01"),
        (("--out", "nowhere/x.csv"), "a folder that exists"),
        (("--json", "--out", "-"), "name a file"),
    ],
)
def test_wrong_use_is_named(deployment: Deployment, arguments: tuple[str, ...], remedy: str) -> None:
    done = deployment.run("infer", *arguments)
    assert (done.code, done.out) == (2, "")
    assert remedy in done.err
