"""docs/measures.md and docs/risk.md say the numbers that the code has: their tables are read and compared."""

from __future__ import annotations

import itertools
import re
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from markdown_it import MarkdownIt

from schemas.decode import END_US
from schemas.emotions import CLUSTER_OF, EMOTIONS
from schemas.metrics import METRICS
from schemas.state_layout import FLOATS, INTS
from schemas.tables import ACTIVITY_DAYS, DIMENSIONS, RECENT_CASES, RECENT_IDS
from services.scoring.decay import DAY_US, FAST_HALF_LIFE_DAYS, SLOW_HALF_LIFE_DAYS
from services.scoring.events import UNHAPPY
from services.scoring.expressions import Arrays
from services.scoring.fold import MONEY_SIGN
from services.scoring.risk.features import BASE_LIMIT, TERMS
from services.scoring.risk.formula import RHYTHM_EVIDENCE, SURE, risk
from services.scoring.risk.model import DEFAULT, WEIGHT_PARTS
from services.scoring.risk.words import SMALLEST
from services.scoring.score import PRIOR_STRENGTH, PRIOR_VALENCE, score
from services.scoring.step import LIVE_WITHIN_US

DOCS = Path(__file__).parents[2] / "docs"
READINGS: dict[str, Any] = tomllib.loads((resources.files("services.scoring") / "readings.toml").read_text("utf-8"))
Table = list[dict[str, str]]


def tables(name: str) -> list[Table]:
    """The document's tables, each row by its column's title."""
    found: list[Table] = []
    titles: list[str] = []
    cells: list[str] = []
    tokens = MarkdownIt("commonmark").enable("table").parse((DOCS / name).read_text("utf-8"))
    for before, token in itertools.pairwise(tokens):
        match token.type:
            case "table_open":
                found.append([])
            case "tr_open":
                cells = []
            case "inline" if before.type in ("th_open", "td_open"):
                cells.append(token.content.strip())
            case "thead_close":
                titles = cells
            case "tr_close":
                found[-1].append(dict(zip(titles or cells, cells, strict=True)))
            case "table_close":
                found[-1].pop(0)
                titles = []
    return found


def table(name: str, *titles: str) -> Table:
    """The one table that starts with these titles."""
    (one,) = [rows for rows in tables(name) if tuple(rows[0])[: len(titles)] == titles]
    return one


def text(name: str) -> str:
    return " ".join((DOCS / name).read_text("utf-8").split())


def aspects(row: dict[str, str]) -> dict[str, dict[str, float]]:
    said = {}
    for dimension in DIMENSIONS:
        if row[dimension]:
            valence, weight = row[dimension].split(" x ")
            said[dimension] = {"valence": float(valence), "weight": float(weight)}
    return said


def test_dimensions() -> None:
    assert tuple(row["dimension"] for row in table("measures.md", "dimension")) == DIMENSIONS
    assert f"version `{READINGS['version']}`" in text("measures.md")


@pytest.mark.parametrize("what", ["kind", "outcome"])
def test_what_kinds_and_outcomes_say(what: str) -> None:
    rows = table("measures.md", what, *DIMENSIONS)
    assert {row[what]: aspects(row) for row in rows} == READINGS[what]
    assert all(row["why"] for row in rows)


def test_what_ratings_say() -> None:
    rows = table("measures.md", "metric", "rating: valence")
    assert [row["metric"] for row in rows] == list(METRICS)
    for row in rows:
        points = [[float(number) for number in point.split(": ")] for point in row["rating: valence"].split(", ")]
        weights = {name: float(weight) for name, weight in (part.split() for part in row["weight"].split(", "))}
        assert {"points": points, "weight": weights} == READINGS["metric"][row["metric"]]


def test_what_emotions_say() -> None:
    rows = table("measures.md", "emotion", "cluster")
    assert [row["emotion"] for row in rows] == list(EMOTIONS)
    assert {row["emotion"]: row["cluster"] for row in rows} == dict(CLUSTER_OF)
    assert {row["emotion"]: float(row["valence"]) for row in rows} == READINGS["emotion"]["valence"]


def test_numbers_of_the_score() -> None:
    numbers = {row["number"].split(",")[0]: float(row["value"]) for row in table("measures.md", "number", "value")}
    assert numbers == {
        "fast half-life": FAST_HALF_LIFE_DAYS,
        "slow half-life": SLOW_HALF_LIFE_DAYS,
        "prior strength k": PRIOR_STRENGTH,
        "prior valence m": PRIOR_VALENCE,
        "unhappy below": UNHAPPY,
    }


def test_numbers_in_the_text_of_measures() -> None:
    emotion, recovery = READINGS["emotion"], READINGS["kind_outcome"]["complaint_resolved"]
    said = text("measures.md")
    for sentence in (
        f"without an intensity {emotion['default_intensity']} is taken. The weight is {emotion['weight']} times",
        f"confidence, which is {emotion['default_confidence']} where it says nothing",
        f"counts its outcome {recovery['weight_factor']} times, and without an outcome it is taken as "
        f"{recovery['default_outcome']}",
        f"the score is {50 + 50 * PRIOR_VALENCE:g} and confidence 0",
        f"the latest {ACTIVITY_DAYS} distinct UTC days",
        f"the {RECENT_CASES} complaints with the latest news",
        f"the newest {RECENT_IDS} event ids",
        f"after at least {RECENT_IDS} newer events",
        f"received in {1970 + END_US // (365.2425 * DAY_US):.0f} or later",
    ):
        assert sentence in said, sentence
    assert {kind for kind, sign in MONEY_SIGN.items() if sign > 0} == {"purchase", "renewal", "subscription"}
    assert "purchases, renewals and subscriptions minus refunds" in said


def test_parameters_of_the_risk() -> None:
    rows = [row for rows in tables("risk.md") if "parameter" in rows[0] for row in rows]
    said = {row["parameter"]: float(row["default"]) for row in rows}
    weights = table("risk.md", "feature", *WEIGHT_PARTS)
    said |= {f"weights.{row['feature']}.{part}": float(row[part]) for row in weights for part in WEIGHT_PARTS}
    assert said == DEFAULT.parameters()
    assert len(rows) + len(weights) * len(WEIGHT_PARTS) == len(DEFAULT.parameters())
    assert [row["feature"] for row in weights] == list(DEFAULT.weights)


def test_numbers_in_the_text_of_risk() -> None:
    said = text("risk.md")
    for sentence in (
        f"the next {DEFAULT.horizon_days:g} days by default",
        f"those below {SMALLEST} are not said",
        f"The latest {ACTIVITY_DAYS} active days are kept",
        f"(received within {LIVE_WITHIN_US / 3_600_000_000:g} hour after it happened)",
        f"x {RHYTHM_EVIDENCE:g} / ({RHYTHM_EVIDENCE:g} + active days)",
        f"than {SURE:f}",
        f"per open complaint, up to {DEFAULT.weights['open_complaints'].high:g}",
        f"those beyond {DEFAULT.weights['survey_load'].low:g}",
        f"at most {BASE_LIMIT:g} either way",
        f"r / alpha, one visit in {DEFAULT.base.alpha / DEFAULT.base.r:.0f} days",
        f"a / (a + b), {100 * DEFAULT.base.a / (DEFAULT.base.a + DEFAULT.base.b):.0f} %",
        f"never came on record: {100 / (1 + np.exp(-DEFAULT.no_activity_log_odds)):.0f} %",
        f"average + {' + '.join(TERMS)}",
    ):
        assert sentence in said, sentence
    assert DEFAULT.activity_kinds == ("purchase", "renewal", "subscription")
    assert "by default a purchase, a renewal or a subscription" in said


def test_examples_of_the_base_rate() -> None:
    rows = table("risk.md", "active days")
    today, o = 20_000, Arrays()
    columns: dict[str, Any] = {name: np.zeros(len(rows)) for name in (*FLOATS, *INTS)}
    columns["activity_days"] = np.zeros((len(rows), ACTIVITY_DAYS), dtype=np.uint16)
    columns["active_days"] = np.array([float(row["active days"]) for row in rows])
    columns["first_active_day"] = today - np.array([float(row["first, days ago"]) for row in rows])
    columns["last_activity_at"] = (today - np.array([float(row["last, days ago"]) for row in rows])) * DAY_US
    now = np.full(len(rows), float(today * DAY_US))
    found = risk(o, columns, score(o, columns, now), DEFAULT.parameters(), now).risk
    assert [f"{value:.3f}" for value in found] == [row["risk"] for row in rows]


def test_the_claim_about_sizes() -> None:
    """A bad run against an old complaint against a cancellation."""
    slope = {name: weight.slope for name, weight in DEFAULT.weights.items()}
    run = -slope["score"] * 25
    complaint = slope["open_complaints"] + slope["complaint_days"] * np.log(1 + 30)
    assert run == pytest.approx(complaint, abs=0.2)
    assert slope["cancelled"] > run + complaint
    assert re.search(r"score 35\) moves about as much as a month-old", text("risk.md"))
