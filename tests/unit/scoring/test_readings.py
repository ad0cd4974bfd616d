"""How events are read, and what a table of readings must be."""

from __future__ import annotations

import copy
import itertools
import tomllib
from importlib import resources
from typing import Any

import numpy as np
import polars as pl
import pytest

from schemas.decode import COLUMNS
from schemas.emotions import CLUSTERS, EMOTIONS, Cluster
from schemas.kinds import FAMILIES, KINDS, OUTCOMES, Family
from schemas.metrics import METRICS
from schemas.tables import DIMENSIONS
from services.scoring.events import mean_valence
from services.scoring.readings import MOST_WEIGHT, Readings, ReadingsError, ReadingTable, parse, read_frame, shipped

TABLE: dict[str, Any] = tomllib.loads((resources.files("services.scoring") / "readings.toml").read_text("utf-8"))
EXPERIENCE = FAMILIES[Family.EXPERIENCE]
ENDED = ("interaction", "complaint_resolved", "follow_up")


def read(*events: dict[str, Any], table: ReadingTable | None = None) -> Readings:
    frame = pl.DataFrame(
        {name: pl.Series(name, [e.get(name) for e in events], dtype=kind) for name, kind in COLUMNS.items()}
    )
    return read_frame(table or shipped(), frame)


def by_hand(event: dict[str, Any]) -> tuple[list[float], list[float]]:
    """Valence and weight per dimension, straight from the file."""
    said: list[tuple[str, float, float]] = []
    kind = event["kind"]
    if kind in EXPERIENCE:
        said += [(d, r["valence"], r["weight"]) for d, r in TABLE["kind"].get(kind, {}).items()]
        special = TABLE["kind_outcome"].get(kind, {})
        outcome = event.get("outcome") or special.get("default_outcome")
        if outcome and kind in ENDED:
            factor = special.get("weight_factor", 1)
            said += [(d, r["valence"], r["weight"] * factor) for d, r in TABLE["outcome"][outcome].items()]
        if event.get("metric") and event.get("rating") is not None:
            metric = TABLE["metric"][event["metric"]]
            points = metric["points"]
            for (x0, y0), (x1, y1) in itertools.pairwise(points):
                if x0 <= event["rating"] <= x1:
                    valence = y0 + (y1 - y0) * (event["rating"] - x0) / (x1 - x0)
            said += [(d, valence, w) for d, w in metric["weight"].items()]
        if event.get("emotion"):
            emotion = TABLE["emotion"]
            strength = event.get("intensity") or emotion["default_intensity"]
            sureness = event.get("confidence") or emotion["default_confidence"]
            said.append(("emotion", emotion["valence"][event["emotion"]] * strength, emotion["weight"] * sureness))
    weights = [sum(w for d, _, w in said if d == dimension) for dimension in DIMENSIONS]
    sums = [sum(v * w for d, v, w in said if d == dimension) for dimension in DIMENSIONS]
    return [s / w if w else 0.0 for s, w in zip(sums, weights, strict=True)], weights


def every_event() -> list[dict[str, Any]]:
    """Every kind with every outcome, extreme rating and emotion, at the ends of intensity and confidence."""
    events: list[dict[str, Any]] = []
    ratings = [(None, None), *((m, r) for m, s in METRICS.items() for r in (s.low, (s.low + s.high) / 2, s.high))]
    for kind, outcome, (metric, rating) in itertools.product(KINDS, (None, *OUTCOMES), ratings):
        events.append({"kind": kind, "outcome": outcome, "metric": metric, "rating": rating})
    strengths = [(None, None), (1.0, 1.0), (0.01, 0.01)]
    for kind, emotion, (intensity, confidence) in itertools.product(KINDS, EMOTIONS, strengths):
        events.append({"kind": kind, "emotion": emotion, "intensity": intensity, "confidence": confidence})
    events.append({"kind": "interaction", "outcome": "failed", "metric": "csat", "rating": 1.0, "emotion": "happy"})
    return events


def test_every_combination_is_read_as_the_file_says() -> None:
    events = every_event()
    readings = read(*events)
    for event, valence, weight in zip(events, readings.valence, readings.weight, strict=True):
        expected_valence, expected_weight = by_hand(event)
        assert valence == pytest.approx(expected_valence, abs=1e-6), event
        assert weight == pytest.approx(expected_weight, abs=1e-6), event
    assert (np.abs(readings.valence) <= 1).all()
    assert (readings.weight >= 0).all()


def test_behaviour_contact_and_reviews_never_enter_a_score() -> None:
    for event, felt in zip(every_event(), read(*every_event()).felt, strict=True):
        if event["kind"] not in EXPERIENCE:
            assert not felt, event


def test_readings_are_single_precision_so_that_the_table_keeps_what_was_folded() -> None:
    readings = read(*every_event())
    for values in (readings.valence, readings.weight):
        assert np.array_equal(values, values.astype(np.float32).astype(np.float64))


def test_nothing_said_is_nothing_felt() -> None:
    readings = read({"kind": "interaction"})
    assert not readings.felt.any()
    assert mean_valence(readings).tolist() == [0.0]


def test_bad_is_stronger_than_good() -> None:
    def move(**event: Any) -> float:
        readings = read(event)
        return float((readings.valence * readings.weight).sum())

    assert -move(kind="interaction", outcome="failed") > move(kind="interaction", outcome="succeeded")
    for metric, scale in METRICS.items():
        worst = move(kind="survey_response", metric=metric, rating=scale.low)
        assert -worst > move(kind="survey_response", metric=metric, rating=scale.high)
    assert -min(TABLE["emotion"]["valence"].values()) > max(TABLE["emotion"]["valence"].values())


def test_better_ratings_never_read_worse() -> None:
    for metric, scale in METRICS.items():
        answers = [
            {"kind": "survey_response", "metric": metric, "rating": float(r)}
            for r in np.linspace(scale.low, scale.high, 41)
        ]
        assert (np.diff(mean_valence(read(*answers))) > 0).all(), metric


def test_clusters_of_emotions_are_read_in_their_order() -> None:
    mean = {cluster: np.mean([TABLE["emotion"]["valence"][e] for e in names]) for cluster, names in CLUSTERS.items()}
    assert list(mean) == list(Cluster)
    assert (np.diff(list(mean.values())) > 0).all()
    assert all(TABLE["emotion"]["valence"][e] < 0 for e in CLUSTERS[Cluster.DESTROYING])


def test_a_complaint_that_ended_weighs_double_and_ends_well_unless_told() -> None:
    silent, told, plain = (
        read({"kind": "complaint_resolved"}),
        read({"kind": "complaint_resolved", "outcome": "succeeded"}),
        read({"kind": "interaction", "outcome": "succeeded"}),
    )
    assert np.array_equal(silent.weight, told.weight)
    assert silent.weight == pytest.approx(2 * plain.weight, rel=1e-6)


def test_no_events_no_readings() -> None:
    readings = read()
    assert readings.valence.shape == readings.weight.shape == (0, len(DIMENSIONS))


def changed(path: str, value: Any) -> dict[str, Any]:
    """The shipped table with one entry replaced, or removed where ``value`` is ..."""
    table = copy.deepcopy(TABLE)
    *parents, last = path.split("/")
    place = table
    for name in parents:
        place = place[name]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return table


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("version", ..., "table lacks version"),
        ("version", "", "version must be a name"),
        ("extra", {}, "table does not know extra"),
        ("kind", ..., "table lacks kind"),
        ("metric", ..., "table lacks metric"),
        ("kind/purchase", {"emotion": {"valence": 1.0, "weight": 1.0}}, "kind does not know purchase"),
        ("kind/incident", 3, "kind.incident must be a table"),
        ("kind/incident/speed", {"valence": 0, "weight": 0}, "kind.incident does not know speed"),
        ("kind/incident/ease/valence", -1.01, r"kind.incident.ease.valence must be a number in -1..1, not -1.01"),
        ("kind/incident/ease/valence", float("nan"), "must be a number"),
        ("kind/incident/ease/valence", "bad", "must be a number"),
        ("kind/incident/ease/valence", True, "must be a number"),
        ("kind/incident/ease/valence", ..., "kind.incident.ease lacks valence"),
        ("kind/incident/ease/weight", -0.1, "kind.incident.ease.weight must be a number in 0..100"),
        ("kind/incident/ease/weight", MOST_WEIGHT * 2, "kind.incident.ease.weight"),
        ("kind/incident/ease/wieght", 1.0, "kind.incident.ease does not know wieght"),
        ("outcome/failed", ..., "outcome lacks failed"),
        ("outcome/lost", {}, "outcome does not know lost"),
        ("kind_outcome/incident", {"weight_factor": 2.0}, "kind_outcome does not know incident"),
        ("kind_outcome/complaint_resolved/default_outcome", "won", "default_outcome must be one of succeeded"),
        ("kind_outcome/complaint_resolved/weight_factor", -2, "weight_factor must be a number"),
        ("metric/nps", ..., "metric lacks nps"),
        ("metric/likes", {}, "metric does not know likes"),
        ("metric/nps/points", [[0, -1], [10, 1.1]], "metric.nps.points must ascend"),
        ("metric/nps/points", [[0, -1], [0, 0], [10, 1]], "metric.nps.points must ascend"),
        ("metric/nps/points", [[0, -1], [9, 1]], "must reach from 0 to 10"),
        ("metric/nps/points", [0, 10], "metric.nps.points must be pairs"),
        ("metric/nps/points", [[0, "x"]], "metric.nps.points must be pairs"),
        ("metric/nps/weight/speed", 1.0, "metric.nps.weight does not know speed"),
        ("metric/nps/weight/emotion", -1.0, "metric.nps.weight.emotion must be a number"),
        ("emotion/valence/bored", 0.1, "emotion.valence does not know bored"),
        ("emotion/valence/happy", ..., "emotion.valence lacks happy"),
        ("emotion/valence/happy", 1.5, "emotion.valence.happy must be a number"),
        ("emotion/weight", -1, "emotion.weight must be a number"),
        ("emotion/default_intensity", 1.5, "emotion.default_intensity must be a number in 0..1"),
        ("emotion/default_confidence", ..., "emotion lacks default_confidence"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_by_name(path: str, value: Any, message: str) -> None:
    with pytest.raises(ReadingsError, match=message):
        parse(changed(path, value))


def test_recovery_is_optional() -> None:
    table = parse(changed("kind_outcome", ...))
    assert not read({"kind": "complaint_resolved"}, table=table).felt.any()
