"""One meaning, two spellings: the SQL of scores, risk, reasons and states says what the arrays say."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest

from infra.clickhouse import events as event_table
from infra.clickhouse import states as state_table
from infra.clickhouse.client import ClickHouse, quoted
from infra.clickhouse.states import StateRows
from schemas.decode import COLUMNS
from schemas.emotions import EMOTIONS
from schemas.kinds import KINDS, OUTCOMES
from schemas.metrics import METRICS
from schemas.state_layout import BANDS, CODES, FLOAT_INDEX, INT_INDEX, PACKED, TIMES, NameList
from schemas.tables import CUSTOMER_STATE, DATABASE, DIMENSIONS, MODELS, TOUCHPOINTS
from services.scoring import as_of
from services.scoring.duplicates import id_keys, remember
from services.scoring.events import prepare
from services.scoring.expressions import Arrays
from services.scoring.judge import assess, grounds
from services.scoring.readings import shipped
from services.scoring.recompute import NOT_RECOMPUTED, RECOMPUTED, recompute_sql
from services.scoring.risk.bands import next_band
from services.scoring.risk.features import FEATURES, TERMS
from services.scoring.risk.formula import LEVERS, Risk
from services.scoring.risk.model import DEFAULT, Base, RiskModel, Weight, Worth
from services.scoring.risk.words import SMALLEST, reasons
from services.scoring.state import States
from services.scoring.step import Scorer, step

VIEWS: Final = Path(__file__).parents[2] / "infra" / "clickhouse" / "views"
DAY_US: Final = 86_400_000_000
START_US: Final = 1_767_225_600_000_000
CUSTOMERS: Final = 2_000
EVENTS: Final = 30_000
PLACES: Final = ("checkout", "delivery", "support.phone", "web.account", "o'brien\\store")
NOWS: Final = {
    "before all": START_US - DAY_US,
    "in the middle": START_US + 150 * DAY_US + 123_456,
    "right after": START_US + 301 * DAY_US,
    "long after": START_US + 4_000 * DAY_US + 1,
}


@pytest.mark.parametrize("name", list(as_of.VIEW_FILES))
def test_committed_views_are_what_the_formulas_say(name: str) -> None:
    remedy = "write the files again: python -m services.scoring.as_of infra/clickhouse/views"
    assert (VIEWS / name).read_text("utf-8") == as_of.VIEW_FILES[name](), remedy


@dataclass
class World:
    """The same events folded into states and standing in the tables."""

    engine: ClickHouse
    states: States
    scorer: Scorer
    reviewed_only: str
    """A customer of whom the log has nothing but a review."""

    @property
    def customers(self) -> list[str]:
        return [customer(i) for i in range(len(self.states))]


def customer(i: int) -> str:
    return f"customer {i}"


def random_events(random: np.random.Generator) -> tuple[pl.DataFrame, npt.NDArray[np.intp]]:
    """Events of all kinds over three hundred days: few customers have many of them, most have few; half are live."""

    def some(values: Any, share: float, kind: Any = None) -> list[Any]:
        drawn = random.choice(np.asarray(values, dtype=kind), EVENTS).tolist()
        return [value if keep else None for value, keep in zip(drawn, random.random(EVENTS) < share, strict=True)]

    rows = np.minimum((CUSTOMERS - 1) * random.random(EVENTS) ** 3, CUSTOMERS - 2).astype(np.intp)
    kinds = random.choice(np.array([*KINDS, *("purchase",) * 9]), EVENTS)
    rows[-1], kinds[-1] = CUSTOMERS - 1, "review_due"
    received = np.sort(START_US + (random.random(EVENTS) * 300 * DAY_US).astype(np.int64))
    lag = (random.random(EVENTS) * 10 * DAY_US).astype(np.int64) * (random.random(EVENTS) < 0.5)
    metric = some(list(METRICS), 0.4)
    rating = [None if m is None else random.uniform(METRICS[m].low, METRICS[m].high) for m in metric]
    values: dict[str, Any] = {
        "event_id": [random.bytes(16) for _ in range(EVENTS)],
        "customer_id": [customer(row) for row in rows.tolist()],
        # Whole hours: some times are equal.
        "occurred_at": np.where(lag > 0, (received - lag) // 3_600_000_000 * 3_600_000_000, received),
        "received_at": received,
        "source": ["test"] * EVENTS,
        "kind": kinds.tolist(),
        "touchpoint": random.choice(np.array(PLACES), EVENTS).tolist(),
        "channel": ["web"] * EVENTS,
        "outcome": some(OUTCOMES, 0.5),
        "metric": metric,
        "rating": rating,
        "emotion": some(EMOTIONS, 0.3),
        "intensity": [float(x) for x in random.uniform(0.01, 1, EVENTS)],
        "amount_micros": some([1, 4_990_000, 25_000_000, 10**12], 0.7),
        "currency": ["EUR"] * EVENTS,
        "case_id": some([f"case {i}" for i in range(8)], 0.8),
        "attributes": [{}] * EVENTS,
    }
    frame = pl.DataFrame(
        {name: pl.Series(name, values.get(name, [None] * EVENTS), dtype=kind) for name, kind in COLUMNS.items()}
    )
    return frame, rows


@pytest.fixture(scope="module")
def world(engine: ClickHouse) -> Iterator[World]:
    frame, rows = random_events(np.random.default_rng(4))
    states, scorer = States.empty(CUSTOMERS), Scorer.of(DEFAULT)
    for start in range(0, EVENTS, 7_000):
        part = np.arange(start, min(start + 7_000, EVENTS))
        order = part[np.argsort(rows[part], kind="stable")]
        batch, row, offsets = frame[order], rows[order], order.astype(np.int64)
        remember(states, row, id_keys(batch.get_column("event_id"), batch.get_column("occurred_at").to_numpy()))
        prepared = prepare(batch, row, offsets, shipped(), scorer.touchpoints)
        step(states, prepared, scorer)
        readings = prepared.readings
        args = (readings.valence.astype(np.float32), readings.weight.astype(np.float32), 0, offsets)
        event_table.write_events(engine, batch, *args)
        # Redelivered: written a second time, in other parts.
        event_table.write_events(engine, batch[:50], args[0][:50], args[1][:50], 0, offsets[:50])
    lists = {NameList.TOUCHPOINTS: scorer.touchpoints.names, NameList.MODELS: scorer.models.names}
    names = [customer(i) for i in range(CUSTOMERS)]
    packed = (states.activity_days, states.cases, states.recent_ids)
    state_table.save(engine, StateRows(names, states.floats, states.ints, *packed, *lists.values()))
    activated = datetime(2026, 1, 1, tzinfo=UTC)
    engine.insert_rows(MODELS.name, MODELS.names, [(DEFAULT.version, activated, DEFAULT.to_json(), "")])
    yield World(engine, states, scorer, customer(CUSTOMERS - 1))
    for table in (TOUCHPOINTS, CUSTOMER_STATE, MODELS):
        engine.query(f"TRUNCATE TABLE {DATABASE}.{table.name}")


EVERYTHING: Final = RiskModel(
    version="everything",
    horizon_days=45.0,
    no_activity_log_odds=0.3,
    base=Base("bg", r=0.8, alpha=30.0, a=0.9, b=3.0),
    base_mean=0.7,
    base_slope=-0.2,
    intercept=0.1,
    weights={
        name: Weight(0.3 * (-1) ** i + 0.001 * i, 0.4, -4.0, 80.0 if name == "score" else 6.0)
        for i, name in enumerate(FEATURES)
    },
    worth=Worth(p=3.0, q=4.0, gamma=60.0),
)
"""A model as it may be learnt, with every feature in it."""


@pytest.mark.stack
@pytest.mark.parametrize("model", [DEFAULT, EVERYTHING], ids=lambda model: model.version)
@pytest.mark.parametrize("moment", list(NOWS))
def test_scores_risk_and_reasons_as_of_any_moment(world: World, moment: str, model: RiskModel) -> None:
    now_us = NOWS[moment]
    score, risk = assess(world.states, np.full(CUSTOMERS, now_us), model)
    band, since = (world.states.ints[:, INT_INDEX[name]] for name in ("band", "band_since"))
    bands = next_band(Arrays(), band, since, risk.risk, np.full(CUSTOMERS, now_us), model.parameters())
    numbers: dict[str, Any] = {
        "score": score.overall,
        **score.dimensions,
        "fast_score": score.fast,
        "trend": score.trend,
        "confidence": score.confidence,
        "volatility": score.volatility,
        "worst": score.worst,
        "risk": risk.risk,
        "risk_confidence": risk.confidence,
        "log_odds": risk.log_odds,
        "expected_spend": risk.expected_spend,
        "value_at_risk": risk.value_at_risk,
        "band_code": bands,
        **{name: risk.facts[name] for name in ("complaint_hours", "feedback_hours", "silence_days", "usual_gap_days")},
        **{f"because_{name}": values for name, values in risk.contributions.items()},
    }
    now = f"toFloat64({now_us})"
    _, known = as_of.as_of(now)
    assert set(known) == {*numbers, "reasons", "levers"}, "every column of the SQL is compared"
    asked = {"customer_id": "s_customer_id"} | {f"got_{name}": expression for name, expression in known.items()}
    got = _in_order(world, world.engine.frame(as_of.select(asked, now, model=quoted([model.to_json()]))))
    for name, expected in numbers.items():
        found = got.get_column(f"got_{name}").cast(pl.Float64).to_numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9, err_msg=name)
    at_us = np.full(CUSTOMERS, now_us)
    ours = reasons(grounds(world.states, np.arange(CUSTOMERS), at_us, score, risk, model, world.scorer.touchpoints))
    assert got.get_column("got_reasons").list.len().equals(ours.list.len(), check_names=False)
    ours, told = (said.explode(empty_as_null=False).struct.unnest() for said in (ours, got.get_column("got_reasons")))
    assert told.get_column("reason").equals(ours.get_column("reason"), check_names=False)
    np.testing.assert_allclose(told.get_column("log_odds"), ours.get_column("log_odds"), rtol=1e-9)
    for row, found in zip(_levers(risk), got.get_column("got_levers").to_list(), strict=True):
        assert [lever["action"] for lever in found] == [action for action, _ in row]
        np.testing.assert_allclose([lever["risk"] for lever in found], [chance for _, chance in row], rtol=1e-9)
    if moment == "right after":
        assert set(bands.tolist()) == {0, 1, 2} or model is EVERYTHING, "the states are worth comparing"
        wanted = risk.contributions if model is EVERYTHING else DEFAULT_TERMS
        assert all((np.abs(risk.contributions[name]) > 0.05).any() for name in wanted)


DEFAULT_TERMS: Final = tuple(term for term, names in TERMS.items() if any(DEFAULT.weights[n].slope for n in names))


def _levers(risk: Risk) -> list[list[tuple[str, float]]]:
    """Per customer what would lower the risk and to how much, most first."""
    rows = []
    for i in range(CUSTOMERS):
        relief = {action: float(np.asarray(risk.relief[term])[i]) for term, action in LEVERS.items()}
        said = sorted((-log_odds, action) for action, log_odds in relief.items() if log_odds >= SMALLEST)
        rows.append([(action, 1 / (1 + math.exp(-(float(risk.log_odds[i]) + less)))) for less, action in said])
    return rows


def _in_order(world: World, frame: pl.DataFrame) -> pl.DataFrame:
    assert frame.height == CUSTOMERS
    return pl.DataFrame({"customer_id": world.customers}).join(frame, on="customer_id", maintain_order="left")


@pytest.mark.stack
def test_the_view_is_the_query_as_of_now(world: World) -> None:
    before_us = _now_us()
    shown = world.engine.frame(f"SELECT * FROM {DATABASE}.customer_scores ORDER BY customer_id")
    after_us = _now_us()
    assert shown.height == CUSTOMERS
    shown = _in_order(world, shown)
    at = [assess(world.states, np.full(CUSTOMERS, us), DEFAULT) for us in (before_us, after_us)]
    for name, one, other in (
        ("score", at[0][0].overall, at[1][0].overall),
        ("risk", at[0][1].risk, at[1][1].risk),
        ("value_at_risk", at[0][1].value_at_risk, at[1][1].value_at_risk),
    ):
        found = shown.get_column(name).to_numpy()
        assert (found >= np.minimum(one, other) - 1e-9 * (1 + np.abs(one))).all(), name
        assert (found <= np.maximum(one, other) + 1e-9 * (1 + np.abs(one))).all(), name
    assert set(shown.get_column("risk_band").unique()) <= set(BANDS)
    assert shown.get_column("events").to_list() == world.states.ints[:, INT_INDEX["events"]].tolist()
    spend = world.states.ints[:, INT_INDEX["spend_micros"]] / 1e6
    np.testing.assert_allclose(shown.get_column("spend").to_numpy(), spend, rtol=1e-12)


def _now_us() -> int:
    return (datetime.now(UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


@pytest.mark.stack
def test_crossings_are_the_customers_whose_band_is_another_as_of_now(world: World) -> None:
    now_us = NOWS["long after"]
    _, risk = assess(world.states, np.full(CUSTOMERS, now_us), DEFAULT)
    band, since = (world.states.ints[:, INT_INDEX[name]] for name in ("band", "band_since"))
    bands = next_band(Arrays(), band, since, risk.risk, np.full(CUSTOMERS, now_us), DEFAULT.parameters())
    offsets = world.states.ints[:, INT_INDEX["log_offset"]]
    expected = {(customer(i), 0, int(offsets[i])) for i in np.flatnonzero(bands != band).tolist()}
    now = f"toFloat64({now_us})"
    assert set(world.engine.query(as_of.crossing_sql((0, 3), 10_000, now))) == expected
    assert expected
    assert len(world.engine.query(as_of.crossing_sql((0,), 7, now))) == 7
    assert world.engine.query(as_of.crossing_sql((1, 2), 10, now)) == []


@pytest.mark.stack
def test_states_recomputed_by_one_query_are_the_folded_ones(world: World) -> None:
    got = world.engine.frame(recompute_sql(DEFAULT.activity_kinds))
    assert tuple(got.columns) == tuple(column.name for column in RECOMPUTED)
    assert set(got.columns) | NOT_RECOMPUTED == set(CUSTOMER_STATE.names)
    assert world.reviewed_only not in got.get_column("customer_id")
    rows = np.flatnonzero(world.states.ints[:, INT_INDEX["events"]] > 0)
    expected = pl.DataFrame({"customer_id": [customer(i) for i in rows.tolist()], "row": rows})
    assert got.height == len(rows)
    got = expected.join(got, on="customer_id", maintain_order="left")
    states = world.states.take(rows)
    for name in got.columns[2:]:
        column = got.get_column(name)
        if name in FLOAT_INDEX:
            found, folded = column.to_numpy(), states.floats[:, FLOAT_INDEX[name]]
            np.testing.assert_allclose(found, folded, rtol=1e-9, atol=_scale(states, name), err_msg=name)
        elif name in PACKED:
            matrix = np.frombuffer(b"".join(column.to_list()), dtype=PACKED[name].dtype)
            assert np.array_equal(matrix.reshape(len(rows), -1), getattr(states, name)), name
        elif name in CODES:
            codes = states.ints[:, INT_INDEX[name]].tolist()
            assert column.cast(pl.String).to_list() == world.scorer.touchpoints.of(codes), name
        else:
            plain = column.dt.epoch("us") if name in TIMES else column
            assert plain.to_list() == states.ints[:, INT_INDEX[name]].tolist(), name
    assert states.ints[:, INT_INDEX["active_days"]].max() == 32, "the states are worth comparing"
    assert states.cases[:, 0].max() > 0


def _scale(states: States, name: str) -> float:
    """Absolute tolerance: sums of both signs are as exact as their terms."""
    return 1e-9 * 1e6 * 40 if name.startswith("spend") else 1e-9


@pytest.mark.stack
def test_a_prefix_of_the_log_can_be_recomputed(world: World) -> None:
    early = world.engine.frame(recompute_sql(DEFAULT.activity_kinds, where="log_partition = 0 AND log_offset < 100"))
    assert 1 <= early.get_column("events").sum() <= 100
    assert world.engine.frame(recompute_sql(DEFAULT.activity_kinds, where="log_partition = 9")).height == 0


@pytest.mark.stack
def test_readings_are_stored_as_they_were_folded(world: World) -> None:
    weights = " + ".join(f"{dimension}_weight" for dimension in DIMENSIONS)
    ((felt,),) = world.engine.query(
        f"SELECT countIf({weights} > 0) FROM {DATABASE}.{TOUCHPOINTS.name} FINAL WHERE kind != 'review_due'"
    )
    assert felt == world.states.ints[:, INT_INDEX["felt"]].sum()


def test_names_of_the_query_hide_no_column() -> None:
    """ClickHouse prefers an alias over a column of the same name, silently."""
    state = {f"s_{name}" for name in CUSTOMER_STATE.names}
    frame, _ = as_of.as_of()
    aliases = {word.split(" AS ")[-1].strip(",") for word in frame.split("\nSELECT")[0].splitlines() if " AS " in word}
    assert not aliases & (state | set(CUSTOMER_STATE.names))
    for one, other in itertools.combinations(sorted(aliases), 2):
        assert one != other
