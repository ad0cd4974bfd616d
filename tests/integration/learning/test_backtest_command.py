"""``touchstone alerts backtest`` on real tables: what is rehearsed, what is told, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.testing import assert_allclose

from infra.clickhouse.signals import write_signals
from schemas.signal import BAND_TYPE, SIGNALS
from services.alerting.decide import SIGNALS as DECIDED
from services.cli.alerting import everybody
from services.scoring import readings
from services.scoring.events import prepare
from services.scoring.fold import activity_codes, fold
from services.scoring.judge import assess
from services.scoring.risk.model import DEFAULT
from services.scoring.state import States, Vocabulary
from tests.integration.learning.shops import DAY_US, FIRST_DAY, Deployment, Row, frame, shop

pytestmark = pytest.mark.stack

SINCE = "2022-07-07"  # 180 days after FIRST_DAY
RULES = """
version: 1
receivers: [{name: desk, type: file, path: calls.jsonl}]
rules:
  - {name: everybody, when: "risk >= 0", owner: retention, receivers: [desk], budget: {per_hour: 1000, per_day: 10000}}
  - {name: risky, when: "risk > 0.6 AND silence_days < 30", owner: retention, receivers: [desk], cooldown: 0s}
  - {name: never, when: "risk > 2", owner: retention, receivers: [desk]}
"""


@pytest.fixture
def rules(deployment: Deployment) -> str:
    return written(deployment, RULES)


def written(deployment: Deployment, text: str) -> str:
    path: Path = deployment.folder / "rules.yml"
    path.write_text(text)
    return str(path)


def moods(customers: int = 60) -> list[Row]:
    """Answers to surveys, all unhappy, and complaints."""
    days = np.random.default_rng(2).uniform(0, 250, (customers, 3))
    return [
        (f"c{customer:04}", FIRST_DAY + float(day), kind, None)
        for customer in range(customers)
        for day, kind in zip(days[customer], ("survey_response", "complaint_opened", "survey_sent"), strict=True)
    ]


def test_rules_are_rehearsed(deployment: Deployment, rules: str) -> None:
    deployment.store(shop())
    done = deployment.run("alerts", "backtest", rules, "--since", SINCE, "--every", "7d", "--json", "--out", "out.csv")
    assert done.code == 0, done.err
    told = json.loads(done.out)
    by_name = {rule["rule"]: rule for rule in told["rules"]}
    assert told["steps"] == 18
    assert (told["model"], told["horizon_days"]) == (DEFAULT.version, 30.0)
    risky, everyone = by_name["risky"], by_name["everybody"]
    assert risky["running"]["called"] > 20
    assert risky["running"]["precision"]["of"] > 20
    assert risky["budget_one_by_one"] > risky["budget_used"]
    assert risky["lead_days"]["median"] > 0
    assert 0 < risky["recall"]["value"] <= 1
    # Everybody is called once: at the first step, or when they are first seen.
    assert everyone["first_step"]["called"] > 50
    assert everyone["fired"] == everyone["first_step"]["called"] + everyone["running"]["called"]
    assert by_name["never"]["fired"] == 0
    assert len(risky["called"]) == 10
    out = pl.read_csv(deployment.folder / "out.csv")
    assert out.height == sum(rule["fired"] for rule in told["rules"])
    assert set(out["outcome"].drop_nulls()) == {"left", "stayed", "too_late", "unknown"}
    again = deployment.run("alerts", "backtest", rules, "--since", SINCE, "--every", "7d", "--json")
    assert again.out == done.out, "the same log gives the same numbers"


def test_it_is_told_to_a_person(deployment: Deployment, rules: str) -> None:
    deployment.store(shop())
    done = deployment.run("alerts", "backtest", rules, "--since", SINCE, "--every", "7d")
    assert done.code == 0, done.err
    for said in (
        "left within the horizon",
        "would have stayed anyway",
        "what calling everybody would give",
        "at random",
    ):
        assert said in done.out
    assert "nobody: the condition held for no customer at any of 18 steps" in done.out
    assert "judged at 18 moments, every 7d" in done.err
    assert "is not known yet" in done.err


def test_steps_are_what_the_stream_would_have_had(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(everybody, "CHUNK_EVENTS", 100)
    events = pl.concat([shop(80), frame(moods(80))]).with_columns(
        event_id=pl.Series([number.to_bytes(16, "big") for number in range(shop(80).height + 240)], dtype=pl.Binary)
    )
    deployment.store(events)
    steps = [(FIRST_DAY + day) * DAY_US for day in (0, 150, 151, 260)]
    found = list(everybody.signals(deployment.client, DEFAULT, steps))
    assert found[0].schema == pl.Schema(DECIDED)
    assert found[0].is_empty()
    for step, at_us in enumerate(steps[1:], start=1):
        past = events.filter(pl.col("occurred_at") < at_us).sort("customer_id", "occurred_at")
        row = past["customer_id"].rle_id().to_numpy().astype(np.intp)
        states, names = States.empty(past["customer_id"].n_unique()), Vocabulary()
        prepared = prepare(past, row, np.arange(past.height, dtype=np.int64), readings.shipped(), names)
        fold(states, prepared, activity_codes(DEFAULT.activity_kinds), names)
        measured, judged = assess(states, np.full(len(states), at_us), DEFAULT)
        assert found[step]["customer_id"].to_list() == past["customer_id"].unique().sort().to_list()
        assert_allclose(found[step]["risk"].to_numpy(), judged.risk, rtol=1e-9)
        assert_allclose(found[step]["score"].to_numpy(), measured.overall, rtol=1e-9)
        assert_allclose(found[step]["complaint_hours"].to_numpy(), judged.facts["complaint_hours"], rtol=1e-9)
        assert_allclose(found[step]["value_at_risk"].to_numpy(), judged.value_at_risk, rtol=1e-9)


def test_recorded_signals_can_be_used(deployment: Deployment, rules: str) -> None:
    deployment.store(shop())
    at = (FIRST_DAY + 200) * DAY_US
    told = {
        "signal_id": [number.to_bytes(16, "big") for number in range(3)],
        "customer_id": ["c0001", "c0002", "c0003"],
        "judged_at": [at, at + DAY_US, at + 2 * DAY_US],
        "from_band": ["low", "low", "high"],
        "to_band": ["high", "high", "low"],
        "risk": [0.95, 0.96, 0.2],
        "silence_days": [12.0, 3.0, 1.0],
        "log_offset": [1, 2, 3],
    }
    given = pl.DataFrame(told)
    nothing: dict[Any, Any] = {pl.String: "", pl.Float64: 0.0, pl.Int64: 0}
    write_signals(
        deployment.client,
        given.select(
            (pl.col(name) if name in told else pl.lit(nothing.get(type_, []))).cast(type_).alias(name)
            for name, type_ in SIGNALS.items()
        ),
    )
    assert given["to_band"].cast(BAND_TYPE).to_list()[0] == "high"
    done = deployment.run("alerts", "backtest", rules, "--since", SINCE, "--recorded", "--json")
    assert done.code == 0, done.err
    by_name = {rule["rule"]: rule for rule in json.loads(done.out)["rules"]}
    assert [row["customer_id"] for row in by_name["risky"]["called"]] == ["c0001", "c0002"]
    assert by_name["everybody"]["fired"] == 3


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--since", "2122-01-01"), 2, "is not past"),
        (("--since", "soon"), 2, "--since soon is no date"),
        (("--since", "2023-01-01"), 1, "later than the newest event"),
        (("--since", "2021-01-01", "--every", "30d"), 1, "nothing happened before 2021-01-01"),
        (("--since", "2022-07-07", "--until", "2022-07-07"), 2, "must be later than --since"),
        (("--since", "2022-07-07", "--every", "often"), 2, "--every often is no duration"),
        (("--since", "2022-07-07", "--every", "5m"), 2, "1h is the least"),
        (("--since", "2022-02-01", "--every", "1h"), 2, "choose a longer --every"),
        (("--since", "2022-07-07", "--every", "3000d"), 2, "there is one step"),
        (("--since", "2022-07-07", "--model", "gone"), 1, "there is no model gone"),
        (("--since", "2022-07-07", "--recorded"), 1, "no signal was recorded"),
        (("--since", "2022-07-07", "--out", "no/where.csv"), 2, "in a folder that exists"),
    ],
)
def test_what_cannot_be_is_said(
    deployment: Deployment, rules: str, options: tuple[str, ...], code: int, said: str
) -> None:
    deployment.store(shop(30))
    done = deployment.run("alerts", "backtest", rules, *options)
    assert (done.code, done.out) == (code, "")
    assert said in done.err


def test_no_history_and_unusable_rules_are_said(deployment: Deployment, rules: str) -> None:
    done = deployment.run("alerts", "backtest", rules, "--since", SINCE)
    assert done.code == 1
    assert "there is no history" in done.err
    done = deployment.run("alerts", "backtest", "gone.yml", "--since", SINCE)
    assert done.code == 2
    wrong = written(deployment, RULES.replace("risk > 2", "riks > 2"))
    done = deployment.run("alerts", "backtest", wrong, "--since", SINCE)
    assert done.code == 2
    assert "riks" in done.err
    assert "did you mean risk" in done.err
    done = deployment.run("alerts", "backtest", written(deployment, "version: 1\n"), "--since", SINCE)
    assert done.code == 1
    assert "no rule about customers" in done.err
